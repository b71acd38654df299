//! The real program under real signals.

#![cfg(all(feature = "proxy", feature = "embedded", feature = "demo"))]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::process::{Command, Output};

use support::{
    backend::Backend,
    client::{Connection, post, send, try_send},
    eventually,
    gate::Process,
    ports::Port,
};

fn oncegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oncegate")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A hundred requests run when the gate is killed. The next gate on the same
/// folder knows them all: nothing runs twice, and every key is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_no_claim() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().display());
    let gate = Process::start(&store, &backend.url(), None);
    for number in 0..20 {
        let answer = send(gate.address, &post("/pay", &format!("done-{number}"), "pay")).await;
        assert_eq!(answer.status, 201);
    }
    let address = gate.address;
    let run = |number: usize| {
        let request = post("/gate/slow", &format!("running-{number}"), "pay");
        tokio::spawn(async move { try_send(address, &request).await })
    };
    let mut running: Vec<_> = (0..99).map(run).collect();
    eventually("they run", async || backend.count() == 119).await;
    // The claim of the last one is a moment old when the gate dies.
    running.push(run(99));
    eventually("all hundred run", async || backend.count() == 120).await;
    gate.kill();
    for request in running {
        assert_eq!(request.await.unwrap(), None, "a killed gate answers nobody");
    }
    backend.open("slow", 1000);

    let gate = Process::start(&store, &backend.url(), None);
    for number in 0..100 {
        let key = format!("running-{number}");
        let retry = send(gate.address, &post("/gate/slow", &key, "pay")).await;
        assert_eq!(retry.status, 409);
        assert!(["key-in-use", "outcome-unknown"].contains(&&*retry.problem()), "{retry:?}");
        assert_eq!(backend.executions(&key), 1);
    }
    for number in 0..20 {
        let replay = send(gate.address, &post("/pay", &format!("done-{number}"), "pay")).await;
        assert_eq!((replay.status, replay.header("idempotent-replayed")), (201, "true"));
    }
    assert_eq!(backend.count(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_without_its_owner_is_an_unknown_outcome() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().join("data").display());
    let config = folder.path().join("gate.toml");
    let settings = "[upstream]\nresponse_timeout = \"3s\"\n[idempotency]\nlease = \"200ms\"\n";
    std::fs::write(&config, settings).unwrap();
    let gate = Process::start(&store, &backend.url(), Some(&config));
    let address = gate.address;
    let running = tokio::spawn(async move { try_send(address, &post("/hang", "k", "")).await });
    eventually("it runs", async || backend.count() == 1).await;
    gate.kill();
    assert_eq!(running.await.unwrap(), None);
    let gate = Process::start(&store, &backend.url(), Some(&config));
    eventually("the lease passes", async || {
        let retry = send(gate.address, &post("/hang", "k", "")).await;
        retry.problem() == "outcome-unknown" && retry.member("reason") == "owner_lost"
    })
    .await;
    assert_eq!(backend.executions("k"), 1);
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_0() {
    let backend = Backend::start().await;
    let gate = Process::start("memory:", &backend.url(), None);
    let address = gate.address;
    let running = tokio::spawn(async move { send(address, &post("/gate/a", "k", "pay")).await });
    eventually("it runs", async || backend.count() == 1).await;
    // The end of a terminal, or whoever expects a reload, ends nothing.
    gate.signal(rustix::process::Signal::HUP);
    let stopping = tokio::task::spawn_blocking(move || gate.terminate());
    eventually("it listens no more", async || {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    backend.open("a", 1);
    assert_eq!(running.await.unwrap().text(), "pay", "what runs is finished");
    assert_eq!(stopping.await.unwrap(), 0);
}

/// Each of them serves: connections go to the one that has the fewest.
#[tokio::test]
async fn there_are_as_many_threads_as_wanted() {
    let backend = Backend::start().await;
    let gate = Process::configured("memory:", &backend.url(), "[server]\nthreads = 3");
    let mut connections = Vec::new();
    for number in 0..6 {
        let mut connection = Connection::open(gate.address).await;
        connection.write(&post("/pay", &number.to_string(), "pay")).await;
        assert_eq!(connection.answer().await.unwrap().status, 201);
        connections.push(connection);
    }
    let names = std::fs::read_dir(format!("/proc/{}/task", gate.id())).unwrap().map(|thread| {
        std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap().trim().to_owned()
    });
    let mut serving: Vec<_> = names.filter(|name| name.starts_with("oncegate-")).collect();
    serving.sort();
    assert_eq!(serving, ["oncegate-0", "oncegate-1", "oncegate-2"]);
    assert_eq!(gate.terminate(), 0);

    let mut command = Command::new(env!("CARGO_BIN_EXE_oncegate"));
    let refused = command.arg("check").env("ONCEGATE_SERVER__THREADS", "0").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("nonzero"), "{}", said(&refused));
}

#[tokio::test]
async fn health_asks_the_gate() {
    let backend = Backend::start().await;
    let gate = Process::start("memory:", &backend.url(), None);
    assert!(oncegate(&["health", "--admin", &gate.admin.to_string()]).status.success());
    let admin = gate.admin.to_string();
    gate.kill();
    let output = oncegate(&["health", "--admin", &admin]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&admin));
}

/// As a container's health check does it, which has no token.
#[tokio::test]
async fn health_needs_no_token() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let settings = format!("[admin]\ntoken_file = {token:?}");
    let gate = Process::configured("memory:", &backend.url(), &settings);
    let output = oncegate(&["health", "--admin", &gate.admin.to_string()]);
    assert!(output.status.success(), "{}", said(&output));
}

