//! `waystation rooms`: the rooms.

use std::process::ExitCode;

use serde_json::json;
use waystation_proto::v1;

use super::nodes::all_pages;
use crate::{
    cluster::{Access, refused},
    table::table_or,
};

/// Flags of `waystation rooms`.
#[derive(Clone, Debug, clap::Args)]
pub struct Rooms {
    #[command(flatten)]
    access: Access,
}

/// Prints them.
///
/// # Errors
/// When no coordinator answers, or it refuses.
pub async fn run(rooms: Rooms) -> anyhow::Result<ExitCode> {
    let client = rooms.access.observe().await?;
    let listed = all_pages(|page_token| {
        let mut client = client.clone();
        async move {
            let request = v1::ListRoomsRequest { page_size: 0, page_token };
            let page = client.list_rooms(request).await.map_err(|status| refused(&status))?.into_inner();
            Ok((page.rooms, page.next_page_token))
        }
    })
    .await?;
    if rooms.access.json {
        let json =
            |room: &v1::Room| json!({ "room": room.room, "users": room.users, "streams": room.streams });
        println!("{}", serde_json::to_string_pretty(&listed.iter().map(json).collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |room: &v1::Room| [room.room.clone(), room.users.to_string(), room.streams.to_string()];
    print!(
        "{}",
        table_or(
            "There is no room.",
            ["ROOM", "USERS", "STREAMS"],
            &listed.iter().map(row).collect::<Vec<_>>()
        )
    );
    Ok(ExitCode::SUCCESS)
}
