use std::time::Duration;

use super::{super::StoreUrl, *};
use crate::engine::policy::{BodyMatch, OnConflict, OnUnknown};

fn error(text: &str) -> String {
    Config::load(&Sources::text(text)).unwrap_err().to_string()
}

#[test]
fn the_empty_file_is_the_default() {
    let config = Config::load(&Sources::default()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9901");
    assert_eq!(config.store.url, StoreUrl::File("./oncegate-data".into()));
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].upstream.urls[0].to_string(), "http://127.0.0.1:9000");
}

#[test]
fn a_typing_error_is_named_with_line_column_and_suggestion() {
    let error = error("[server]\nlisten = \"127.0.0.1:1\"\nhead_timeot = \"1s\"\n");
    for part in ["line 3", "column 1", "`head_timeot`", "did you mean `head_timeout`?"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn what_is_wrong_for_all_routes_is_no_route_s_fault() {
    let of = |section: &str, route: &str| {
        error(&format!("{section}\n[[route]]\npath = \"/a\"\n{route}"))
    };
    for section in ["[upstream]\nresponse_timeout = \"0s\"", "[idempotency]\nkeys = []"] {
        let error = of(section, "");
        assert!(!error.starts_with("route"), "{error}");
    }
    let error = of("", "idempotency.keys = []");
    assert!(error.starts_with("route[0].idempotency.keys"), "{error}");
    // What is not complete by itself need not be.
    let reconcile = r#"idempotency.reconcile = { request = "GET /{key}", executed = { status = [200] },
        not_executed = { status = [404] } }"#;
    let text = format!(
        "[idempotency]\non_unknown = \"reconcile\"\n[[route]]\npath = \"/\"\n{reconcile}\n\
         idempotency.keys = []"
    );
    let error = Config::load(&Sources::text(&text)).unwrap_err().to_string();
    assert!(error.starts_with("route[0].idempotency.keys"), "{error}");
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    for (text, parts) in [
        ("[idempotency]\nlease = \"soon\"", &["line 2", "`soon` is no duration"][..]),
        ("[idempotency]\nkeys = [\"cookie:x\"]", &["line 2", "`cookie:x` is no key source"]),
        ("[idempotency]\non_conflict = \"wit\"", &["line 2", "did you mean `wait`?"]),
        ("[upstream]\nurl = \"https://x\"", &["line 2", "TLS"]),
        ("[idempotency]\nrelease = [99]", &["line 2", "99 is no final HTTP status"]),
        ("[server\n", &["line 1"]),
    ] {
        let error = error(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    for (text, parts) in [
        ("[idempotency]\nrelease = [503]", &["idempotency.release", "503"][..]),
        ("[idempotency]\nmethods = [\"GET\"]", &["idempotency.methods", "`GET`"]),
        ("[idempotency]\nkeys = []", &["idempotency.keys"]),
        ("[idempotency]\nfingerprint.ignore = [\"/a\"]", &["fingerprint.ignore", "json"]),
        ("[idempotency]\nunknown_retention = \"1s\"", &["idempotency.unknown_retention", "lease"]),
        (
            "[idempotency]\non_unknown = \"reconcile\"\nreconcile.request = \"GET /\"\n\
             reconcile.executed = { status = [200], json = \"/a\", equals = nan }\n\
             reconcile.not_executed = { status = [404] }",
            &["reconcile.executed", "`equals`"],
        ),
        (
            "[idempotency]\nmax_response_body = \"300MiB\"",
            &["idempotency.max_response_body", "at most 256MiB"],
        ),
        (
            "[idempotency]\nmax_buffered = \"512KiB\"",
            &["idempotency.max_request_body: 1MiB", "idempotency.max_buffered (512KiB)"],
        ),
        (
            "[[route]]\nidempotency.max_request_body = \"300MiB\"",
            &["route[0].idempotency.max_request_body: 300MiB", "max_buffered (256MiB)"],
        ),
        ("[admin]\nlisten = \"0.0.0.0:9901\"", &["admin.listen", "token_file"]),
        ("[store]\nurl = \"mysql://x\"", &["store.url", "redis://"]),
        ("[telemetry]\nlog = \"a=loud\"", &["telemetry.log", "a=loud"]),
        ("[upstream]\nurl = \"http://a\"\nurls = [\"http://b\"]", &["upstream.urls"]),
        ("[[route]]\npath = \"x\"", &["route[0].path"]),
        ("[[route]]\nhost = \"a.example:8080\"", &["route[0].host", "port"]),
        ("[idempotency]\nreplay_status = 204", &["idempotency.replay_status", "204"]),
        (
            "[idempotency]\nreconcile.timeout = \"3s\"",
            &["idempotency.reconcile", "on_unknown = \"reconcile\""],
        ),
        (
            "[[route]]\nidempotency.reconcile.timeout = \"3s\"\nidempotency.on_unknown = \"retry\"",
            &["route[0].idempotency.reconcile", "on_unknown"],
        ),
        (
            "[idempotency]\non_unknown = \"reconcile\"\n[idempotency.reconcile]\n\
             request = \"GET /{key}\"\nexecuted = { status = [200] }\n\
             not_executed = { status = [404] }\ntimeout = \"0s\"",
            &["idempotency.reconcile.timeout", "0s"],
        ),
        ("[[route]]\nhost = \"*.example\"", &["route[0].host", "`*.example`", "one whole name"]),
        ("[[route]]\npath = \"/pay/*\"", &["route[0].path", "`/pay/*`", "prefix"]),
        ("[server]\nidle_timeout = \"0s\"", &["server.idle_timeout"]),
        ("[server]\nmax_connections = 9223372036854775807", &["server.max_connections"]),
        ("[upstream]\nresponse_timeout = \"0s\"", &["upstream.response_timeout"]),
        ("[upstream]\nconnect_timeout = \"0s\"", &["upstream.connect_timeout"]),
        (
            "[upstream]\nconnect_timeout = \"0s\"\n[[route]]\npath = \"/\"",
            &["upstream.connect_timeout"],
        ),
        ("[upstream]\ntotal_timeout = \"0s\"", &["upstream.total_timeout"]),
        ("[store]\ntimeout = \"0s\"", &["store.timeout"]),
        ("[[route]]\npath = \"/x\"\n[[route]]\npath = \"/x\"", &["route[1]", "already"]),
        ("[[route]]\npath = \"/x\"\nidempotency.lease = \"1ms\"", &["route[0].idempotency.lease"]),
        (
            "[upstream]\nconnect_timeout = \"3s\"\nresponse_timeout = \"3s\"",
            &["upstream.connect_timeout", "3s", "upstream.response_timeout"],
        ),
        (
            "[upstream]\nconnect_timeout = \"1s\"\nresponse_timeout = \"2s\"\n\
             urls = [\"http://a:1\", \"http://b:1\"]",
            &["upstream.connect_timeout", "each of 2 upstreams"],
        ),
    ] {
        let error = error(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn a_route_overrides_what_it_names_and_keeps_the_rest() {
    let text = r#"
        [upstream]
        url = "http://legacy:9000"
        connect_timeout = "1s"
        [idempotency]
        require_key = true
        on_unknown = "retry"
        [[route]]
        path = "/refunds"
        host = "PAY.example"
        upstream.url = "http://refunds:9000"
        [route.idempotency]
        on_conflict = "wait"
        conflict_wait = "5s"
        on_unknown = "hold"
        fingerprint = { body = "json", ignore = ["/sent_at"] }
        [[route]]
        path = "/webhooks"
        idempotency.enabled = false
    "#;
    let config = Config::load(&Sources::text(text)).unwrap();
    let [refunds, webhooks, rest] = &config.routes[..] else { panic!("{:?}", config.routes) };
    let policy = refunds.policy.as_ref().unwrap();
    assert!(policy.require_key);
    assert_eq!(policy.on_conflict, OnConflict::Wait(Duration::from_secs(5)));
    assert_eq!(policy.on_unknown, OnUnknown::Hold);
    assert_eq!(policy.fingerprint_body, BodyMatch::Json);
    assert_eq!(refunds.host.as_deref(), Some("pay.example"));
    assert_eq!(refunds.upstream.urls[0].to_string(), "http://refunds:9000");
    assert_eq!(refunds.upstream.connect_timeout, Duration::from_secs(1));
    assert!(webhooks.policy.is_none());
    assert_eq!(rest.policy.as_ref().unwrap().on_unknown, OnUnknown::Retry);
}

#[test]
fn a_route_overrides_one_member_of_a_table() {
    let policy = |route: &str| {
        let text = format!(
            r#"
            [idempotency]
            fingerprint = {{ body = "json", ignore = ["/sent_at"] }}
            on_unknown = "reconcile"
            [idempotency.reconcile]
            request = "GET /payments/{{key}}"
            executed = {{ status = [200] }}
            not_executed = {{ status = [404] }}
            timeout = "3s"
            [[route]]
            path = "/a"
            [route.idempotency]
            {route}"#
        );
        let config = Config::load(&Sources::text(&text)).unwrap();
        (**config.routes[0].policy.as_ref().unwrap()).clone()
    };
    for (route, body, ignored) in [
        ("fingerprint.body = \"json\"", BodyMatch::Json, &["/sent_at"][..]),
        ("fingerprint.ignore = [\"/at\"]", BodyMatch::Json, &["/at"]),
        ("fingerprint.body = \"exact\"", BodyMatch::Exact, &[]),
        ("", BodyMatch::Json, &["/sent_at"]),
    ] {
        let policy = policy(route);
        assert_eq!(policy.fingerprint_body, body, "{route}");
        assert_eq!(policy.fingerprint_ignore, ignored, "{route}");
    }
    let asks = policy("reconcile.request = \"GET /refunds/{key}\"").on_unknown;
    let OnUnknown::Reconcile(reconcile) = asks else { panic!("{asks:?}") };
    assert_eq!(reconcile.request.to_string(), "GET /refunds/{key}");
    assert_eq!(reconcile.executed.status, [200]);
    assert_eq!(reconcile.timeout, Duration::from_secs(3));
}

/// Another question is about another service: how long that may take is not the first one's.
#[test]
fn a_route_with_a_question_of_its_own_has_its_own_quiescence() {
    let quiescence = |route: &str| {
        let text = format!(
            "[idempotency]\non_unknown = \"reconcile\"\n[idempotency.reconcile]\n\
             request = \"GET /{{key}}\"\nexecuted = {{ status = [200] }}\n\
             not_executed = {{ status = [404] }}\nquiescence = \"7s\"\n[[route]]\n{route}"
        );
        let config = Config::load(&Sources::text(&text)).unwrap();
        let policy = config.routes[0].policy.as_ref().unwrap();
        let OnUnknown::Reconcile(reconcile) = &policy.on_unknown else { panic!("{policy:?}") };
        reconcile.quiescence
    };
    assert_eq!(quiescence("idempotency.reconcile.timeout = \"3s\""), Duration::from_secs(7));
    let own = "idempotency.reconcile.request = \"GET /other/{key}\"";
    assert_eq!(quiescence(own), Duration::from_secs(95));
}

/// In an emergency, whatever the routes say of how to ask.
#[test]
fn lookups_are_switched_off_for_all_routes_at_once() {
    let text = "[idempotency]\non_unknown = \"hold\"\n[[route]]\n\
                idempotency.reconcile.request = \"GET /{key}\"";
    let config = Config::load(&Sources::text(text)).unwrap();
    assert!(matches!(config.routes[0].policy.as_ref().unwrap().on_unknown, OnUnknown::Hold));
}

#[test]
fn a_lookup_is_believed_after_all_upstreams_may_have_been_asked() {
    for (urls, quiescence) in [("\"http://a\"", 95), ("\"http://a\", \"http://b\"", 100)] {
        let text = format!(
            "[upstream]\nurls = [{urls}]\n[[route]]\nidempotency.on_unknown = \"reconcile\"\n\
             [idempotency.reconcile]\nrequest = \"GET /{{key}}\"\nexecuted = {{ status = [200] }}\n\
             not_executed = {{ status = [404] }}"
        );
        let config = Config::load(&Sources::text(&text)).unwrap();
        let policy = config.routes[0].policy.as_ref().unwrap();
        let OnUnknown::Reconcile(reconcile) = &policy.on_unknown else { panic!("{policy:?}") };
        assert_eq!(reconcile.quiescence, Duration::from_secs(quiescence));
    }
}

#[test]
fn a_clock_can_tell_whatever_is_set() {
    let long = "18446744073709551615s";
    let text = format!(
        "[server]\nhead_timeout = \"{long}\"\nbody_timeout = \"{long}\"\nidle_timeout = \"{long}\"\n\
         [upstream]\nresponse_timeout = \"{long}\"\nconnect_timeout = \"50years\"\n\
         [idempotency]\nlease = \"50years\"\nunknown_retention = \"{long}\"\n\
         on_unknown = \"reconcile\"\n[idempotency.reconcile]\nrequest = \"GET /{{key}}\"\n\
         executed = {{ status = [200] }}\nnot_executed = {{ status = [404] }}"
    );
    let config = Config::load(&Sources::text(&text)).unwrap();
    let policy = config.routes[0].policy.as_ref().unwrap();
    let OnUnknown::Reconcile(reconcile) = &policy.on_unknown else { panic!("{policy:?}") };
    let now = std::time::Instant::now();
    for duration in [
        config.server.head_timeout,
        reconcile.quiescence,
        config.routes[0].upstream.response_timeout.saturating_mul(5),
    ] {
        assert!(now.checked_add(duration).is_some(), "{duration:?}");
    }
}

#[test]
fn what_a_lookup_needs_is_named() {
    let request = "request = \"GET /{key}\"\nexecuted.status = [200]";
    for (settings, missing) in [
        ("", "idempotency.reconcile.request"),
        ("request = \"GET /{key}\"", "idempotency.reconcile.executed"),
        (request, "idempotency.reconcile.not_executed"),
    ] {
        let text = format!(
            "[idempotency]\non_unknown = \"reconcile\"\n[idempotency.reconcile]\n{settings}"
        );
        let error = error(&text);
        assert!(error.starts_with(missing), "{error}");
    }
}

#[test]
fn a_connection_has_less_time_than_its_response() {
    let two = "urls = [\"http://a:1\", \"http://b:1\"]";
    for (response, more, connect) in [
        ("60s", "", "5s"),
        ("4s", "", "2s"),
        ("4s", two, "1s"),
        ("9s", "connect_timeout = \"8s\"", "8s"),
    ] {
        let text = format!("[upstream]\nresponse_timeout = \"{response}\"\n{more}");
        let config = Config::load(&Sources::text(&text)).unwrap();
        let connect = humantime::parse_duration(connect).unwrap();
        assert_eq!(config.routes[0].upstream.connect_timeout, connect, "{response} {more}");
    }
    // What is said for all routes is no contradiction to what one of them says.
    let text = "[upstream]\nconnect_timeout = \"5s\"\n[[route]]\npath = \"/quick\"\n\
                upstream.response_timeout = \"3s\"";
    let config = Config::load(&Sources::text(text)).unwrap();
    assert_eq!(config.routes[0].upstream.connect_timeout, Duration::from_millis(1500));
}
