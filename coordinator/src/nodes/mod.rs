//! Relays: attached, beating, suspect, gone.

mod attach;
mod table;

pub use self::{
    attach::Nodes,
    table::{Table, Wanted},
};
