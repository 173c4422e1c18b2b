//! Signing keys over a store: made once, shared, sealed and rotated.

use waystation_proto::token::{Action, NODE_TOKEN_AUDIENCE, NodeToken};
use waystation_proto::{RoomId, SessionId, StreamId, UserId};

use super::*;
use crate::{
    store::{MemoryStore, Outcome},
    tokens::Rules,
};

fn keys() -> Keys {
    Keys::under("p")
}

fn tokens() -> NodeTokens {
    let rules = Rules { max_age: Duration::from_secs(86_400), lead: Duration::from_secs(10) };
    NodeTokens::new("the secret of the cluster", rules).unwrap()
}

async fn view_of(store: &MemoryStore) -> View {
    let mut view = View::new(keys());
    view.relist(&store.list(keys().prefix()).await.unwrap());
    view
}

fn transaction<T>(plan: Plan<T>) -> Transaction {
    match plan {
        Plan::Write(transaction, _) => transaction,
        Plan::Settled(_) => panic!("nothing is written"),
    }
}

fn token() -> NodeToken {
    NodeToken {
        aud: NODE_TOKEN_AUDIENCE.into(),
        app: "app".into(),
        room: RoomId::new("r").unwrap(),
        user: UserId::new("u").unwrap(),
        session: SessionId::new("s").unwrap(),
        stream: StreamId::new("cam").unwrap(),
        action: Action::Play,
        claim: None,
        plain: false,
        iat: unix_ms() / 1000 + 1,
        exp: unix_ms() / 1000 + 1,
    }
}

#[tokio::test]
async fn coordinators_that_start_at_once_on_an_empty_store_have_one_key() {
    let store = MemoryStore::new();
    let (one, two, three) = (tokens(), tokens(), tokens());
    let all = [&one, &two, &three].map(|tokens| async { begin(&store, &keys(), tokens).await.unwrap() });
    futures_util::future::join_all(all).await;
    assert_eq!(view_of(&store).await.signing().len(), 1);
    let signed = one.sign_node_token(&token()).unwrap();
    assert!(two.read_own(&signed).is_some() && three.read_own(&signed).is_some());
}

#[tokio::test]
async fn two_coordinators_that_rotate_at_once_make_one_key() {
    let store = MemoryStore::new();
    let (one, two) = (tokens(), tokens());
    begin(&store, &keys(), &one).await.unwrap();
    let view = view_of(&store).await;
    let now_ms = unix_ms();
    let first = transaction(plan(&view, &keys(), &one, Cause::Operator, now_ms));
    let second = transaction(plan(&view, &keys(), &two, Cause::Operator, now_ms + 1));
    assert!(matches!(store.commit(first).await.unwrap(), Outcome::Done(_)));
    assert_eq!(store.commit(second).await.unwrap(), Outcome::Conflict);
    let view = view_of(&store).await;
    assert_eq!(view.signing().len(), 2);
    assert!(
        matches!(plan(&view, &keys(), &two, Cause::Operator, now_ms + 2), Plan::Settled(Ok(Done::Nothing))),
        "who comes second finds it done"
    );
}

#[tokio::test]
async fn whoever_reads_the_store_alone_finds_no_key_to_sign_with() {
    let store = MemoryStore::new();
    begin(&store, &keys(), &tokens()).await.unwrap();
    let view = view_of(&store).await;
    let other = NodeTokens::new("a guess at the secret", tokens().rules).unwrap();
    other.take(view.signing());
    assert_eq!(other.sign_node_token(&token()), Err(SignError::NoKey));
}