/// Variables that are none of our settings, in an environment that need not be text.
#[test]
fn only_settings_in_the_environment_matter() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    let check = |variables: &[(&str, &[u8])]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oncegate"));
        command.arg("check");
        for (name, value) in variables {
            command.env(name, OsStr::from_bytes(value));
        }
        command.output().unwrap()
    };
    // A Service of Kubernetes that is named after the gate, and somebody's legacy text.
    let others = check(&[
        ("ONCEGATE_SERVICE_HOST", b"10.0.0.11"),
        ("ONCEGATE_SERVICE_PORT", b"8080"),
        ("ONCEGATE_PORT", b"tcp://10.0.0.11:8080"),
        ("ONCEGATE_PORT_8080_TCP_ADDR", b"10.0.0.11"),
        ("LEGACY", b"caf\xe9"),
    ]);
    assert!(others.status.success(), "{}", said(&others));
    for (name, value, why) in [
        ("ONCEGATE_STORE__URL", &b"file:caf\xe9"[..], "UTF-8"),
        ("ONCEGATE_SERVER_PORT", b"8080", "server_port"),
    ] {
        let output = check(&[(name, value)]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(name) && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn what_stops_a_start_is_one_clear_line() {
    let backend = Backend::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().display());
    let gate = Process::start(&store, &backend.url(), None);
    let free = Port::take();
    let (taken, free) = (gate.address.to_string(), free.address().to_string());
    let any = "127.0.0.1:0";
    let [tokens, config] = ["tokens", "gate.toml"].map(|name| folder.path().join(name));
    std::fs::write(&tokens, "0123456789abcdef\nfedcba9876543210\n").unwrap();
    std::fs::write(&config, format!("admin.token_file = {tokens:?}")).unwrap();
    let two_tokens = config.display().to_string();
    let cases = [
        (
            vec!["--listen", &taken, "--admin", &free, "--store", "memory:"],
            1,
            vec!["server.listen", &taken, "in use"],
        ),
        (
            vec!["--listen", &free, "--admin", &taken, "--store", "memory:"],
            1,
            vec!["admin.listen", &taken, "in use"],
        ),
        (
            vec!["--listen", &free, "--admin", &free, "--store", &store],
            1,
            vec!["store.url", "another"],
        ),
        (
            vec!["--listen", &free, "--store", "redis://127.0.0.1:1"],
            1,
            vec!["store.url", "127.0.0.1:1"],
        ),
        (vec!["--listen", &free, "--store", "mysql://x"], 2, vec!["store.url", "redis://"]),
        (
            vec!["--listen", &free, "--admin", "0.0.0.0:0", "--store", "memory:"],
            2,
            vec!["admin.listen", "token_file"],
        ),
        (vec!["--config", "/nowhere/gate.toml"], 2, vec!["/nowhere/gate.toml"]),
        (
            vec!["--config", &two_tokens, "--listen", any, "--admin", any, "--store", "memory:"],
            1,
            vec!["admin.token_file", "more than one token"],
        ),
    ];
    for (arguments, code, parts) in cases {
        let output = oncegate(&[&["serve"], &arguments[..]].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(!said.contains("Os {") && !said.contains("panicked"), "{said}");
    }
}

/// Linkers could leave the allocator's library out without a word.
#[test]
fn memory_comes_from_the_programs_own_allocator() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oncegate"));
    let output = command.arg("--version").env("MIMALLOC_SHOW_STATS", "1").output().unwrap();
    let said = said(&output);
    let peak = said.lines().find_map(|line| line.trim_start().strip_prefix("pages     :"));
    let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    assert!(peak.is_some_and(|pages| pages > 0), "no page of mimalloc was used: {said}");
}

#[test]
fn check_prints_what_is_in_force_or_where_it_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.toml");
    std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:7001\"\n").unwrap();
    let output = oncegate(&["check", "--config", file.to_str().unwrap()]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("127.0.0.1:7001"));
    std::fs::write(&file, "[server]\nlissten = \"127.0.0.1:7001\"\n").unwrap();
    let output = oncegate(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    for part in ["gate.toml", "line 2", "column 1", "did you mean `listen`?"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

/// With luck nothing would break, and no promise could be seen to be kept.
#[test]
fn the_demo_wants_enough_payments_to_tell_something() {
    let output = oncegate(&["demo", "--payments", "58"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--payments must be 59 or more"), "{}", said(&output));
}

/// The whole story, small: every round keeps its promise.
#[test]
fn the_demo_keeps_every_promise() {
    let output = oncegate(&["demo", "--payments", "120", "--seed", "11"]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(output.status.success(), "{table}");
    for part in
        ["no retries", "retries", "hold", "retry (208)", "reconcile", "Every promise was kept"]
    {
        assert!(table.contains(part), "{part} in {table}");
    }
}
