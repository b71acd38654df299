//! The records that the suite works with.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::LONG;
use crate::{
    ambient::{Ambient, System},
    engine::{
        fingerprint::Fingerprint,
        policy::Keep,
        record::{
            Done, Fence, Pending, Reason, Record, Recorded, StoreKey, StoredResponse, Timestamp,
            Unknown,
        },
    },
};

/// A keep that outlives the suite.
pub(super) const KEEP: Keep = Keep { record: LONG, response: Some(LONG) };

/// A key that nobody else has.
pub(super) fn key() -> StoreKey {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&System.token().0);
    StoreKey::from_bytes(bytes)
}

/// The first fence of an owner that nobody else is.
pub(super) fn owner() -> Fence {
    Fence::new(System.token())
}

/// A claim.
pub(super) fn pending(fence: Fence) -> Record {
    Record::Pending(Pending {
        fence,
        fingerprint: fingerprint(fence),
        node: "node-a:1".into(),
        started: Timestamp(1_000),
        lease_until: Timestamp(31_000 + u64::from(fence.revision)),
    })
}

/// An unknown outcome.
pub(super) fn unknown(fence: Fence) -> Record {
    Record::Unknown(Unknown {
        fence,
        fingerprint: fingerprint(fence),
        node: "node-b:2".into(),
        started: Timestamp(1_000),
        since: Timestamp(2_000),
        reason: Reason::Truncated,
    })
}

/// A recorded response with everything that is easily lost on the way.
pub(super) fn done(fence: Fence, retained_until: Timestamp, body: impl Into<Bytes>) -> Record {
    let mut head = Response::new(()).into_parts().0;
    head.status = StatusCode::CREATED;
    let headers = &mut head.headers;
    let latin = HeaderValue::from_bytes(b"caf\xe9").expect("Latin-1 is allowed in a header value");
    headers.append("set-cookie", HeaderValue::from_static("a=1; Path=/"));
    headers.append("x-latin", latin);
    headers.append("set-cookie", HeaderValue::from_static("b=2"));
    headers.append("x-empty", HeaderValue::from_static(""));
    let mut trailers = HeaderMap::new();
    trailers.append("grpc-status", HeaderValue::from_static("0"));
    Record::Done(Arc::new(Done {
        fence,
        fingerprint: fingerprint(fence),
        completed: Timestamp(3_000),
        retained_until,
        response: Recorded::Whole(StoredResponse::new(head, body.into(), Some(trailers))),
    }))
}

fn fingerprint(fence: Fence) -> Fingerprint {
    let mut bytes = [0x0a; 32];
    bytes[16..].copy_from_slice(&fence.token.0);
    Fingerprint::from_bytes(bytes)
}
