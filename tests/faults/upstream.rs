//! Backends that hang up and backends that are late: rows 5 and 13.

use std::sync::{Arc, Mutex};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::{
    is_in_use, is_unknown, pay,
    support::{
        backend::{self, Backend},
        client::{Connection, post},
        eventually,
        gate::Process,
        redis::Server,
    },
};

/// What a backend does when a request arrives on a connection that it is closing.
#[derive(Clone, Copy, Debug)]
enum Closes {
    /// It never reads it.
    Unread,
    /// It executes it, and closes without a word.
    Executed,
}

/// A backend that answers the first request of its first connection, closes that
/// connection as the second one arrives, and serves every other one.
struct Stale {
    url: String,
    ledger: Arc<Mutex<Vec<String>>>,
}

impl Stale {
    async fn start(closes: Closes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ledger = Arc::new(Mutex::new(Vec::new()));
        let stale = Self { url, ledger: Arc::clone(&ledger) };
        tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            assert!(serve(&mut first, &ledger).await);
            match closes {
                Closes::Unread => first.readable().await.unwrap(),
                Closes::Executed => execute(&mut first, &ledger).await.map(drop).unwrap(),
            }
            first.set_zero_linger().unwrap();
            drop(first);
            loop {
                let (mut next, _) = listener.accept().await.unwrap();
                let ledger = Arc::clone(&ledger);
                tokio::spawn(async move { while serve(&mut next, &ledger).await {} });
            }
        });
        stale
    }

    fn executions(&self, key: &str) -> usize {
        self.ledger.lock().unwrap().iter().filter(|executed| *executed == key).count()
    }
}

async fn execute(stream: &mut TcpStream, ledger: &Mutex<Vec<String>>) -> Option<()> {
    let request = backend::read(stream, &mut Vec::new()).await?;
    ledger.lock().unwrap().push(request.header("idempotency-key")?.to_owned());
    Some(())
}

async fn serve(stream: &mut TcpStream, ledger: &Mutex<Vec<String>>) -> bool {
    execute(stream, ledger).await.is_some()
        && stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.is_ok()
}

async fn closed_as_the_request_arrives(closes: Closes, executed: usize) {
    let backend = Stale::start(closes).await;
    let gate = Process::start("memory:", &backend.url, None);
    let mut client = Connection::open(gate.address).await;
    assert_eq!(client.ask(&post("/pay", "warm", "pay")).await.status, 201);
    let first = client.ask(&post("/pay", "k", "pay")).await;
    assert_eq!((first.status, first.problem()), (502, "outcome-unknown".to_owned()));
    for _ in 0..3 {
        assert!(is_unknown(&pay(gate.address, "/pay", "k").await, "reset"));
    }
    assert_eq!(backend.executions("k"), executed, "{closes:?}");
    assert_eq!(pay(gate.address, "/pay", "next").await.status, 201, "other keys go on");
}

/// Row 5: bytes have left, so nobody can know, and nobody sends them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_as_the_request_arrives_unread() {
    closed_as_the_request_arrives(Closes::Unread, 0).await;
}

/// Row 5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_as_the_request_arrives_executed() {
    closed_as_the_request_arrives(Closes::Executed, 1).await;
}

/// Row 13. The client hears of the time-out; what the backend says after that is
/// recorded, for every gate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_by_more_than_the_time_out() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = "[upstream]\nresponse_timeout = \"1s\"\n";
    let [gate, other] =
        [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), settings));
    let first = pay(gate.address, "/gate/a", "k").await;
    assert_eq!((first.status, first.problem()), (504, "outcome-unknown".to_owned()));
    assert!(is_unknown(&pay(other.address, "/gate/a", "k").await, "timeout"));
    backend.open("a", 1);
    for gate in [&other, &gate] {
        eventually("the late response is replayed", async || {
            let retry = pay(gate.address, "/gate/a", "k").await;
            retry.status == 201 && retry.header("idempotent-replayed") == "true"
        })
        .await;
    }
    assert_eq!(backend.executions("k"), 1);
}

/// A backend that is slow, but not late: no time-out, and no second look at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_for_several_leases() {
    let (redis, backend) = (Server::start(&[]), Backend::start().await);
    let settings = "[upstream]\nresponse_timeout = \"10s\"\n[idempotency]\nlease = \"1500ms\"\n";
    let [gate, other] =
        [(); 2].map(|()| Process::configured(&redis.url(), &backend.url(), settings));
    let running = crate::spawn_pay(gate.address, "/slow/5000", "k");
    eventually("the backend has it", async || backend.count() == 1).await;
    eventually("it is recorded", async || {
        let duplicate = pay(other.address, "/slow/5000", "k").await;
        assert!(is_in_use(&duplicate) || duplicate.status == 201, "{duplicate:?}");
        duplicate.status == 201
    })
    .await;
    assert_eq!(running.await.unwrap().unwrap().text(), "pay");
    assert_eq!(backend.executions("k"), 1);
}
