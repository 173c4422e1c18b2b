//! Users, tokens that expire, and TLS.

use std::{path::Path, time::Duration};

use etcd_client::{Client, Error};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::time::{Instant, sleep};
use waystation_coordinator::store::{EtcdStore, EtcdTls, EtcdUser, Outcome, Store, Transaction, Write};

use crate::cluster::{Cluster, PREFIX, soon};

/// Whatever another member may answer otherwise is asked again for as long as this.
const RETRIED_FOR: Duration = Duration::from_secs(4);

fn put(name: &str) -> Transaction {
    Transaction { compares: vec![], writes: vec![Write::put(format!("{PREFIX}{name}"), vec![])] }
}

async fn expired(client: &mut Client) -> bool {
    match client.get("any", None).await {
        Ok(_) => false,
        Err(Error::GRpcStatus(status)) => status.message().contains("invalid auth token"),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_user_stays_in_when_its_token_expires_and_a_wrong_password_is_told() {
    // A hash that costs etcd as much as it does by default can take a busy machine longer than an attempt may.
    let arguments = ["--auth-token-ttl", "1", "--bcrypt-cost", "4"];
    let cluster = Cluster::start_with(1, "http", &arguments).await;
    let mut root = cluster.members[0].client().await;
    root.user_add("root", "secret", None).await.unwrap();
    root.user_grant_role("root", "root").await.unwrap();
    root.auth_enable().await.unwrap();
    let mut config = cluster.config();
    config.user = Some(EtcdUser { name: "root".into(), password: "secret".into() });
    let store = EtcdStore::connect(config.clone()).unwrap();
    let id = store.id().await.unwrap();
    let mut without_refresh = cluster.members[0].client_as(Some(("root", "secret"))).await;
    soon("the end of a token", async {
        while !expired(&mut without_refresh).await {
            // Each use prolongs it.
            sleep(Duration::from_millis(2_500)).await;
        }
    })
    .await;
    assert!(matches!(store.commit(put("a")).await, Ok(Outcome::Done(_))));
    assert_eq!(store.id().await, Ok(id));
    config.user = Some(EtcdUser { name: "root".into(), password: "wrong".into() });
    let asked = Instant::now();
    let error = EtcdStore::connect(config.clone()).unwrap().id().await.unwrap_err().to_string();
    assert!(error.contains("authentication failed"), "{error}");
    assert!(asked.elapsed() < RETRIED_FOR, "nobody else would say otherwise");
    config.user = None;
    let error = EtcdStore::connect(config).unwrap().id().await.unwrap_err().to_string();
    assert!(error.contains("user name is empty"), "{error}");
}

/// A certificate signed by `ca`, and its key, as PEM.
fn signed(ca: &Issuer<'_, KeyPair>, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
    // The gateway of a member is its own client.
    parameters.extended_key_usages = vec![usage, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    (parameters.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn members_and_coordinators_know_each_other_by_certificates() {
    let mut parameters = CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca_pem = parameters.self_signed(&key).unwrap().pem();
    let ca = Issuer::new(parameters, key);
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = signed(&ca, ExtendedKeyUsagePurpose::ServerAuth);
    let ca_file = write(folder.path(), "ca.pem", &ca_pem);
    let certificate = write(folder.path(), "server.pem", &certificate);
    let key = write(folder.path(), "server.key", &key);
    let arguments = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &ca_file,
        "--cert-file",
        &certificate,
        "--key-file",
        &key,
    ];
    let cluster = Cluster::start_with(1, "https", &arguments).await;
    let (certificate, key) = signed(&ca, ExtendedKeyUsagePurpose::ClientAuth);
    let mut config = cluster.config();
    config.tls = EtcdTls {
        ca: Some(ca_pem.clone().into_bytes()),
        client: Some((certificate.into_bytes(), key.into_bytes())),
    };
    let store = EtcdStore::connect(config.clone()).unwrap();
    soon("the id", async { while store.id().await.is_err() {} }).await;
    assert!(matches!(store.commit(put("a")).await, Ok(Outcome::Done(_))));
    config.tls.client = None;
    assert!(EtcdStore::connect(config.clone()).unwrap().id().await.is_err(), "nobody knows us");
    config.tls = EtcdTls::default();
    assert!(EtcdStore::connect(config).unwrap().id().await.is_err(), "we know nobody");
}
