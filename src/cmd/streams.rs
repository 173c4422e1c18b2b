//! `waystation streams`: the streams and which node each comes from.

use std::process::ExitCode;

use serde_json::json;
use waystation_proto::{Claim, v1};

use super::nodes::{all_pages, node_json};
use crate::{
    cluster::{Access, refused},
    table::table_or,
};

/// Flags of `waystation streams`.
#[derive(Clone, Debug, clap::Args)]
pub struct Streams {
    #[command(flatten)]
    access: Access,
    /// Only those of this room.
    #[arg(long, value_name = "ROOM", default_value = "", hide_default_value = true)]
    room: String,
}

/// Prints them.
///
/// # Errors
/// When no coordinator answers, or it refuses.
pub async fn run(streams: Streams) -> anyhow::Result<ExitCode> {
    let client = streams.access.observe().await?;
    let listed = all_pages(|page_token| {
        let (mut client, room) = (client.clone(), streams.room.clone());
        async move {
            let request = v1::ListStreamsRequest { room, page_size: 0, page_token };
            let page = client.list_streams(request).await.map_err(|status| refused(&status))?.into_inner();
            Ok((page.streams, page.next_page_token))
        }
    })
    .await?;
    if streams.access.json {
        println!("{}", serde_json::to_string_pretty(&listed.iter().map(stream_json).collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    let none = match streams.room.as_str() {
        "" => "There is no stream.".to_owned(),
        room => format!("There is no stream in room {room:?}."),
    };
    let rows: Vec<[String; 5]> = listed.into_iter().map(row).collect();
    print!("{}", table_or(&none, ["ROOM", "STREAM", "USER", "NODE", "CLAIM"], &rows));
    Ok(ExitCode::SUCCESS)
}

fn claim(stream: &v1::Stream) -> String {
    stream.claim.map(Claim::from).unwrap_or_default().to_string()
}

fn stream_json(stream: &v1::Stream) -> serde_json::Value {
    let at = stream.r#ref.clone().unwrap_or_default();
    let origin = node_json(stream.origin.as_ref());
    json!({ "room": at.room, "stream": at.stream, "user": stream.user, "claim": claim(stream), "origin": origin })
}

fn row(stream: v1::Stream) -> [String; 5] {
    let claim = claim(&stream);
    let at = stream.r#ref.unwrap_or_default();
    let node = stream.origin.map_or("(moving)".to_owned(), |node| node.id);
    [at.room, at.stream, stream.user, node, claim]
}
