//! Asking a coordinator what the cluster does: the client end of `ClusterService`.

use anyhow::{Context as _, anyhow};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use waystation_proto::v1::cluster_service_client::ClusterServiceClient;

use crate::cmd::token::{Rights, dev_token};

/// How long a coordinator may take to answer.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Where and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Observer {
    /// Coordinators, with commas between them; the first that answers is asked.
    #[arg(
        long,
        value_name = "URL,...",
        value_delimiter = ',',
        env = "WAYSTATION_COORDINATORS",
        required = true
    )]
    coordinator: Vec<String>,
    /// User token with the right to observe; unless given, one for the cluster of `waystation dev`.
    #[arg(long, value_name = "TOKEN", env = "WAYSTATION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A client that says who asks.
pub type Client = ClusterServiceClient<InterceptedService<Channel, Bearer>>;

/// Puts the token into each request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Observer {
    /// A client of the first coordinator that answers.
    ///
    /// # Errors
    /// When none does, with what each said.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => dev_token("*", "command", Rights { observe: true, ..Rights::default() })?,
        };
        let bearer =
            Bearer(format!("Bearer {token}").parse().context("--token holds characters that no token has")?);
        let mut failures = Vec::new();
        for url in &self.coordinator {
            let endpoint = Endpoint::from_shared(url.clone())
                .with_context(|| format!("--coordinator {url:?} is not of the form http://host:port"))?
                .connect_timeout(LIMIT)
                .timeout(LIMIT);
            match endpoint.connect().await {
                Ok(channel) => return Ok(ClusterServiceClient::with_interceptor(channel, bearer)),
                Err(error) => failures.push(format!("{url}: {}", chain(&error))),
            }
        }
        Err(anyhow!("no coordinator answers ({}); is one running there?", failures.join("; ")))
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What a refusal says to a person.
pub fn refused(status: &tonic::Status) -> anyhow::Error {
    anyhow!("the coordinator refuses: {} ({:?})", status.message(), status.code())
}
