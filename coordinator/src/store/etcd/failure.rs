//! Why an attempt at a member failed, and above all whether it may have been done nevertheless.

use etcd_client::Error;
use tonic::Code;

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It did not reach the store's log: another member may be asked at once.
    NotDone(String),
    /// Nobody knows. Only what may be repeated may be repeated.
    Unclear(String),
    /// The store answered: the lease is not there.
    LeaseGone,
    /// The store answered: that revision is no longer held.
    Compacted,
    /// The store answered: it does not take such a thing.
    Bad(&'static str),
    /// The store answered: not from us. Another member would say the same.
    Denied(String),
}

/// Texts of etcd's errors (`api/v3rpc/rpctypes/error.go`), which share too few codes to be told apart by them.
const LEASE_GONE: [&str; 2] = ["requested lease not found", "lease not found"];
const COMPACTED: &str = "required revision has been compacted";
/// Said before anything was proposed.
const NOT_PROPOSED: [&str; 5] =
    ["no leader", "too many requests", "connect error", "not capable", "invalid auth token"];
const BAD: [(&str, &str); 5] = [
    ("too many operations", "it has more operations than the store takes"),
    ("request is too large", "it is larger than the store takes"),
    ("received message larger than max", "it is larger than the store takes"),
    ("duplicate key", "it writes a key twice"),
    ("database space exceeded", "the store is full; compact and defragment it, and disarm its alarm"),
];
const DENIED: [&str; 5] = [
    "permission denied",
    "user name is empty",
    "invalid user ID or password",
    "authentication failed",
    "authentication is not enabled",
];

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(&status),
            Error::LeaseKeepAliveError(text) if LEASE_GONE.contains(&text.as_str()) => Self::LeaseGone,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
                Self::Denied(error.to_string())
            }
            Error::IoError(_)
            | Error::TransportError(_)
            | Error::WatchError(_)
            | Error::Utf8Error(_)
            | Error::LeaseKeepAliveError(_)
            | Error::ElectError(_)
            | Error::EndpointError(_)
            | Error::EndpointsNotManaged
            | Error::Internal(_) => Self::Unclear(error.to_string()),
        }
    }
}

impl Failure {
    fn of_status(status: &tonic::Status) -> Self {
        let text = status.message();
        let says = |part: &&str| text.contains(*part);
        if LEASE_GONE.iter().any(says) && status.code() == Code::NotFound {
            return Self::LeaseGone;
        }
        if says(&COMPACTED) {
            return Self::Compacted;
        }
        if let Some((_, why)) = BAD.iter().find(|(part, _)| text.contains(part)) {
            return Self::Bad(why);
        }
        if DENIED.iter().any(says) {
            return Self::Denied(text.to_owned());
        }
        let whole = format!("{}: {text}", status.code());
        if NOT_PROPOSED.iter().any(says) { Self::NotDone(whole) } else { Self::Unclear(whole) }
    }

    /// Whether the member is to be left alone for a while.
    pub(super) fn blames_member(&self) -> bool {
        match self {
            Self::NotDone(_) | Self::Unclear(_) => true,
            Self::LeaseGone | Self::Compacted | Self::Bad(_) | Self::Denied(_) => false,
        }
    }

    /// One of a fixed set, for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NotDone(_) => "not_done",
            Self::Unclear(_) => "unclear",
            Self::LeaseGone => "lease_gone",
            Self::Compacted => "compacted",
            Self::Bad(_) => "bad",
            Self::Denied(_) => "denied",
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NotDone(text) | Self::Unclear(text) | Self::Denied(text) => text.clone(),
            Self::LeaseGone => "the lease is not known".into(),
            Self::Compacted => "the revision is no longer held".into(),
            Self::Bad(text) => (*text).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::Error;
    use tonic::Status;

    use super::Failure;

    #[test]
    fn what_may_have_been_done_is_told_from_what_was_not() {
        let of = |status| Failure::from(Error::GRpcStatus(status));
        let not_done = [
            Status::unavailable("tcp connect error"),
            Status::unavailable("etcdserver: no leader"),
            Status::resource_exhausted("etcdserver: too many requests"),
        ];
        for status in not_done {
            assert!(matches!(of(status.clone()), Failure::NotDone(_)), "{status}");
        }
        let unclear = [
            Status::unavailable("etcdserver: request timed out"),
            Status::unavailable("etcdserver: leader changed"),
            Status::unknown("h2 protocol error: broken pipe"),
            Status::cancelled("Timeout expired"),
        ];
        for status in unclear {
            assert!(matches!(of(status.clone()), Failure::Unclear(_)), "{status}");
        }
        assert_eq!(of(Status::not_found("etcdserver: requested lease not found")), Failure::LeaseGone);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(of(Status::out_of_range(compacted)), Failure::Compacted);
        assert!(matches!(of(Status::invalid_argument("etcdserver: request is too large")), Failure::Bad(_)));
        let denied = of(Status::invalid_argument("etcdserver: user name is empty"));
        assert!(matches!(denied, Failure::Denied(_)));
        assert!(!denied.blames_member());
    }
}
