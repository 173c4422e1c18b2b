//! What a relay is told at its start.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use waystation_proto::{IdError, NodeId};

use crate::plane::DtlsRole;

/// Shortest cluster secret: HS256 wants a key as long as its hash (RFC 7518 §3.2), this is the least that we take.
pub const MIN_SECRET_BYTES: usize = 16;

/// A relay's configuration.
#[derive(Clone)]
pub struct Config {
    /// Its id, unique in the cluster; the same after a restart.
    pub id: String,
    /// Where it stands; empty if that plays no part.
    pub region: String,
    /// Address of WHIP, WHEP and the event connection; port 0 lets the system choose.
    pub http_listen: SocketAddr,
    /// Base address that clients use, if it is not that of `http_listen`.
    pub http_url: Option<String>,
    /// Address of the link service; port 0 lets the system choose.
    pub link_listen: SocketAddr,
    /// Base address that other relays use, if it is not that of `link_listen`.
    pub link_url: Option<String>,
    /// Address of the one media port; port 0 lets the system choose.
    pub media_listen: SocketAddr,
    /// IP address that clients and relays send media to, if it is not that of `media_listen`.
    pub media_advertise: Option<IpAddr>,
    /// Base addresses of coordinators.
    pub coordinators: Vec<String>,
    /// The secret that the cluster's processes share.
    pub cluster_secret: String,
    /// Worker threads; 0 is one per core.
    pub workers: usize,
    /// Whether to use UDP generic segmentation offload where the system has it.
    pub gso: bool,
    /// A session ends when nothing is heard from its client for this long.
    pub session_timeout: Duration,
    /// Most sessions taken per second.
    pub admissions_per_second: u32,
    /// Our side of DTLS where one of our SDKs leaves the choice; of other clients we are always the server, which
    /// chooses the SRTP profile.
    pub dtls_role: DtlsRole,
    /// Where Chromium's bandwidth estimate starts, in kbit/s; 0 leaves it alone.
    pub start_kbit_per_second: u32,
    /// Whether a token may stand in the address, as `?access_token=`, for clients that can set no header.
    pub query_tokens: bool,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Self {
            id: String::new(),
            region: String::new(),
            http_listen: SocketAddr::new(loopback, 8080),
            http_url: None,
            link_listen: SocketAddr::new(loopback, 8081),
            link_url: None,
            media_listen: SocketAddr::new(loopback, 7000),
            media_advertise: None,
            coordinators: Vec::new(),
            cluster_secret: String::new(),
            workers: 0,
            gso: true,
            session_timeout: Duration::from_secs(15),
            admissions_per_second: 200,
            dtls_role: DtlsRole::Client,
            start_kbit_per_second: 1_000,
            query_tokens: false,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("id", &self.id)
            .field("http_listen", &self.http_listen)
            .field("link_listen", &self.link_listen)
            .field("media_listen", &self.media_listen)
            .field("coordinators", &self.coordinators)
            .finish_non_exhaustive()
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The id.
    #[error("--id {id:?} cannot be used: {source}")]
    Id {
        /// What was given.
        id: String,
        /// What is wrong.
        source: IdError,
    },
    /// A listening address that says nothing about where others find it.
    #[error("{listen} {addr} listens on every address: say with {advertise} where others find this relay")]
    Unspecified {
        /// The flag of the listening address.
        listen: &'static str,
        /// Its value.
        addr: SocketAddr,
        /// The flag that is missing.
        advertise: &'static str,
    },
    /// An address that is not a base address.
    #[error("{flag} {url:?} is not of the form http://host:port or https://host:port")]
    Url {
        /// Which flag.
        flag: &'static str,
        /// Its value.
        url: String,
    },
    /// An IP address that nobody can send to.
    #[error("--media-advertise {0} is no address that others can send to")]
    Advertise(IpAddr),
    /// No coordinator.
    #[error("no coordinator is given: name at least one with --coordinators http://host:port")]
    NoCoordinator,
    /// The secret.
    #[error("the cluster secret has {bytes} bytes, it needs at least {MIN_SECRET_BYTES}")]
    Secret {
        /// Its length.
        bytes: usize,
    },
    /// A limit under which nothing works.
    #[error("{flag} must be more than 0")]
    Zero {
        /// Which flag.
        flag: &'static str,
    },
}

impl Config {
    /// Checks everything that can be checked before anything is opened, and gives the id.
    ///
    /// # Errors
    /// [`ConfigError`] names the flag and what is wrong with its value.
    pub fn check(&self) -> Result<NodeId, ConfigError> {
        let bad_id = |source| ConfigError::Id { id: self.id.clone(), source };
        let id = NodeId::new(&self.id).map_err(bad_id)?;
        findable("--http-listen", self.http_listen, "--http-url", self.http_url.is_some())?;
        findable("--link-listen", self.link_listen, "--link-url", self.link_url.is_some())?;
        findable("--media-listen", self.media_listen, "--media-advertise", self.media_advertise.is_some())?;
        if let Some(ip) = self.media_advertise.filter(|ip| ip.is_unspecified() || ip.is_multicast()) {
            return Err(ConfigError::Advertise(ip));
        }
        let urls = self.http_url.iter().map(|url| ("--http-url", url));
        let urls = urls.chain(self.link_url.iter().map(|url| ("--link-url", url)));
        for (flag, url) in urls.chain(self.coordinators.iter().map(|url| ("--coordinators", url))) {
            if !is_base_url(url) {
                return Err(ConfigError::Url { flag, url: url.clone() });
            }
        }
        if self.coordinators.is_empty() {
            return Err(ConfigError::NoCoordinator);
        }
        if self.cluster_secret.len() < MIN_SECRET_BYTES {
            return Err(ConfigError::Secret { bytes: self.cluster_secret.len() });
        }
        if self.admissions_per_second == 0 {
            return Err(ConfigError::Zero { flag: "--admissions-per-second" });
        }
        if self.session_timeout.is_zero() {
            return Err(ConfigError::Zero { flag: "--session-timeout" });
        }
        Ok(id)
    }
}

fn findable(
    listen: &'static str,
    addr: SocketAddr,
    advertise: &'static str,
    advertised: bool,
) -> Result<(), ConfigError> {
    if addr.ip().is_unspecified() && !advertised {
        return Err(ConfigError::Unspecified { listen, addr, advertise });
    }
    Ok(())
}

fn is_base_url(url: &str) -> bool {
    url.parse::<axum::http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::{Config, ConfigError};

    fn good() -> Config {
        Config {
            id: "relay-1".into(),
            coordinators: vec!["http://127.0.0.1:7070".into()],
            cluster_secret: "0123456789abcdef".into(),
            ..Config::default()
        }
    }

    #[test]
    fn each_mistake_is_named_with_its_flag() {
        assert!(good().check().is_ok());
        let mistakes = [
            (Config { id: "a/b".into(), ..good() }, "--id"),
            (Config { http_listen: "0.0.0.0:8080".parse().unwrap(), ..good() }, "--http-url"),
            (Config { link_listen: "[::]:8081".parse().unwrap(), ..good() }, "--link-url"),
            (Config { media_listen: "0.0.0.0:0".parse().unwrap(), ..good() }, "--media-advertise"),
            (Config { media_advertise: Some("0.0.0.0".parse().unwrap()), ..good() }, "--media-advertise"),
            (Config { http_url: Some("ftp://x".into()), ..good() }, "--http-url"),
            (Config { coordinators: vec!["localhost:7070".into()], ..good() }, "--coordinators"),
            (Config { coordinators: Vec::new(), ..good() }, "--coordinators"),
            (Config { cluster_secret: "short".into(), ..good() }, "16"),
            (Config { admissions_per_second: 0, ..good() }, "--admissions-per-second"),
            (Config { session_timeout: std::time::Duration::ZERO, ..good() }, "--session-timeout"),
        ];
        for (config, named) in mistakes {
            let error = config.check().unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn every_address_is_enough_when_it_is_said_where_the_relay_is_found() {
        let config = Config {
            http_listen: "0.0.0.0:8080".parse().unwrap(),
            http_url: Some("http://relay-1.example:8080".into()),
            media_listen: "0.0.0.0:7000".parse().unwrap(),
            media_advertise: Some("192.0.2.7".parse().unwrap()),
            ..good()
        };
        assert!(config.check().is_ok());
    }

    #[test]
    fn the_secret_is_not_printed() {
        let config = good();
        assert!(!format!("{config:?}").contains(&config.cluster_secret));
        assert_eq!(
            Config { cluster_secret: String::new(), ..good() }.check(),
            Err(ConfigError::Secret { bytes: 0 })
        );
    }
}
