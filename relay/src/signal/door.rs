//! What signalling asks of the control core, as a trait: so that HTTP and events are tested against a double that
//! answers as a test wants.

use waystation_proto::{Claim, StreamKey, token::Action};

use crate::{
    control::{
        Control, ExchangeError, FindError, Holder, OpenError, OpenPlay, OpenPublish, Opened, Resource,
        SessionEvents, StreamTracks,
    },
    plane::IceCredentials,
};

/// See [`Control`], whose methods these are.
pub trait Door: Clone + Send + Sync + 'static {
    /// [`Control::find`], without a hint.
    fn find(&self, stream: &StreamKey) -> impl Future<Output = Result<StreamTracks, FindError>> + Send;
    /// [`Control::open_publish`]
    fn open_publish(&self, open: OpenPublish) -> impl Future<Output = Result<Opened, OpenError>> + Send;
    /// [`Control::open_play`]
    fn open_play(&self, open: OpenPlay) -> impl Future<Output = Result<Opened, OpenError>> + Send;
    /// [`Control::restart_ice`]
    fn restart_ice(
        &self,
        session: &Resource,
        remote_ufrag: String,
    ) -> impl Future<Output = Option<IceCredentials>> + Send;
    /// [`Control::lookup`]
    fn lookup(&self, session: &Resource) -> impl Future<Output = Option<Holder>> + Send;
    /// [`Control::close`]
    fn close(&self, session: &Resource) -> impl Future<Output = bool> + Send;
    /// [`Control::exchange`]
    fn exchange(
        &self,
        user_token: String,
        action: Action,
        stream: StreamKey,
    ) -> impl Future<Output = Result<String, ExchangeError>> + Send;
    /// [`Control::watch`]
    fn watch(&self, session: Resource, to: SessionEvents);
    /// [`Control::activate`]
    fn activate(&self, session: Resource, claim: Claim);
}

impl Door for Control {
    async fn find(&self, stream: &StreamKey) -> Result<StreamTracks, FindError> {
        Self::find(self, stream, None).await
    }

    async fn open_publish(&self, open: OpenPublish) -> Result<Opened, OpenError> {
        Self::open_publish(self, open).await
    }

    async fn open_play(&self, open: OpenPlay) -> Result<Opened, OpenError> {
        Self::open_play(self, open).await
    }

    async fn restart_ice(&self, session: &Resource, remote_ufrag: String) -> Option<IceCredentials> {
        Self::restart_ice(self, session, remote_ufrag).await
    }

    async fn lookup(&self, session: &Resource) -> Option<Holder> {
        Self::lookup(self, session).await
    }

    async fn close(&self, session: &Resource) -> bool {
        Self::close(self, session).await
    }

    async fn exchange(
        &self,
        user_token: String,
        action: Action,
        stream: StreamKey,
    ) -> Result<String, ExchangeError> {
        Self::exchange(self, user_token, action, stream).await
    }

    fn watch(&self, session: Resource, to: SessionEvents) {
        Self::watch(self, session, to);
    }

    fn activate(&self, session: Resource, claim: Claim) {
        Self::activate(self, session, claim);
    }
}
