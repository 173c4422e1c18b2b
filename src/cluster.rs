//! Asking a coordinator what the cluster does, and telling it: the client end of `ClusterService` and `AdminService`.

use anyhow::{Context as _, anyhow};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use waystation_proto::v1::{
    admin_service_client::AdminServiceClient, cluster_service_client::ClusterServiceClient,
};

use crate::{
    cause::with_causes,
    cmd::token::{Rights, dev_token},
};

/// How long a coordinator may take to answer.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Where and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Access {
    /// Coordinators, with commas between them; the first that answers is taken.
    #[arg(
        long,
        value_name = "URL,...",
        value_delimiter = ',',
        env = "WAYSTATION_COORDINATORS",
        required = true
    )]
    coordinator: Vec<String>,
    /// User token with the right that this takes; unless given, one for the cluster of `waystation dev`.
    #[arg(long, value_name = "TOKEN", env = "WAYSTATION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The way to a coordinator, as somebody.
type AsSomebody = InterceptedService<Channel, Bearer>;

/// A client that says who asks.
pub type Client = ClusterServiceClient<AsSomebody>;

/// Puts the token into each request.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Access {
    /// A client, with the right to observe, of the first coordinator that answers.
    ///
    /// # Errors
    /// When none does, with what each said.
    pub async fn observe(&self) -> anyhow::Result<Client> {
        let rights = Rights { observe: true, ..Rights::default() };
        connect(&self.coordinator, self.token.as_deref(), rights).await.map(ClusterServiceClient::new)
    }

    /// A client, with the right to administer, of the first coordinator that answers.
    ///
    /// # Errors
    /// When none does, with what each said.
    pub async fn administer(&self) -> anyhow::Result<AdminServiceClient<AsSomebody>> {
        let rights = Rights { admin: true, ..Rights::default() };
        connect(&self.coordinator, self.token.as_deref(), rights).await.map(AdminServiceClient::new)
    }
}

/// A client, with the right to observe, of a coordinator of the development cluster.
///
/// # Errors
/// When it does not answer.
pub async fn observe_dev(url: &str) -> anyhow::Result<Client> {
    let rights = Rights { observe: true, ..Rights::default() };
    connect(&[url.to_owned()], None, rights).await.map(ClusterServiceClient::new)
}

/// Unless a token is given, it is one of the development cluster with these rights.
async fn connect(urls: &[String], token: Option<&str>, rights: Rights) -> anyhow::Result<AsSomebody> {
    let token = match token {
        Some(token) => token.to_owned(),
        None => dev_token("*", "command", rights)?,
    };
    let bearer =
        Bearer(format!("Bearer {token}").parse().context("--token holds characters that no token has")?);
    let mut failures = Vec::new();
    for url in urls {
        let endpoint = endpoint(url)?.connect_timeout(LIMIT).timeout(LIMIT);
        match endpoint.connect().await {
            Ok(channel) => return Ok(InterceptedService::new(channel, bearer)),
            Err(error) => failures.push(format!("{url}: {}", with_causes(&error))),
        }
    }
    Err(anyhow!("no coordinator answers ({}); is one running there?", failures.join("; ")))
}

/// A coordinator to ask. `localhost:7400` is a URI, too (an authority without a scheme), but nothing that can be
/// connected to.
///
/// # Errors
/// When it is not of the form `http://host:port`.
pub fn endpoint(url: &str) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned()).ok();
    endpoint
        .filter(|endpoint| {
            matches!(endpoint.uri().scheme_str(), Some("http" | "https")) && endpoint.uri().host().is_some()
        })
        .with_context(|| format!("--coordinator {url:?} is not of the form http://host:port"))
}

/// What a refusal says to a person.
pub fn refused(status: &tonic::Status) -> anyhow::Error {
    anyhow!("the coordinator refuses: {} ({:?})", status.message(), status.code())
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[test]
    fn an_address_without_its_scheme_is_refused_by_its_form() {
        assert!(endpoint("http://localhost:7400").is_ok());
        for bad in ["localhost:7400", "127.0.0.1:7400", "ftp://host:1", "/path", ""] {
            let error = endpoint(bad).unwrap_err().to_string();
            assert!(error.contains("http://host:port"), "{bad:?}: {error}");
        }
    }
}
