//! Nodes as the domain knows them.

use std::{fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{IdError, NodeId, v1};

/// One life of a relay: a restarted relay is another incarnation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeRef {
    /// Which relay.
    pub id: NodeId,
    /// Unix milliseconds of the process's start; later lives compare higher.
    pub incarnation: u64,
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.id, self.incarnation)
    }
}

/// What a coordinator thinks of a node. Ordered: the better state is the lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Beats arrive.
    Healthy,
    /// Beats are missing or its stream broke. Nobody leaves a working session for this word.
    Suspect,
}

/// What a node carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Load {
    /// CPU of the busiest worker, 0 to 1000.
    pub busy_permille: u32,
    /// Publishing sessions.
    pub publishers: u32,
    /// Playing sessions.
    pub players: u32,
    /// Media sent.
    pub out_bits_per_second: u64,
}

/// A relay as clients and other relays see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    /// Which life of which relay.
    pub node: NodeRef,
    /// Base address of WHIP, WHEP and the event connection, without a slash at its end.
    pub http_url: String,
    /// Address of the link service, for relays.
    pub link_url: String,
    /// The one media port.
    pub media_addr: SocketAddr,
    /// Where it stands; empty if not configured.
    pub region: String,
    /// What a coordinator thinks of it.
    pub health: Health,
    /// What it carries.
    pub load: Load,
}

/// A node description that cannot be taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NodeError {
    /// Its id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A field that must be there is not.
    #[error("node description lacks its {0}")]
    Missing(&'static str),
    /// An address of another form than `http://host[:port]` or `https://…`.
    #[error("node address {0:?} is not of the form http://host:port")]
    Url(String),
    /// A media address that is not `ip:port`.
    #[error("media address {0:?} is not of the form ip:port")]
    MediaAddr(String),
}

impl TryFrom<v1::NodeRef> for NodeRef {
    type Error = NodeError;
    fn try_from(wire: v1::NodeRef) -> Result<Self, NodeError> {
        Ok(Self { id: NodeId::new(&wire.id)?, incarnation: wire.incarnation })
    }
}

impl From<&NodeRef> for v1::NodeRef {
    fn from(node: &NodeRef) -> Self {
        Self { id: node.id.to_string(), incarnation: node.incarnation }
    }
}

fn url(text: String) -> Result<String, NodeError> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.trim_end_matches('/').is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        Some(_) | None => Err(NodeError::Url(text)),
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = NodeError;
    fn try_from(wire: v1::Node) -> Result<Self, NodeError> {
        let health = match wire.health() {
            v1::NodeHealth::Suspect => Health::Suspect,
            v1::NodeHealth::Unspecified | v1::NodeHealth::Healthy => Health::Healthy,
        };
        let media_addr = wire.media_addr.parse().map_err(|_| NodeError::MediaAddr(wire.media_addr))?;
        Ok(Self {
            node: wire.r#ref.ok_or(NodeError::Missing("ref"))?.try_into()?,
            http_url: url(wire.http_url)?,
            link_url: url(wire.link_url)?,
            media_addr,
            region: wire.region,
            health,
            load: wire.load.unwrap_or_default().into(),
        })
    }
}

impl From<&Node> for v1::Node {
    fn from(node: &Node) -> Self {
        let health = match node.health {
            Health::Healthy => v1::NodeHealth::Healthy,
            Health::Suspect => v1::NodeHealth::Suspect,
        };
        Self {
            r#ref: Some((&node.node).into()),
            http_url: node.http_url.clone(),
            link_url: node.link_url.clone(),
            media_addr: node.media_addr.to_string(),
            region: node.region.clone(),
            health: health.into(),
            load: Some(node.load.into()),
        }
    }
}

impl From<v1::NodeLoad> for Load {
    fn from(wire: v1::NodeLoad) -> Self {
        Self {
            busy_permille: wire.busy_permille.min(1000),
            publishers: wire.publishers,
            players: wire.players,
            out_bits_per_second: wire.out_bits_per_second,
        }
    }
}

impl From<Load> for v1::NodeLoad {
    fn from(load: Load) -> Self {
        Self {
            busy_permille: load.busy_permille,
            publishers: load.publishers,
            players: load.players,
            out_bits_per_second: load.out_bits_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, Load, Node, NodeError, NodeRef};
    use crate::{NodeId, v1};

    #[test]
    fn a_node_survives_the_wire() {
        let node = Node {
            node: NodeRef { id: NodeId::new("relay-1").unwrap(), incarnation: 7 },
            http_url: "http://127.0.0.1:8080".into(),
            link_url: "http://127.0.0.1:8081".into(),
            media_addr: "127.0.0.1:7000".parse().unwrap(),
            region: "zrh".into(),
            health: Health::Suspect,
            load: Load { busy_permille: 500, publishers: 1, players: 2, out_bits_per_second: 3 },
        };
        assert_eq!(Node::try_from(v1::Node::from(&node)).as_ref(), Ok(&node));
        let broken = v1::Node { media_addr: "nowhere".into(), ..(&node).into() };
        assert_eq!(Node::try_from(broken), Err(NodeError::MediaAddr("nowhere".into())));
        let broken = v1::Node { http_url: "ftp://x".into(), ..(&node).into() };
        assert_eq!(Node::try_from(broken), Err(NodeError::Url("ftp://x".into())));
    }
}
