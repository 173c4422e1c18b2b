//! The SDK as an app sees it, over real sockets, against a coordinator and nodes that do as they are told.

mod app;
mod coordinator;
mod death;
mod node;
mod pulse;
mod refusing;
