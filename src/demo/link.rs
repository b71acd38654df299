//! The broken link: a TCP forwarder that resets connections.
//!
//! Each connection's [`Fate`] is drawn when it is accepted, from a seeded
//! generator per mapping: the n-th connection of a mapping has the same fate in
//! every run with that seed. A reset is a real one (RST, by `SO_LINGER` 0), on
//! both sides at once.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::part::{GRACE, Listening};

/// How often the link breaks, and the seed of its decisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odds {
    /// The share of connections that are reset before the request gets through.
    pub(crate) before: f64,
    /// The share of the others that are reset when the response comes.
    pub(crate) after: f64,
    /// The seed.
    pub(crate) seed: u64,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Reset on the first byte of the request; the target sees none of it.
    ResetBefore,
    /// Reset on the first byte of the response; the client sees none of it.
    ResetAfter,
    /// Forwarded both ways, half-close included.
    Forward,
}

/// How many connections the link has reset.
#[derive(Debug, Default)]
pub(crate) struct Resets {
    before: AtomicU64,
    after: AtomicU64,
}

/// The running link.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where it listens, in the order of the mappings.
    pub(crate) addrs: Vec<SocketAddr>,
    /// What it has broken.
    pub(crate) resets: Arc<Resets>,
    accepting: CancellationToken,
    forwarding: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Closed,
    Reset,
}

impl Link {
    /// Forwards each listener to its target, a `host:port`.
    pub(crate) fn start(maps: Vec<(Listening, String)>, odds: Odds) -> Self {
        let link = Self {
            addrs: maps.iter().map(|(listening, _)| listening.addr).collect(),
            resets: Arc::default(),
            accepting: CancellationToken::new(),
            forwarding: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        for (index, (Listening { listener, .. }, target)) in maps.into_iter().enumerate() {
            let draw = Draw { odds, rng: Rng::with_seed(odds.seed.wrapping_add(index as u64)) };
            let accepting = Mapping {
                target: target.into(),
                resets: Arc::clone(&link.resets),
                forwarding: link.forwarding.clone(),
                tasks: link.tasks.clone(),
            }
            .accept(listener, draw);
            let stop = link.accepting.clone();
            link.tasks.spawn(async move { stop.run_until_cancelled(accepting).await });
        }
        link
    }

    /// Accepts no more, lets connections finish for [`GRACE`], resets the rest.
    pub(crate) async fn stop(self) {
        self.accepting.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            self.forwarding.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.cancel();
        self.forwarding.cancel();
    }
}

impl Resets {
    /// Resets on the request.
    pub(crate) fn before(&self) -> u64 {
        self.before.load(Ordering::Relaxed)
    }

    /// Resets on the response.
    pub(crate) fn after(&self) -> u64 {
        self.after.load(Ordering::Relaxed)
    }
}

struct Draw {
    odds: Odds,
    rng: Rng,
}

impl Draw {
    fn fate(&mut self) -> Fate {
        if self.rng.f64() < self.odds.before {
            Fate::ResetBefore
        } else if self.rng.f64() < self.odds.after {
            Fate::ResetAfter
        } else {
            Fate::Forward
        }
    }
}

struct Mapping {
    target: Arc<str>,
    resets: Arc<Resets>,
    forwarding: CancellationToken,
    tasks: TaskTracker,
}

impl Mapping {
    async fn accept(self, listener: TcpListener, mut draw: Draw) {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                // Out of file descriptors, say: some will be closed by and by.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            };
            let fate = draw.fate();
            let target = Arc::clone(&self.target);
            let resets = Arc::clone(&self.resets);
            let forwarding = self.forwarding.clone();
            self.tasks.spawn(carry(client, target, fate, resets, forwarding));
        }
    }
}

async fn carry(
    mut client: TcpStream,
    target: Arc<str>,
    fate: Fate,
    resets: Arc<Resets>,
    forwarding: CancellationToken,
) {
    let Ok(mut server) = TcpStream::connect(&*target).await else {
        return reset(&client);
    };
    // Latency is not what this link is about; without these Nagle would add it.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let exchange = async {
        match fate {
            Fate::ResetBefore => first_request_byte(&mut client).await,
            Fate::ResetAfter => first_response_byte(&mut client, &mut server).await,
            Fate::Forward => {
                copy_bidirectional(&mut client, &mut server).await.map(|_| Ending::Closed)
            }
        }
    };
    let ending = forwarding.run_until_cancelled(exchange).await;
    let counter = match (fate, &ending) {
        (Fate::ResetBefore, Some(Ok(Ending::Reset))) => Some(&resets.before),
        (Fate::ResetAfter, Some(Ok(Ending::Reset))) => Some(&resets.after),
        (Fate::ResetBefore | Fate::ResetAfter | Fate::Forward, _) => None,
    };
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    if !matches!(ending, Some(Ok(Ending::Closed))) {
        // A side that failed is handed on as what it was, a broken connection.
        reset(&client);
        reset(&server);
    }
}

async fn first_request_byte(client: &mut TcpStream) -> io::Result<Ending> {
    Ok(match client.read(&mut [0]).await? {
        0 => Ending::Closed,
        _ => Ending::Reset,
    })
}

async fn first_response_byte(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<Ending> {
    let (mut client_in, _client_out) = client.split();
    let (mut server_in, mut server_out) = server.split();
    let request = async {
        copy(&mut client_in, &mut server_out).await?;
        server_out.shutdown().await?;
        std::future::pending::<io::Result<Ending>>().await
    };
    let mut byte = [0];
    tokio::select! {
        ended = request => ended,
        read = server_in.read(&mut byte) => Ok(match read? {
            0 => Ending::Closed,
            _ => Ending::Reset,
        }),
    }
}

/// Makes the close that follows a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // It fails only on a socket that has no peer any more.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
