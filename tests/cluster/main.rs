//! The cluster as its users meet it: real processes, real UDP, real files and browsers, processes killed with SIGKILL.

mod access;
mod bad_input;
mod browsers;
mod console;
mod coordinators;
mod dev;
mod etcd;
mod examples;
mod failover;
mod files;
mod firefox;
mod peers;
mod revoked;
mod support;
