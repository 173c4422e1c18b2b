//! Relays as coordinators see them: they attach, beat, and say which streams they carry.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use tokio::{sync::mpsc, task::JoinHandle, time::interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, transport::Endpoint};
use waystation_proto::{
    NodeId,
    token::{JOIN_AUDIENCE, JoinToken},
    v1::{self, node_service_client::NodeServiceClient, relay_message::Message},
};

use crate::{client::unix_s, server::CLUSTER_SECRET};

const BEAT_EVERY: Duration = Duration::from_millis(200);
const TOKEN_VALID_S: u64 = 60;

/// A relay that is attached. It dies with this.
pub struct Relay {
    say: mpsc::Sender<v1::RelayMessage>,
    beating: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

impl Relay {
    pub async fn attach(url: &str, number: u16) -> Result<Self> {
        let id = format!("relay-{number}");
        let claims =
            JoinToken { aud: JOIN_AUDIENCE.into(), node: NodeId::new(&id)?, exp: unix_s() + TOKEN_VALID_S };
        let key = EncodingKey::from_secret(CLUSTER_SECRET.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key)?;
        let node = v1::Node {
            r#ref: Some(v1::NodeRef { id, incarnation: 1 }),
            http_url: format!("http://127.0.0.1:{}", 20_000 + number),
            link_url: format!("http://127.0.0.1:{}", 21_000 + number),
            media_addr: format!("127.0.0.1:{}", 22_000 + number),
            ..v1::Node::default()
        };
        let hello =
            v1::AttachHello { node: Some(node), public_key: vec![7; 32], ..v1::AttachHello::default() };
        let (say, said) = mpsc::channel(64);
        say.send(v1::RelayMessage { message: Some(Message::Hello(hello)) }).await?;
        let mut request = Request::new(ReceiverStream::new(said));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let mut client = NodeServiceClient::new(Endpoint::from_shared(url.to_owned())?.connect().await?);
        let mut heard = client.attach(request).await?.into_inner();
        heard.message().await?.context("a welcome comes first")?;
        let beats = say.clone();
        let beating = tokio::spawn(async move {
            let mut ticks = interval(BEAT_EVERY);
            let mut sequence = 0;
            loop {
                tokio::select! {
                    message = heard.message() => if !matches!(message, Ok(Some(_))) { return },
                    _ = ticks.tick() => {
                        sequence += 1;
                        let beat = Message::Beat(v1::RelayBeat { sequence, load: None });
                        if beats.send(v1::RelayMessage { message: Some(beat) }).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Self { say, beating })
    }

    /// It is the origin of a stream.
    pub async fn origin(&self, origin: v1::OriginUp) -> Result<()> {
        Ok(self.say.send(v1::RelayMessage { message: Some(Message::OriginUp(origin)) }).await?)
    }
}
