//! Waystation's Rust client: rooms, publishers and players that walk the node list on their own.
//!
//! An [`Engine`] is one client of a cluster. It logs in to rooms at any coordinator, and each of its publishers and
//! players walks the ordered node list by itself when a node dies, is full, or falls silent. The app hands in encoded
//! frames, Opus packets or RTP, takes the same out, and hears of everything as [`Event`]s.
//!
//! `docs/rust-sdk.md` in the repository tells it from the start; whole programs are in `client/examples/`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use waystation_client::{
//!     AudioTrack, Engine, EngineConfig, Kind, PlayConfig, PublishConfig, RoomLogin, Sample, StreamKey,
//! };
//!
//! let (engine, mut events) = Engine::start(EngineConfig::new(vec!["http://127.0.0.1:7400".into()]))?;
//! let token = std::env::var("TOKEN")?;
//! engine.login_room(RoomLogin { room: "demo".parse()?, token, notify_users: true }).await?;
//!
//! let voice = StreamKey { room: "demo".parse()?, stream: "voice".parse()? };
//! let audio = Some(AudioTrack);
//! let publisher = engine.start_publishing(voice, PublishConfig { audio, video: None }).await?;
//! let packet = Sample { data: vec![0xf8, 0xff, 0xfe].into(), timestamp: Duration::ZERO };
//! publisher.write_sample(Kind::Audio, packet)?;
//!
//! let camera = StreamKey { room: "demo".parse()?, stream: "camera".parse()? };
//! let mut player = engine.start_playing(camera, PlayConfig::default()).await?;
//! while let Some(sample) = player.recv_sample().await {
//!     println!("{} bytes of {}", sample.data.len(), sample.codec);
//!     while let Ok(event) = tokio::time::timeout(Duration::ZERO, events.recv()).await {
//!         println!("{event:?}");
//!     }
//! }
//! engine.close().await;
//! # Ok(())
//! # }
//! ```

mod config;
mod engine;
mod events;
mod http;
pub mod machine;
mod media;
mod peer;
mod player;
mod publisher;
mod rpc;
#[cfg(test)]
mod vacant;

pub use config::{AudioTrack, EngineConfig, Hedging, PlayConfig, PublishConfig, RoomLogin, VideoTrack};
pub use engine::{Engine, EngineClosed, Events, StartError, StartPlayingError, StartPublishingError};
pub use machine::{
    AttemptEvent, Change, Event, Failure, GapEvent, Outcome, PlayerState, PlayerStateUpdate, PublisherState,
    PublisherStateUpdate, RoomState, RoomStateUpdate, RoomStreamUpdate, RoomUserUpdate, StreamEntry,
    UserEntry,
};
pub use media::{Codec, Kind, ReceivedSample, RtpPacket, Sample, UnknownVideoCodec, VideoCodec, WriteError};
pub use player::{Player, PlayerStats};
pub use publisher::{Publisher, Written};
pub use waystation_proto::{
    ErrorCode, IdError, NodeId, NodeRef, RoomId, SessionId, StreamId, StreamKey, UserId,
};
