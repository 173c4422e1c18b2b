//! Streams: who publishes, where it is taken, and where others find it.

mod claims;
mod exchange;
mod origins;
mod plans;

pub use self::{
    claims::Said,
    exchange::exchange,
    origins::{hold_again, origin_down, origin_up, raise_epochs, users_heard},
    plans::{Where, end, end_unheard, ended, failed, plan_play, plan_publish, token_valid_ms},
};
