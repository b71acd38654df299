use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::engine::{
    hop::is_hop_by_hop,
    record::{StoredResponse, Unpacked},
};

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(uint32, tag = "1")]
    status: u32,
    #[prost(bool, tag = "2")]
    status_only: bool,
    #[prost(message, repeated, tag = "3")]
    headers: Vec<Field>,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
    #[prost(bool, tag = "5")]
    has_trailers: bool,
    #[prost(message, repeated, tag = "6")]
    trailers: Vec<Field>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Field {
    /// On the wire the same as a string.
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

fn timestamps() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn fences() -> impl Strategy<Value = Fence> {
    (any::<[u8; 16]>(), any::<u32>())
        .prop_map(|(token, revision)| Fence { token: Token(token), revision })
}

fn header_maps() -> impl Strategy<Value = HeaderMap> {
    let value = vec(prop_oneof![32_u8..127, 128_u8..=255, Just(b'\t')], 0..40);
    vec(("[a-z][a-z0-9-]{0,12}", value), 0..8).prop_map(|lines| {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            if !is_hop_by_hop(&name) {
                map.append(name, HeaderValue::from_bytes(&value).unwrap());
            }
        }
        map
    })
}

fn statuses() -> impl Strategy<Value = StatusCode> {
    (100_u16..1000).prop_map(|status| StatusCode::from_u16(status).unwrap())
}

fn wholes() -> impl Strategy<Value = Unpacked> {
    (statuses(), header_maps(), vec(any::<u8>(), 0..300), proptest::option::of(header_maps()))
        .prop_map(|(status, headers, body, trailers)| Unpacked {
            status,
            headers,
            body: body.into(),
            trailers,
        })
}

fn stored(response: Unpacked) -> StoredResponse {
    let mut head = http::Response::new(()).into_parts().0;
    (head.status, head.headers) = (response.status, response.headers);
    StoredResponse::new(head, response.body, response.trailers)
}

