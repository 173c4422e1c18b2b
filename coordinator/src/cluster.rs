//! `ClusterService`: what the cluster is doing, for operators and the page.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use waystation_proto::{
    ErrorCode, Node, Refusal, RoomId, StreamKey,
    token::UserToken,
    v1::{self, cluster_service_server::ClusterService},
};

use crate::{
    admin::bearer,
    context::{Context, leaving, unix_s},
    mirror::{Room, View},
};

/// Entries in a page, if nothing else is asked for.
const PAGE: usize = 100;
/// Most entries in a page, and most rooms and streams in a watched view: whoever has more reads pages.
const MAX_PAGE: usize = 1000;
/// Watchers get at most one view in this time.
const VIEW_EVERY: Duration = Duration::from_millis(250);

/// Watchers see what nodes carry at least this often.
const LOAD_EVERY: Duration = Duration::from_secs(1);

/// The service.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Context>);

impl Cluster {
    /// The service over what all parts share.
    #[must_use]
    pub fn new(context: Arc<Context>) -> Self {
        Self(context)
    }

    /// The caller's token: of rooms and streams, it shows those that it names.
    fn observer(&self, metadata: &MetadataMap) -> Result<UserToken, Status> {
        let token = self.0.user_tokens.check(bearer(metadata)?, unix_s())?;
        if !token.observe {
            let message = "the token does not allow observing the cluster";
            return Err(Refusal::new(ErrorCode::TokenRefused, message).into());
        }
        Ok(token)
    }
}

fn page_size(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) => PAGE,
        Ok(asked) => asked.min(MAX_PAGE),
        Err(_) => MAX_PAGE,
    }
}

/// A page of what comes after `token`, in the order of the keys; the token is the last key of the page before.
fn page<T>(all: impl Iterator<Item = (String, T)>, token: &str, size: usize) -> (Vec<T>, String) {
    let mut rest = all.filter(|(key, _)| token.is_empty() || key.as_str() > token);
    let page: Vec<_> = rest.by_ref().take(size).collect();
    let next = match (page.last(), rest.next()) {
        (Some((last, _)), Some(_)) => last.clone(),
        (Some(_) | None, _) => String::new(),
    };
    (page.into_iter().map(|(_, item)| item).collect(), next)
}

/// The nodes; of relays that are attached here, with what they carry at this moment: the store has it coarsely.
fn nodes(context: &Context) -> Vec<v1::Node> {
    let mut nodes: Vec<Node> = context.mirror.read(|view| view.nodes().cloned().collect());
    let table = context.nodes();
    for node in &mut nodes {
        node.load = table.load(&node.node).unwrap_or(node.load);
    }
    nodes.iter().map(Into::into).collect()
}

fn shown<'a>(view: &'a View, observer: &'a UserToken) -> impl Iterator<Item = (&'a RoomId, &'a Room)> {
    view.rooms().iter().filter(|(id, _)| observer.shows_room(id))
}

fn rooms<'a>(view: &'a View, observer: &'a UserToken) -> impl Iterator<Item = (String, v1::Room)> {
    shown(view, observer).map(|(id, room)| {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let wire = v1::Room {
            room: id.to_string(),
            users: count(room.users.len()),
            streams: count(room.streams.len()),
        };
        (id.to_string(), wire)
    })
}

/// Keys are "room stream": a space is lower than all that ids hold, so rooms keep their order.
fn streams<'a>(view: &'a View, observer: &'a UserToken) -> impl Iterator<Item = (String, v1::Stream)> {
    shown(view, observer).flat_map(|(id, room)| {
        room.streams.iter().map(move |(stream, held)| {
            let key = StreamKey { room: id.clone(), stream: stream.clone() };
            let entry = &held.value;
            let wire = v1::Stream {
                r#ref: Some((&key).into()),
                user: entry.user.to_string(),
                claim: Some(v1::Claim { epoch: entry.epoch, r#move: entry.moved }),
                origin: entry.origin.as_ref().map(Into::into),
            };
            (format!("{id} {stream}"), wire)
        })
    })
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ClusterService for Cluster {
    type WatchClusterStream = ReceiverStream<Result<v1::WatchClusterResponse, Status>>;

    async fn list_nodes(&self, request: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesResponse> {
        self.observer(request.metadata())?;
        Ok(Response::new(v1::ListNodesResponse { nodes: nodes(&self.0) }))
    }

    async fn list_rooms(&self, request: Request<v1::ListRoomsRequest>) -> Answer<v1::ListRoomsResponse> {
        let observer = self.observer(request.metadata())?;
        let v1::ListRoomsRequest { page_size: size, page_token } = request.into_inner();
        let (rooms, next_page_token) =
            self.0.mirror.read(|view| page(rooms(view, &observer), &page_token, page_size(size)));
        Ok(Response::new(v1::ListRoomsResponse { rooms, next_page_token }))
    }

    async fn list_streams(
        &self,
        request: Request<v1::ListStreamsRequest>,
    ) -> Answer<v1::ListStreamsResponse> {
        let observer = self.observer(request.metadata())?;
        let v1::ListStreamsRequest { room, page_size: size, page_token } = request.into_inner();
        let of_room = |stream: &(String, v1::Stream)| {
            room.is_empty() || stream.1.r#ref.as_ref().is_some_and(|key| key.room == room)
        };
        let read = |view: &View| page(streams(view, &observer).filter(of_room), &page_token, page_size(size));
        let (streams, next_page_token) = self.0.mirror.read(read);
        Ok(Response::new(v1::ListStreamsResponse { streams, next_page_token }))
    }

    async fn watch_cluster(
        &self,
        request: Request<v1::WatchClusterRequest>,
    ) -> Answer<Self::WatchClusterStream> {
        let observer = self.observer(request.metadata())?;
        let (out, views) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.0), observer, out));
        Ok(Response::new(ReceiverStream::new(views)))
    }
}

async fn watch(
    context: Arc<Context>,
    observer: UserToken,
    out: mpsc::Sender<Result<v1::WatchClusterResponse, Status>>,
) {
    let mut changes = context.mirror.changes();
    let mut serving = context.serving();
    loop {
        changes.mark_unchanged();
        let revision = context.mirror.revision();
        let view = context.mirror.read(|view| v1::WatchClusterResponse {
            nodes: Vec::new(),
            rooms: page(rooms(view, &observer), "", MAX_PAGE).0,
            streams: page(streams(view, &observer), "", MAX_PAGE).0,
            revision: Some(revision),
        });
        let view = v1::WatchClusterResponse { nodes: nodes(&context), ..view };
        let next = async {
            out.send(Ok(view)).await.ok()?;
            sleep(VIEW_EVERY).await;
            // What nodes carry changes all the time, and is no change of the store.
            timeout(LOAD_EVERY, changes.changed()).await.map_or(Some(()), Result::ok)
        };
        tokio::select! {
            next = next => if next.is_none() { return },
            () = out.closed() => return,
            () = leaving(&mut serving) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_hold_everything_once_and_end() {
        let all: Vec<_> = (0..25).map(|n| format!("k{n:02}")).collect();
        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let (items, next) = page(all.iter().map(|key| (key.clone(), key.clone())), &token, 10);
            seen.extend(items);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all);
        assert_eq!(page(std::iter::empty::<(String, u8)>(), "", 10), (vec![], String::new()));
    }
}
