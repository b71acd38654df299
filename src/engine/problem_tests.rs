use super::*;

fn all() -> Vec<Problem> {
    let fault = Fault::Refused;
    let (since, reason) = (Timestamp(1_700_000_000_000), Reason::Reset);
    vec![
        Problem::KeyMissing,
        Problem::KeyInvalid(KeyError::Comma),
        Problem::Refused(Refusal::KeyReused),
        Problem::Refused(Refusal::KeyInUse),
        Problem::Refused(Refusal::OutcomeUnknown { since, reason }),
        Problem::Refused(Refusal::ResponseNotStored(StatusCode::CREATED)),
        Problem::Refused(Refusal::KeyExpired { completed: since }),
        Problem::BodyTooLarge { limit: 7 },
        Problem::BodyIncomplete,
        Problem::BodyTimeout,
        Problem::PassingBodyIncomplete,
        Problem::PassingBodyTimeout,
        Problem::Overloaded,
        Problem::StoreUnavailable,
        Problem::ShuttingDown,
        Problem::Unreachable(fault),
        Problem::OutcomeUnknown { reason, fault },
        Problem::UpstreamFailed(fault),
        Problem::NoRoute,
        Problem::BadRequest("no"),
        Problem::MethodNotServed,
    ]
}

fn document(problem: Problem, dialect: Dialect) -> (Response<Bytes>, Value) {
    let response = problem.respond(Style { dialect, base: "https://example.org/p" });
    let value = serde_json::from_slice(response.body()).unwrap();
    (response, value)
}

#[test]
fn every_problem_is_an_error_to_every_kind_of_client() {
    for dialect in [Dialect::Ietf, Dialect::Stripe] {
        for problem in all() {
            let (response, value) = document(problem, dialect);
            assert!(response.status().as_u16() >= 400);
            assert_eq!(value["status"], response.status().as_u16());
            assert!(value["type"].as_str().unwrap().starts_with("https://example.org/p/"));
            for member in ["type", "code", "message"] {
                assert!(!value["error"][member].as_str().unwrap().is_empty(), "{problem:?}");
            }
        }
    }
}

#[test]
fn the_situations_carry_their_members() {
    let since = Timestamp(1_700_000_000_000);
    let unknown = Refusal::OutcomeUnknown { since, reason: Reason::Truncated };
    let (_, value) = document(Problem::Refused(unknown), Dialect::Ietf);
    assert_eq!(value["since"], "2023-11-14T22:13:20.000Z");
    assert_eq!(value["reason"], "truncated");
    let (_, value) =
        document(Problem::Refused(Refusal::ResponseNotStored(StatusCode::CREATED)), Dialect::Ietf);
    assert_eq!(value["original_status"], 201);
    let (response, _) = document(Problem::KeyMissing, Dialect::Ietf);
    assert_eq!(
        response.headers()[LINK],
        "<https://example.org/p/key-missing>; rel=\"describedby\""
    );
    let (response, _) = document(Problem::Unreachable(Fault::ConnectTimeout), Dialect::Ietf);
    assert_eq!(response.status(), 504);
    assert_eq!(response.headers()[PROXY_STATUS], "oncegate; error=connection_timeout");
}

#[test]
fn the_dialects_differ_where_their_clients_do() {
    let (ietf, _) = document(Problem::Refused(Refusal::KeyReused), Dialect::Ietf);
    assert_eq!(
        (ietf.status().as_u16(), &ietf.headers()[CONTENT_TYPE]),
        (422, &HeaderValue::from_static("application/problem+json"))
    );
    let (stripe, value) = document(Problem::Refused(Refusal::KeyReused), Dialect::Stripe);
    assert_eq!(
        (stripe.status().as_u16(), &stripe.headers()[CONTENT_TYPE]),
        (400, &HeaderValue::from_static("application/json"))
    );
    assert_eq!(
        (&value["error"]["type"], &stripe.headers()[STRIPE_SHOULD_RETRY]),
        (&json!("idempotency_error"), &HeaderValue::from_static("false"))
    );
    let (busy, value) = document(Problem::Refused(Refusal::KeyInUse), Dialect::Stripe);
    assert_eq!(
        (busy.status().as_u16(), &value["error"]["code"]),
        (409, &json!("idempotency_key_in_use"))
    );
    assert_eq!(
        (&busy.headers()[STRIPE_SHOULD_RETRY], &busy.headers()[RETRY_AFTER]),
        (&HeaderValue::from_static("true"), &HeaderValue::from_static("1"))
    );
}
