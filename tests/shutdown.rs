//! What a shutdown waits for, what it does not, and what becomes of tunnels.

#![cfg(feature = "proxy")]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::time::{Duration, Instant};

use support::{
    backend::Backend,
    client::{Connection, post, post_with, send},
    eventually,
    gate::{Gate, Process, both},
    http2::{self, Client},
    patience,
    scripted::{Peer, SWITCH, Service},
    within,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

/// A tunnel through a gate: both of its ends.
async fn tunnel(gate: &Gate, service: &Service) -> (Peer, Peer) {
    let mut client = Peer::new(TcpStream::connect(gate.address).await.unwrap());
    client
        .write(b"GET /socket HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    let mut server = service.accept().await;
    server.head().await;
    server.write(SWITCH).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    (client, server)
}

/// Something there and something back.
async fn echo((client, server): &mut (Peer, Peer)) {
    client.write(b"ping").await;
    server.until("ping").await;
    server.write(b"pong").await;
    client.until("pong").await;
}

/// How long what has ended may take to be told: nothing may need it.
const MOMENT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn exchanges_without_a_key_are_finished() {
    within(MOMENT, end_of_exchanges).await;
}

/// How long the end takes after exchanges that take longer than that moment.
async fn end_of_exchanges() -> Duration {
    let (backend, mut gate) = both("").await;
    let client = Client::open(gate.address).await;
    let address = gate.address;
    let by_http1 =
        tokio::spawn(async move { send(address, &post_with("/slow/3000", &[], "1")).await });
    let by_http2 = client.send(http2::head("/slow/3000", &[]), b"2");
    let stopping = async {
        eventually("both run", async || backend.count() == 2).await;
        gate.begin_stop();
    };
    let (by_http2, ()) = tokio::join!(by_http2, stopping);
    assert_eq!((by_http1.await.unwrap().text(), by_http2.text()), ("1", "2"));
    let begin = Instant::now();
    assert_eq!(gate.stop().await, 0);
    begin.elapsed()
}

#[tokio::test]
async fn the_drain_has_an_end_for_everybody() {
    let (backend, mut gate) = both("[server]\ndrain = \"300ms\"").await;
    let mut client = Connection::open(gate.address).await;
    client.write(&post_with("/hang", &[], "")).await;
    eventually("it runs", async || backend.count() == 1).await;
    gate.begin_stop();
    let begin = Instant::now();
    assert_eq!(timeout(patience(), gate.stop()).await.expect("it ends"), 0);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(client.answer().await.is_none());
}

/// SIGTERM once finishes what runs, twice gives it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_drain() {
    let backend = Backend::start().await;
    let gate = Process::start("memory:", &backend.url(), None);
    let address = gate.address;
    let keyed = tokio::spawn(async move { send(address, &post("/hang", "k", "")).await });
    let mut unkeyed = Connection::open(address).await;
    unkeyed.write(&post_with("/hang", &[], "")).await;
    eventually("both run", async || backend.count() == 2).await;
    let begin = Instant::now();
    gate.ask_to_stop();
    eventually("it listens no more", async || TcpStream::connect(address).await.is_err()).await;
    let stopped = tokio::task::spawn_blocking(move || gate.terminate());
    let stopped = timeout(patience(), stopped).await.expect("it does not wait for the end");
    assert_eq!(stopped.unwrap(), 0);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(keyed.await.unwrap().problem(), "outcome-unknown");
    assert!(unkeyed.answer().await.is_none());
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_among_the_connections() {
    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "[server]\nmax_connections = 1").await;
    let mut tunnel = tunnel(&gate, &service).await;
    let next = async move { (self::tunnel(&gate, &service).await, gate, service) };
    let mut next = tokio::spawn(next);
    for _ in 0..10 {
        let early = timeout(Duration::from_millis(50), &mut next).await;
        assert!(early.is_err(), "another one was served beside it");
        echo(&mut tunnel).await;
    }
    drop(tunnel);
    let (mut next, _gate, _service) =
        timeout(patience(), next).await.expect("there is room again").unwrap();
    echo(&mut next).await;
}

/// A client that vanishes without a word would keep its place.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_client_of_a_tunnel_is_asked_for_a_sign_of_life() {
    use support::sockets::linux::Socket;

    let service = Service::start().await;
    let gate = Gate::start(&service.url(), "").await;
    let mut tunnel = tunnel(&gate, &service).await;
    echo(&mut tunnel).await;
    let client = tunnel.0.stream.local_addr().unwrap();
    eventually("the timer for it runs", async || {
        Socket::find(gate.address, client).unwrap().timer == 2
    })
    .await;
}

/// It holds nothing up, goes on as long as anything else does, and ends without a reset.
#[tokio::test]
async fn a_tunnel_ends_with_the_gate() {
    within(MOMENT, end_of_a_tunnel).await;
}

/// How long the end takes when nothing else runs any more.
async fn end_of_a_tunnel() -> Duration {
    let (service, backend) = (Service::start().await, Backend::start().await);
    let settings = format!("[[route]]\npath = \"/gate\"\nupstream.url = \"{}\"", backend.url());
    let mut gate = Gate::start(&service.url(), &settings).await;
    let mut tunnel = tunnel(&gate, &service).await;
    let address = gate.address;
    let running = tokio::spawn(async move { send(address, &post("/gate/a", "k", "pay")).await });
    eventually("it runs", async || backend.count() == 1).await;
    gate.begin_stop();
    eventually("it listens no more", async || TcpStream::connect(address).await.is_err()).await;
    for _ in 0..5 {
        echo(&mut tunnel).await;
        sleep(Duration::from_millis(50)).await;
    }
    backend.open("a", 1);
    assert_eq!(running.await.unwrap().text(), "pay");
    let (mut client, mut server) = tunnel;
    let begin = Instant::now();
    tokio::join!(client.ends(), server.ends());
    // What is said to a side that is gone does not take back what it has said itself.
    client.write(b"bye").await;
    server.write(b"bye").await;
    drop((client, server));
    assert_eq!(timeout(patience(), gate.stop()).await.expect("nothing holds it up"), 0);
    begin.elapsed()
}
