//! A healthy backend with a keep-alive limit, and requests that come around it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout_at},
};

use super::{
    backend,
    client::{Connection, post},
    gate::Process,
};

/// After what an unused connection is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How long the news of a closed connection takes: what arrives meanwhile is lost.
const LATENCY: Duration = Duration::from_millis(15);

/// How many requests run at once, each on a connection of its own.
const WAVE: usize = 250;

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub requests: usize,
    pub unknown: usize,
    /// Unknown though no byte of it was sent to the backend.
    pub unknown_and_never_received: usize,
    pub doubled: usize,
    pub connections: usize,
}

#[derive(Default)]
struct Service {
    executed: Mutex<HashMap<String, usize>>,
    /// Requests that came to a connection that was closed already.
    too_late: AtomicUsize,
    connections: AtomicUsize,
}

impl Service {
    async fn serve(&self, mut stream: TcpStream) {
        self.connections.fetch_add(1, Relaxed);
        let mut buffer = Vec::new();
        let mut closes = Instant::now() + KEEP_ALIVE;
        loop {
            // The limit is for the time between two requests, not for reading one.
            if timeout_at(closes, stream.readable()).await.is_err() {
                sleep(LATENCY).await;
                if stream.try_read(&mut [0]).is_ok_and(|length| length > 0) {
                    self.too_late.fetch_add(1, Relaxed);
                }
                return;
            }
            let Some(request) = backend::read(&mut stream, &mut buffer).await else { return };
            let key = request.header("idempotency-key").unwrap_or_default().to_owned();
            *self.executed.lock().unwrap().entry(key).or_default() += 1;
            // All of a wave are here at once, so that each has its own connection.
            sleep(Duration::from_millis(40)).await;
            let response = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(response).await.is_err() {
                return;
            }
            closes = Instant::now() + KEEP_ALIVE;
        }
    }
}

/// Sends `requests` in waves whose distance is about the backend's limit.
pub async fn run(requests: usize, seed: u64) -> Report {
    let mut random = fastrand::Rng::with_seed(seed);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = Arc::new(Service::default());
    let serving = Arc::clone(&service);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = Arc::clone(&serving);
            tokio::spawn(async move { service.serve(stream).await });
        }
    });
    let gate = Process::start("memory:", &url, None);
    let mut report = Report { requests, ..Report::default() };
    let mut clients = Vec::new();
    for _ in 0..WAVE.min(requests) {
        clients.push(Connection::open(gate.address).await);
    }
    for wave in 0..requests.div_ceil(WAVE) {
        let number = WAVE.min(requests - wave * WAVE);
        let sent = clients.drain(..number).enumerate().map(|(lane, mut client)| {
            let key = format!("{wave}-{lane}");
            // Fifty milliseconds to either side of the limit.
            let after = Duration::from_millis(random.u64(0..100));
            tokio::spawn(async move {
                sleep(after).await;
                client.write(&post("/pay", &key, "pay")).await;
                let answer = client.answer().await.expect("every request is answered");
                (key, answer, client)
            })
        });
        let sent: Vec<_> = sent.collect();
        for exchange in sent {
            let (key, answer, client) = exchange.await.unwrap();
            clients.push(client);
            if answer.status != 201 {
                assert_eq!(answer.problem(), "outcome-unknown", "{answer:?}");
                report.unknown += 1;
                let executed = service.executed.lock().unwrap().contains_key(&key);
                report.unknown_and_never_received += usize::from(!executed);
            }
        }
        sleep(KEEP_ALIVE - Duration::from_millis(100)).await;
    }
    // What arrived at a connection that was closing has been sent.
    let too_late = service.too_late.load(Relaxed);
    report.unknown_and_never_received = report.unknown_and_never_received.saturating_sub(too_late);
    report.doubled = service.executed.lock().unwrap().values().filter(|times| **times > 1).count();
    report.connections = service.connections.load(Relaxed);
    report
}
