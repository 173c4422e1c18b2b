//! What an app may set: for the engine, a login, a publisher and a player.

use std::time::Duration;

use waystation_proto::RoomId;

use crate::media::VideoCodec;

/// Whether a silent node is met with a second session to another one before it is given up (GO-2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hedging {
    /// A second session starts when nothing was heard for 300 ms.
    #[default]
    On,
    /// A node is left only when its session has failed.
    Off,
}

/// What an [`Engine`](crate::Engine) starts with. `EngineConfig::new` fills in the defaults.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Addresses of coordinators, such as `http://10.0.0.5:7400`; the engine learns of the others from them.
    pub coordinators: Vec<String>,
    /// Where this client stands; nodes of the same region come first. Empty if unknown.
    pub region: String,
    /// How long a lost room is tried again; zero is never (ROOM-6).
    pub room_retry_time: Duration,
    /// How long an interrupted publisher or player is tried again; zero is never (PUB-4, PLAY-4).
    pub av_retry_time: Duration,
    /// Rooms at a time (ROOM-12).
    pub max_rooms: usize,
    /// What is done about a silent node.
    pub hedging: Hedging,
}

impl EngineConfig {
    /// The defaults, with these coordinators.
    #[must_use]
    pub fn new(coordinators: Vec<String>) -> Self {
        Self {
            coordinators,
            region: String::new(),
            room_retry_time: Duration::from_secs(20 * 60),
            av_retry_time: Duration::from_secs(300),
            max_rooms: 5,
            hedging: Hedging::On,
        }
    }
}

/// A login to one room.
#[derive(Clone, Debug)]
pub struct RoomLogin {
    /// The room.
    pub room: RoomId,
    /// The user token that the app's server signed; it names the user.
    pub token: String,
    /// Whether the other users' comings and goings are wanted as events (ROOM-11).
    pub notify_users: bool,
}

/// An Opus track to publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioTrack;

/// A video track to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoTrack {
    /// What the app encodes with.
    pub codec: VideoCodec,
}

/// What a publisher sends. At least one track must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishConfig {
    /// Audio, always Opus.
    pub audio: Option<AudioTrack>,
    /// Video.
    pub video: Option<VideoTrack>,
}

/// What a player takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayConfig {
    /// Whether audio is wanted.
    pub audio: bool,
    /// Video codecs that the app can take, the preferred one first; empty for no video.
    pub video: Vec<VideoCodec>,
    /// How long [`Player::recv_sample`](crate::Player::recv_sample) waits for a packet that is missing or late,
    /// before it goes on without it.
    pub patience: Duration,
}

impl Default for PlayConfig {
    fn default() -> Self {
        Self { audio: true, video: VideoCodec::ALL.to_vec(), patience: Duration::from_millis(200) }
    }
}
