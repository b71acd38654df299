//! Records to work with.

use std::{sync::Arc, time::Duration};

use oncegate::{
    ambient::{Ambient, System},
    engine::{
        fingerprint::Fingerprint,
        policy::Keep,
        record::{Done, Fence, Pending, Record, Recorded, StoreKey, StoredResponse, Timestamp},
    },
};

/// Keeps a record for an hour.
pub(crate) const KEEP: Keep =
    Keep { record: Duration::from_secs(3600), response: Some(Duration::from_secs(3600)) };

/// A key that nobody else has.
pub(crate) fn key() -> StoreKey {
    let (front, back) = (System.token(), System.token());
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&front.0);
    bytes[16..].copy_from_slice(&back.0);
    StoreKey::from_bytes(bytes)
}

/// The first fence of an owner that nobody else is.
pub(crate) fn owner() -> Fence {
    Fence::new(System.token())
}

/// A claim.
pub(crate) fn pending(fence: Fence) -> Record {
    Record::Pending(Pending {
        fence,
        fingerprint: Fingerprint::from_bytes([1; 32]),
        node: "test".into(),
        started: Timestamp(1),
        lease_until: Timestamp(2),
    })
}

/// A recorded response with a body of so many bytes.
#[cfg(feature = "embedded")]
pub(crate) fn answered(fence: Fence, length: usize) -> Record {
    let (head, ()) = http::Response::new(()).into_parts();
    let body = bytes::Bytes::from(vec![b'x'; length]);
    let response = Recorded::Whole(StoredResponse::new(head, body, None));
    match done(fence) {
        Record::Done(done) => Record::Done(Arc::new(Done { response, ..(*done).clone() })),
        other => other,
    }
}

/// A recorded response.
pub(crate) fn done(fence: Fence) -> Record {
    Record::Done(Arc::new(Done {
        fence,
        fingerprint: Fingerprint::from_bytes([1; 32]),
        completed: Timestamp(3),
        retained_until: System.now().after(KEEP.record),
        response: Recorded::StatusOnly(http::StatusCode::CREATED),
    }))
}
