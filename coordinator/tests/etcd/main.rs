//! What every store must do, on each store; and the store in etcd, over real etcd processes that die, freeze, forget and
//! refuse.

mod cluster;
mod conformance;
mod failover;
mod life;
mod load;
mod security;
#[path = "../../../tests/cluster/support/stopwatch.rs"]
mod stopwatch;
mod store;
