//! Records as a first request writes them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use oncegate::{
    ambient::{Ambient, System},
    engine::{
        fingerprint::Fingerprint,
        policy::Keep,
        record::{Done, Fence, Pending, Record, Recorded, StoreKey, StoredResponse, Timestamp},
    },
};

const HOUR: Duration = Duration::from_secs(3600);

/// As the default policy keeps them, about.
pub(crate) const KEEP: Keep = Keep { record: HOUR, response: Some(HOUR) };

/// How long the recorded body is when the store is compared.
pub(crate) const BODY: usize = 1024;

/// Spread like the keyed hashes that real keys are.
pub(crate) fn key(number: u64) -> StoreKey {
    StoreKey::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

pub(crate) fn fence() -> Fence {
    Fence::new(System.token())
}

pub(crate) fn pending(fence: Fence) -> Record {
    Record::Pending(Pending {
        fence,
        fingerprint: Fingerprint::from_bytes([1; 32]),
        node: "bench".into(),
        started: System.now(),
        lease_until: System.now().after(Duration::from_secs(30)),
    })
}

/// With a body of up to [`BODY`].
pub(crate) fn done(fence: Fence, body: usize) -> Record {
    let (head, ()) = Response::builder()
        .status(StatusCode::CREATED)
        .header("content-type", "application/json")
        .body(())
        .expect("these are valid")
        .into_parts();
    let body = Bytes::from_static(&[b'x'; BODY][..body]);
    Record::Done(Arc::new(Done {
        fence,
        fingerprint: Fingerprint::from_bytes([1; 32]),
        completed: Timestamp(1),
        retained_until: System.now().after(HOUR),
        response: Recorded::Whole(StoredResponse::new(head, body, None)),
    }))
}
