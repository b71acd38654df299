//! Clients that retry, and what they saw.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::fleet::Fleet;
use crate::support::client::{Answer, Connection, post};

/// Within what every attempt ends, however ill everything is.
pub const LIMIT: Duration = Duration::from_secs(10);

/// How often a client tries before it leaves a key for later.
const ATTEMPTS: usize = 12;

/// Attempts by what came of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub executed: usize,
    pub replayed: usize,
    pub conflict: usize,
    pub unknown: usize,
    pub unavailable: usize,
    pub released: usize,
    pub broken: usize,
    /// Keys whose last word is that nobody knows.
    pub unknown_keys: usize,
}

/// What a key has come to.
#[derive(Clone, Debug)]
enum Known {
    Open,
    Recorded(Vec<u8>),
    Unknown,
}

/// What all clients saw.
#[derive(Debug, Default)]
pub struct History(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    keys: HashMap<String, Known>,
    tally: Tally,
    violations: Vec<String>,
}

/// Whether to go on with a key.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Again,
    Enough,
}

impl History {
    pub fn tally(&self) -> Tally {
        let seen = self.seen();
        let unknown = seen.keys.values().filter(|known| matches!(known, Known::Unknown));
        Tally { unknown_keys: unknown.count(), ..seen.tally.clone() }
    }

    pub fn keys(&self) -> usize {
        self.seen().keys.len()
    }

    pub fn violations(&self) -> Vec<String> {
        self.seen().violations.clone()
    }

    /// Keys with an answer that stands for no execution.
    pub fn recorded_but_not_in(&self, ledger: &HashMap<String, usize>) -> Vec<String> {
        let seen = self.seen();
        let recorded = seen.keys.iter().filter(|(_, known)| matches!(known, Known::Recorded(_)));
        let phantoms = recorded.filter(|(key, _)| !ledger.contains_key(*key));
        phantoms.map(|(key, _)| format!("{key}: answered and never executed")).collect()
    }

    fn open(&self) -> Vec<String> {
        let seen = self.seen();
        let open = seen.keys.iter().filter(|(_, known)| matches!(known, Known::Open));
        open.map(|(key, _)| key.clone()).collect()
    }

    fn begin(&self, key: &str) {
        self.seen().keys.insert(key.to_owned(), Known::Open);
    }

    /// Notes how an attempt ended.
    fn note(&self, key: &str, attempt: Attempt) -> Next {
        let mut seen = self.seen();
        let Seen { keys, tally, violations } = &mut *seen;
        let known = keys.get_mut(key).expect("begun");
        let answer = match attempt {
            Attempt::Answered(answer) => answer,
            Attempt::Broken => {
                tally.broken += 1;
                return Next::Again;
            }
            Attempt::Late => {
                violations.push(format!("{key}: no answer within {LIMIT:?}"));
                return Next::Enough;
            }
        };
        match answer.status {
            201 => {
                if answer.header("idempotent-replayed").is_empty() {
                    tally.executed += 1;
                } else {
                    tally.replayed += 1;
                }
                match known {
                    Known::Recorded(body) if *body != answer.body => {
                        violations.push(format!("{key}: two answers: {body:?}, {answer:?}"));
                    }
                    // Not recorded when it left: it may yet become an unknown outcome.
                    _ if answer.header("cache-status").contains("stored=?0") => {
                        return Next::Again;
                    }
                    Known::Open | Known::Unknown | Known::Recorded(_) => {
                        *known = Known::Recorded(answer.body);
                    }
                }
                return Next::Enough;
            }
            429 => tally.released += 1,
            409 | 502 | 503 | 504 => match &*answer.problem() {
                "key-in-use" => tally.conflict += 1,
                "outcome-unknown" => {
                    tally.unknown += 1;
                    if matches!(known, Known::Recorded(_)) {
                        violations.push(format!("{key}: recorded, and then unknown"));
                    }
                    *known = Known::Unknown;
                    return Next::Enough;
                }
                "store-unavailable" | "upstream-unreachable" | "shutting-down" => {
                    tally.unavailable += 1;
                }
                other => violations.push(format!("{key}: {other}")),
            },
            _ => violations.push(format!("{key}: {answer:?}")),
        }
        Next::Again
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }
}

/// How an attempt ended.
enum Attempt {
    Answered(Answer),
    /// The connection could not be made, or ended before the answer.
    Broken,
    /// Not at all.
    Late,
}

/// A client with a connection that it keeps as long as it can.
pub struct Client {
    number: usize,
    random: fastrand::Rng,
    fleet: Arc<Fleet>,
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    kept: Option<(SocketAddr, Connection)>,
}

impl Client {
    pub fn new(
        number: usize,
        seed: u64,
        fleet: &Arc<Fleet>,
        history: &Arc<History>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        Self {
            number,
            random: fastrand::Rng::with_seed(seed),
            fleet: Arc::clone(fleet),
            history: Arc::clone(history),
            stop: Arc::clone(stop),
            kept: None,
        }
    }

    /// One key after the other; some are asked for again when they are done.
    pub async fn shop(mut self) {
        for order in 0.. {
            if self.stop.load(Relaxed) {
                return;
            }
            let key = format!("{}-{order}", self.number);
            self.history.begin(&key);
            for attempt in 0..ATTEMPTS {
                let gate = self.random.usize(0..self.fleet.len());
                let ended = self.attempt(gate, &key).await;
                let next = self.history.note(&key, ended);
                if next == Next::Enough && self.random.u8(0..4) > 0 {
                    break;
                }
                let pause = self.random.u64(0..10 << attempt.min(4));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    async fn attempt(&mut self, gate: usize, key: &str) -> Attempt {
        let Some(address) = self.fleet.address(gate) else { return Attempt::Broken };
        let kept = self.kept.take().filter(|(peer, _)| *peer == address);
        let exchange = async {
            let mut connection = match kept {
                Some((_, connection)) => connection,
                None => Connection::try_open(address).await?,
            };
            if !connection.try_write(&post("/pay", key, key)).await {
                return None;
            }
            let answer = connection.answer().await?;
            Some((answer, connection))
        };
        match tokio::time::timeout(LIMIT, exchange).await {
            Ok(Some((answer, connection))) => {
                if answer.header("connection") != "close" {
                    self.kept = Some((address, connection));
                }
                Attempt::Answered(answer)
            }
            Ok(None) => Attempt::Broken,
            Err(_) => Attempt::Late,
        }
    }
}

/// Asks for every key that is still open until it is answered for good.
pub async fn settle(fleet: &Arc<Fleet>, history: &Arc<History>) {
    let until = Instant::now() + Duration::from_secs(30);
    let mut client = Client::new(0, 0, fleet, history, &Arc::default());
    loop {
        let open = history.open();
        if open.is_empty() {
            break;
        }
        if Instant::now() > until {
            let mut seen = history.seen();
            seen.violations.extend(open.iter().map(|key| format!("{key}: never answered")));
            break;
        }
        for key in open {
            let gate = client.random.usize(0..fleet.len());
            let ended = client.attempt(gate, &key).await;
            history.note(&key, ended);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
