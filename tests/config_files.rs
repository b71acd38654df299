//! Every file in `config/` loads, and the reference says what is true.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use oncegate::config::{Config, Sources};

fn load(name: &str) -> Config {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    Config::load(&Sources::file(path).unwrap()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_example_loads() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    assert!(names.len() >= 2, "{names:?}");
    names.iter().for_each(|name| drop(load(name)));
}

#[test]
fn the_reference_is_the_default() {
    assert_eq!(load("oncegate.toml").effective(), Config::default().effective());
}

/// Every setting that exists stands in the reference, as a setting or in a comment.
#[test]
fn the_reference_is_complete() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/oncegate.toml");
    let reference = std::fs::read_to_string(path).unwrap();
    let everything = r#"
        server.trusted_proxies = ["10.0.0.0/8"]
        server.threads = 2
        admin.token_file = "/token"
        upstream.total_timeout = "1m"
        [idempotency]
        on_conflict = "wait"
        on_unknown = "reconcile"
        reconcile.request = "GET /x/{key}"
        reconcile.executed = { status = [200], json = "/0", equals = 1 }
        reconcile.not_executed = { status = [404] }
        replay_status = 208
        [[route]]
        path = "/x"
        host = "x"
    "#;
    let effective = Config::load(&Sources::text(everything)).unwrap().effective();
    let effective: toml::Table = toml::from_str(&effective).unwrap();
    let mut names = Vec::new();
    collect(&toml::Value::Table(effective), &mut names);
    for name in names {
        assert!(reference.contains(&name), "`{name}` is not in config/oncegate.toml");
    }
}

fn collect(value: &toml::Value, names: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                names.push(name.clone());
                collect(value, names);
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

#[test]
fn the_payment_example_takes_both_headers_and_requires_one() {
    let config = load("payments.toml");
    let route = config.routes.iter().find(|route| route.path == "/payments").unwrap();
    let policy = route.policy.as_ref().unwrap();
    let sources: Vec<_> = policy.keys.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["header:idempotency-key", "header:payment-idempotence-key"]);
    assert!(policy.require_key);
}
