//! Which store a coordinator uses, from its settings; and the wait for one that is not up yet.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use waystation_coordinator::{
    Config, Coordinator, StartError,
    store::{EtcdConfig, EtcdStore, EtcdTls, EtcdUser, MemoryStore, Store as _},
};

use super::{PREFIX, Settings};
use crate::config;

/// A store that does not answer is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StoreKind {
    /// In this process: for one coordinator, and gone with it.
    Memory,
    /// In etcd: for any number of coordinators.
    Etcd,
}

/// The store that the settings choose.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    Memory,
    Etcd(EtcdStore),
}

impl Settings {
    /// The store of these settings; nothing is dialled yet.
    pub(super) fn store(&self) -> anyhow::Result<Chosen> {
        match self.store {
            StoreKind::Memory => {
                ensure!(
                    self.etcd.is_empty(),
                    "etcd {} is set, but the store is memory: set store to etcd (--store etcd) to use it",
                    self.etcd.join(",")
                );
                Ok(Chosen::Memory)
            }
            StoreKind::Etcd => Ok(Chosen::Etcd(EtcdStore::connect(self.etcd_config()?)?)),
        }
    }

    fn etcd_config(&self) -> anyhow::Result<EtcdConfig> {
        ensure!(
            !self.etcd.is_empty(),
            "the store is etcd, but no member is named: give etcd, such as --etcd http://127.0.0.1:2379"
        );
        ensure!(
            !self.etcd_prefix.trim_matches('/').is_empty(),
            "etcd_prefix {:?} is empty; give what the keys shall begin with, such as waystation/v1",
            self.etcd_prefix
        );
        let mut config = EtcdConfig::new(self.etcd.clone(), self.etcd_prefix.clone());
        let password = (self.etcd_password.as_ref(), self.etcd_password_file.as_deref());
        config.user = match (&self.etcd_user, password) {
            (Some(name), (inline, file)) => {
                let password = config::secret("etcd_password", PREFIX, inline, file)
                    .with_context(|| format!("etcd_user {name:?} needs a password"))?;
                Some(EtcdUser { name: name.clone(), password: password.expose().to_owned() })
            }
            (None, (None, None)) => None,
            (None, (Some(_), _) | (_, Some(_))) => {
                anyhow::bail!("a password for etcd is set, but no user: give etcd_user (--etcd-user)")
            }
        };
        let ca = self.etcd_ca.as_deref().map(|path| pem("etcd_ca", path, "CERTIFICATE")).transpose()?;
        let client = match (&self.etcd_cert, &self.etcd_key) {
            (Some(certificate), Some(key)) => {
                Some((pem("etcd_cert", certificate, "CERTIFICATE")?, pem("etcd_key", key, "PRIVATE KEY")?))
            }
            (None, None) => None,
            (Some(_), None) => anyhow::bail!("etcd_cert is set, but not the key to it: give etcd_key"),
            (None, Some(_)) => anyhow::bail!("etcd_key is set, but not its certificate: give etcd_cert"),
        };
        config.tls = EtcdTls { ca, client };
        Ok(config)
    }
}

fn pem(key: &str, path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    let text = fs::read_to_string(path).with_context(|| format!("{key} {}", path.display()))?;
    ensure!(
        text.contains("-----BEGIN ") && text.contains(&format!("{what}-----")),
        "{key} {} holds no {} in PEM form (\"-----BEGIN ...\")",
        path.display(),
        what.to_lowercase()
    );
    Ok(text.into_bytes())
}

/// A coordinator over the chosen store, as soon as that answers; `None` if it is to stop before.
pub(super) async fn bind(
    config: Config,
    chosen: Chosen,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Option<Coordinator>> {
    let store = match chosen {
        Chosen::Memory => {
            return Ok(Some(Coordinator::bind_over(config, Arc::new(MemoryStore::new())).await?));
        }
        Chosen::Etcd(store) => store,
    };
    tokio::select! {
        coordinator = bind_over(config, store) => coordinator.map(Some),
        () = stop => Ok(None),
    }
}

async fn bind_over(config: Config, store: EtcdStore) -> anyhow::Result<Coordinator> {
    loop {
        let met = match store.id().await {
            Ok(_) => Coordinator::bind_over(config.clone(), Arc::new(store.clone())).await,
            Err(error) => Err(error.into()),
        };
        match met {
            Ok(coordinator) => return Ok(coordinator),
            Err(error) if matches!(error, StartError::Store(_) | StartError::SlowStore) => {
                tracing::warn!(%error, "waiting for the store");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::{Chosen, Settings};

    fn choose(flags: &[&str]) -> anyhow::Result<Chosen> {
        let command = Settings::augment_args(Command::new("coordinator"));
        let matches = command.get_matches_from([&["coordinator"], flags].concat());
        Settings::from_arg_matches(&matches).unwrap().store()
    }

    fn error(flags: &[&str]) -> String {
        format!("{:#}", choose(flags).expect_err("it cannot be used"))
    }

    #[test]
    fn the_store_is_memory_unless_etcd_is_chosen() {
        assert!(matches!(choose(&[]), Ok(Chosen::Memory)));
        let etcd = ["--store", "etcd", "--etcd", "http://127.0.0.1:1,http://127.0.0.1:2"];
        assert!(matches!(choose(&etcd), Ok(Chosen::Etcd(_))));
    }

    #[test]
    fn settings_of_etcd_that_cannot_be_used_say_what_is_missing() {
        let with = |more: &[&'static str]| [&["--store", "etcd", "--etcd", "https://h:1"], more].concat();
        assert!(error(&["--store", "etcd"]).contains("--etcd http://127.0.0.1:2379"));
        assert!(error(&["--etcd", "http://h:1"]).contains("--store etcd"));
        assert!(error(&["--store", "etcd", "--etcd", "h:1"]).contains("\"h:1\""));
        assert!(error(&with(&["--etcd-prefix", "/"])).contains("etcd_prefix"));
        let no_password = error(&with(&["--etcd-user", "u"]));
        assert!(no_password.contains("\"u\"") && no_password.contains("etcd_password_file"), "{no_password}");
        assert!(error(&with(&["--etcd-password-file", "f"])).contains("--etcd-user"));
        let missing = error(&with(&["--etcd-ca", "/no/such.pem"]));
        assert!(missing.contains("etcd_ca /no/such.pem"), "{missing}");
        assert!(error(&with(&["--etcd-cert", "c"])).contains("etcd_key"));
        assert!(error(&with(&["--etcd-key", "k"])).contains("etcd_cert"));
    }

    #[test]
    fn a_file_that_is_no_pem_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let path = path.to_str().unwrap();
        let error = error(&["--store", "etcd", "--etcd", "https://h:1", "--etcd-ca", path]);
        assert!(error.contains("ca.pem") && error.contains("-----BEGIN"), "{error}");
    }
}
