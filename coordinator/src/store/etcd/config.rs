//! How the store is reached: members' addresses, TLS, user. Checked before anything is dialled.

use std::fmt;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use thiserror::Error;
use tonic::transport::Uri;

use super::{CONNECT_WITHIN, KEEPALIVE};

/// Where etcd is and who we are to it.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Base addresses of members, such as `http://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// What the store's own key begins with: the same as all keys of the coordinator.
    pub prefix: String,
    /// User and password.
    pub user: Option<EtcdUser>,
    /// TLS, for `https` addresses.
    pub tls: EtcdTls,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
}

/// Certificates, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who may sign the members' certificates; without it, the public authorities may.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|user| &user.name);
        let mut fields = f.debug_struct("EtcdConfig");
        fields.field("endpoints", &self.endpoints).field("prefix", &self.prefix).field("user", &user);
        fields.finish_non_exhaustive()
    }
}

/// Settings with which etcd cannot be reached.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EtcdConfigError {
    /// Nobody to ask.
    #[error("no etcd member is named; give at least one address, such as http://127.0.0.1:2379")]
    NoEndpoint,
    /// An address that is none.
    #[error(
        "{0:?} is no address of an etcd member; give http:// or https://, host and port, such as \
         http://127.0.0.1:2379"
    )]
    BadEndpoint(String),
    /// An address twice.
    #[error("the etcd member {0} is named twice")]
    Twice(String),
    /// Some members with TLS and some without.
    #[error("{0} is http, but certificates for etcd are set; use https for all members, or no certificates")]
    PlainWithTls(String),
}

impl EtcdConfig {
    /// Members at these addresses, without TLS and user.
    #[must_use]
    pub fn new(endpoints: Vec<String>, prefix: String) -> Self {
        Self { endpoints, prefix, user: None, tls: EtcdTls::default() }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// [`EtcdConfigError`] says what to change.
    pub fn check(&self) -> Result<(), EtcdConfigError> {
        if self.endpoints.is_empty() {
            return Err(EtcdConfigError::NoEndpoint);
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let bad = || EtcdConfigError::BadEndpoint(endpoint.clone());
            let uri: Uri = endpoint.parse().map_err(|_| bad())?;
            let plain = match uri.scheme_str() {
                Some("http") => true,
                Some("https") => false,
                Some(_) | None => return Err(bad()),
            };
            if uri.port().is_none() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
                return Err(bad());
            }
            if plain && (self.tls.ca.is_some() || self.tls.client.is_some()) {
                return Err(EtcdConfigError::PlainWithTls(endpoint.clone()));
            }
            if self.endpoints[..index].contains(endpoint) {
                return Err(EtcdConfigError::Twice(endpoint.clone()));
            }
        }
        Ok(())
    }

    /// For a connection to one member.
    pub(super) fn options(&self, endpoint: &str) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_WITHIN)
            .with_keep_alive(KEEPALIVE, KEEPALIVE)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some(user) = &self.user {
            options = options.with_user(&user.name, &user.password);
        }
        if endpoint.starts_with("https://") {
            options = options.with_tls(self.tls.options());
        }
        options
    }
}

impl EtcdTls {
    fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::new();
        options = match &self.ca {
            Some(ca) => options.ca_certificate(Certificate::from_pem(ca)),
            None => options.with_webpki_roots(),
        };
        match &self.client {
            Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
            None => options,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::proptest;

    use super::{EtcdConfig, EtcdConfigError};

    fn check(endpoints: &[&str]) -> Result<(), EtcdConfigError> {
        let endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        EtcdConfig::new(endpoints, "p".into()).check()
    }

    #[test]
    fn addresses_that_are_none_are_named() {
        assert_eq!(check(&["http://a:2379", "https://[::1]:1/"]), Ok(()));
        assert_eq!(check(&[]), Err(EtcdConfigError::NoEndpoint));
        for bad in ["", "a", "a:2379", "http://a", "ftp://a:1", "http://a:1/x", "http://a:1?x", "http://:x"] {
            assert_eq!(check(&[bad]), Err(EtcdConfigError::BadEndpoint(bad.into())), "{bad}");
        }
        assert_eq!(check(&["http://a:1", "http://a:1"]), Err(EtcdConfigError::Twice("http://a:1".into())));
        let mut config = EtcdConfig::new(vec!["http://a:1".into()], "p".into());
        config.tls.ca = Some(Vec::new());
        assert_eq!(config.check(), Err(EtcdConfigError::PlainWithTls("http://a:1".into())));
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(endpoint in ".*") {
            let _ = check(&[&endpoint]);
        }
    }
}