fn responses() -> impl Strategy<Value = Recorded> {
    prop_oneof![
        statuses().prop_map(Recorded::StatusOnly),
        wholes().prop_map(|response| Recorded::Whole(stored(response))),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    let common = (
        fences(),
        any::<[u8; 32]>().prop_map(Fingerprint::from_bytes),
        "[ -~]{0,20}",
        timestamps(),
        timestamps(),
    );
    (common, 0..4, prop::sample::select(&Reason::ALL[..]), responses()).prop_map(
        |((fence, fingerprint, node, first, second), state, reason, response)| {
            let node: Arc<str> = node.into();
            match state {
                0 => Record::Pending(Pending {
                    fence,
                    fingerprint,
                    node,
                    started: first,
                    lease_until: second,
                }),
                1 => Record::Unknown(Unknown {
                    fence,
                    fingerprint,
                    node,
                    started: first,
                    since: second,
                    reason,
                }),
                2 => Record::Expired(Tombstone { fence, fingerprint, completed: first }),
                _ => Record::Done(Arc::new(Done {
                    fence,
                    fingerprint,
                    completed: first,
                    retained_until: second,
                    response,
                })),
            }
        },
    )
}

proptest! {
    #[test]
    fn records_round_trip(record in records()) {
        let encoded = encode(&record, Duration::from_millis(77));
        prop_assert_eq!(decode_fence(&encoded.head).unwrap(), record.fence());
        let age = decode_age(&encoded.head, Duration::from_millis(70)).unwrap();
        prop_assert_eq!(age, (record.fence(), Duration::from_millis(7)));
        prop_assert_eq!(decode(&encoded.head, encoded.response).unwrap(), record);
    }

    #[test]
    fn responses_unpack_to_what_was_packed(response in wholes(), more in 0_usize..9) {
        prop_assert_eq!(stored(response.clone()).unpack(more), response);
    }

    #[test]
    fn what_is_written_is_what_the_derived_encoders_write(record in records()) {
        let Encoded { head, response } = encode(&record, Duration::from_millis(77));
        let read: Head = message(&head[FENCE.end..]).unwrap();
        prop_assert_eq!(&read.encode_length_delimited_to_vec()[..], &head[FENCE.end..]);
        if let Some(response) = response {
            let read: Response = message(&response[FENCE.end..]).unwrap();
            prop_assert_eq!(&read.encode_length_delimited_to_vec()[..], &response[FENCE.end..]);
        }
    }

    #[test]
    fn a_summary_is_that_of_the_record(record in records()) {
        let encoded = encode(&record, Duration::from_millis(77));
        let there = encoded.response.is_some();
        prop_assert_eq!(decode_summary(&encoded.head, there).unwrap(), Summary::of(&record));
        let gone = decode(&encoded.head, None).unwrap();
        prop_assert_eq!(decode_summary(&encoded.head, false).unwrap(), Summary::of(&gone));
    }

    #[test]
    fn every_truncation_is_refused(record in records()) {
        let Encoded { head, response } = encode(&record, Duration::from_millis(77));
        for end in 0..head.len() {
            prop_assert!(decode(&head[..end], response.clone()).is_err());
        }
        if let Some(response) = response {
            for end in 0..response.len() {
                prop_assert!(decode(&head, Some(response.slice(..end))).is_err());
            }
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic(head in vec(any::<u8>(), 0..200), response in vec(any::<u8>(), 0..200)) {
        let _ = decode(&head, Some(response.into()));
    }
}

#[test]
fn a_response_that_is_gone_leaves_a_tombstone() {
    let done = Done {
        fence: Fence::new(Token([7; 16])),
        fingerprint: Fingerprint::from_bytes([1; 32]),
        completed: Timestamp(5),
        retained_until: Timestamp(9),
        response: Recorded::StatusOnly(StatusCode::OK),
    };
    let encoded = encode(&Record::Done(Arc::new(done.clone())), Duration::from_secs(172_800));
    assert_eq!(decode(&encoded.head, None), Ok(Record::Expired(done.tombstone())));
    assert!(encoded.head.len() < 80, "a tombstone stays small: {}", encoded.head.len());
}

#[test]
fn a_later_layout_is_named_as_such() {
    assert_eq!(decode(&[VERSION + 1; 40], None), Err(CodecError::Newer(VERSION + 1)));
}

/// Layout 1 as it was first written. This test must never be changed: stores hold these bytes.
#[test]
fn layout_1_stays_readable() {
    let mut head = vec![1];
    head.extend([7; 16]);
    head.extend([0, 0, 0, 3]);
    let body: Vec<u8> = [&[8_u8, 1, 18, 32][..], &[9; 32], &[26, 1, b'n', 32, 5, 48, 6]].concat();
    head.push(body.len() as u8);
    head.extend(body);
    let record = decode(&head, None).unwrap();
    let Record::Pending(pending) = record else { panic!("{record:?}") };
    assert_eq!(pending.fence, Fence { token: Token([7; 16]), revision: 3 });
    assert_eq!(
        (pending.started, pending.lease_until, &*pending.node),
        (Timestamp(5), Timestamp(6), "n")
    );
}

#[test]
fn a_response_of_another_record_is_not_taken_for_ones_own() {
    let done = |token| {
        Record::Done(Arc::new(Done {
            fence: Fence::new(Token([token; 16])),
            fingerprint: Fingerprint::from_bytes([9; 32]),
            completed: Timestamp(1),
            retained_until: Timestamp(2),
            response: Recorded::StatusOnly(StatusCode::OK),
        }))
    };
    let [one, other] = [1, 2].map(|token| encode(&done(token), Duration::from_millis(77)));
    assert_eq!(decode(&one.head, other.response), Err(CodecError::Mixed));
    assert!(decode(&one.head, one.response).is_ok());
}
