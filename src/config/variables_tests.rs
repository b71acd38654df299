use std::time::Duration;

use super::{super::StoreUrl, *};
use crate::engine::policy::OnUnknown;

fn environment(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(&Sources::text(text).environment(variables))
}

#[test]
fn a_variable_goes_over_what_it_excludes_in_the_file() {
    let several = "[upstream]\nurls = [\"http://a\", \"http://b\"]";
    let config = environment(several, &[("ONCEGATE_UPSTREAM__URL", "http://c")]).unwrap();
    assert_eq!(config.routes[0].upstream.urls, ["http://c".parse().unwrap()]);
    let one = "[upstream]\nurl = \"http://a\"";
    let config = environment(one, &[("ONCEGATE_UPSTREAM__URLS", "[\"http://b\"]")]).unwrap();
    assert_eq!(config.routes[0].upstream.urls, ["http://b".parse().unwrap()]);
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let config = environment(
        "[store]\nurl = \"memory:\"\n[server]\nlisten = \"127.0.0.1:1\"",
        &[
            ("ONCEGATE_STORE__URL", "redis://cache:6379"),
            ("ONCEGATE_STORE__HASH_SECRET", "12345"),
            ("ONCEGATE_STORE__PAGE_CACHE", "1MiB"),
            ("ONCEGATE_IDEMPOTENCY__KEYS", r#"["header:X-Id", "json:/id"]"#),
            ("ONCEGATE_IDEMPOTENCY__RETENTION", "1h"),
            ("ONCEGATE_IDEMPOTENCY__REQUIRE_KEY", "true"),
            ("ONCEGATE_IDEMPOTENCY__REPLAY_STATUS", "208"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    assert_eq!(config.store.url, StoreUrl::Redis("redis://cache:6379".to_owned()));
    assert_eq!(config.store.hash_secret, "12345");
    assert_eq!(config.store.page_cache, Some(1 << 20));
    let policy = config.routes[0].policy.as_ref().unwrap();
    assert_eq!((policy.keys.len(), policy.retention), (2, Duration::from_secs(3600)));
    assert!(policy.require_key && policy.replay_status.unwrap() == 208);
    assert_eq!(config.server.listen.port(), 1);

    let overrides = Overrides { store: Some("memory:".to_owned()), ..Overrides::default() };
    let sources =
        Sources::text("").environment([("ONCEGATE_STORE__URL".to_owned(), "redis://x".to_owned())]);
    assert_eq!(Config::load(&sources.overrides(overrides)).unwrap().store.url, StoreUrl::Memory);
}

#[test]
fn the_members_of_a_table_come_one_by_one() {
    for (executed, equals) in [
        (&[("", "{ status = [200], json = \"/0/state\", equals = \"paid\" }")][..], true),
        (&[("__STATUS", "[200]")], false),
        (&[("__EQUALS", "paid"), ("__JSON", "/0/state"), ("__STATUS", "[200]")], true),
    ] {
        let mut variables = vec![
            ("ON_UNKNOWN".to_owned(), "reconcile"),
            ("RECONCILE__REQUEST".to_owned(), "GET /payments/{key}"),
            ("RECONCILE__NOT_EXECUTED__STATUS".to_owned(), "[404]"),
        ];
        let executed =
            executed.iter().map(|(end, value)| (format!("RECONCILE__EXECUTED{end}"), *value));
        variables.extend(executed);
        let variables: Vec<_> = variables
            .into_iter()
            .map(|(name, value)| (format!("ONCEGATE_IDEMPOTENCY__{name}"), value.to_owned()))
            .collect();
        let config = Config::load(&Sources::text("").environment(variables)).unwrap();
        let policy = config.routes[0].policy.as_ref().unwrap();
        let OnUnknown::Reconcile(reconcile) = &policy.on_unknown else { panic!("{policy:?}") };
        assert_eq!(reconcile.executed.status, [200]);
        assert_eq!(reconcile.executed.equals.is_some(), equals);
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, parts) in [
        ("ONCEGATE_IDEMPOTENCY__KEYS", "[\"cookie:x\"]", &["KEYS", "no key source"][..]),
        (
            "ONCEGATE_IDEMPOTENCY__FINGERPRINT",
            "{ bdy = \"json\" }",
            &["FINGERPRINT", "did you mean `body`?"],
        ),
        ("ONCEGATE_STORE__URI", "memory:", &["ONCEGATE_STORE__URI", "did you mean `url`?"][..]),
        ("ONCEGATE_STROE__URL", "memory:", &["ONCEGATE_STROE__URL", "did you mean `store`?"]),
        ("ONCEGATE_IDEMPOTENCY__LEASE", "soon", &["ONCEGATE_IDEMPOTENCY__LEASE", "no duration"]),
    ] {
        let error = environment("", &[(name, value)]).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn what_kubernetes_says_of_services_is_no_setting() {
    let links = [
        ("ONCEGATE_SERVICE_HOST", "10.0.0.11"),
        ("ONCEGATE_SERVICE_PORT_ADMIN", "9901"),
        ("ONCEGATE_PORT", "tcp://10.0.0.11:8080"),
        ("ONCEGATE_PORT_8080_TCP_ADDR", "10.0.0.11"),
        ("ONCEGATE_REDIS_PORT_6379_TCP", "tcp://10.0.0.12:6379"),
    ];
    let config = environment("", &[&links[..], &[("ONCEGATE_STORE__URL", "memory:")]].concat());
    assert_eq!(config.unwrap().store.url, StoreUrl::Memory);
    for name in ["ONCEGATE_SERVER_PORT", "ONCEGATE_STORE_URL"] {
        let error = environment("", &[(name, "8080")]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
