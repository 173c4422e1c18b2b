//! `waystation nodes`: the relays and what they carry.

use std::process::ExitCode;

use serde_json::json;
use waystation_proto::{Health, Node, v1};

use crate::{
    cluster::{Access, refused},
    table::table_or,
};

/// Flags of `waystation nodes`.
#[derive(Clone, Debug, clap::Args)]
pub struct Nodes {
    #[command(flatten)]
    access: Access,
}

/// Prints them.
///
/// # Errors
/// When no coordinator answers, or it refuses.
pub async fn run(nodes: Nodes) -> anyhow::Result<ExitCode> {
    let mut client = nodes.access.observe().await?;
    let response = client.list_nodes(v1::ListNodesRequest {}).await.map_err(|status| refused(&status))?;
    let listed: Vec<Node> =
        response.into_inner().nodes.into_iter().map(Node::try_from).collect::<Result<_, _>>()?;
    if nodes.access.json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<[String; 7]> = listed.iter().map(row).collect();
    print!(
        "{}",
        table_or(
            "No relay is attached.",
            ["NODE", "STATE", "REGION", "PUBLISHERS", "PLAYERS", "SENDS", "HTTP"],
            &rows
        )
    );
    Ok(ExitCode::SUCCESS)
}

fn row(node: &Node) -> [String; 7] {
    let state = match node.health {
        Health::Healthy => "healthy",
        Health::Suspect => "suspect",
    };
    [
        node.node.id.to_string(),
        state.to_owned(),
        if node.region.is_empty() { "-".to_owned() } else { node.region.clone() },
        node.load.publishers.to_string(),
        node.load.players.to_string(),
        format!("{} kbit/s", node.load.out_bits_per_second / 1_000),
        node.http_url.clone(),
    ]
}

/// A page of a long list: its items, and where the next begins.
pub type Page<T> = (Vec<T>, String);

/// Reads all pages of a list.
///
/// # Errors
/// Those of a page.
pub async fn all_pages<T, F>(mut page: impl FnMut(String) -> F) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<Page<T>>>,
{
    let (mut all, mut next) = page(String::new()).await?;
    while !next.is_empty() {
        let (items, following) = page(next).await?;
        all.extend(items);
        next = following;
    }
    Ok(all)
}

/// A node as JSON, or null.
pub fn node_json(node: Option<&v1::NodeRef>) -> serde_json::Value {
    node.map_or(serde_json::Value::Null, |node| json!({ "id": node.id, "incarnation": node.incarnation }))
}
