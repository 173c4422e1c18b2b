//! Waystation's wire: protobuf, generated gRPC, and the domain types behind them.
//!
//! This crate is the one door from wire types to domain types: whatever arrives as [`v1`] passes a `TryFrom`
//! here before anything else looks at it. It knows no runtime, no store and no socket.

mod claim;
mod code;
mod ids;
mod meeting;
mod node;
mod refusal;
pub mod token;

pub use claim::Claim;
pub use code::ErrorCode;
pub use ids::{IdError, KeyId, LoginId, NodeId, RoomId, SessionId, StreamId, StreamKey, UserId};
pub use meeting::{MEETING_NODES, meeting_order};
pub use node::{Health, Load, Node, NodeError, NodeRef};
pub use refusal::{CODE_METADATA, Refusal};

/// Generated types of package `waystation.v1`.
#[allow(missing_docs, clippy::all, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("waystation.v1");
}

/// Descriptors of package `waystation.v1`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("waystation_descriptor");
