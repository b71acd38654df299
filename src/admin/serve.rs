//! Serving operators: few connections, none of which keeps the others out.
//!
//! 1. The next head must have come, and an answer must be taken, within [`LIMIT`].
//! 2. There are [`PLACES`] places. When all are taken, the oldest connection makes room for the
//!    next, one that has no request under way if there is one.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    mutants::{Mutant, is_active},
    proxy::{Sending, rest_after},
};

/// How long a connection may be silent between two requests, within a head, or in taking an
/// answer: longer than probes and collectors wait between two questions.
const LIMIT: Duration = Duration::from_secs(75);

/// How many connections there may be.
const PLACES: usize = 64;

/// How long a head may be.
const MAX_HEAD: usize = 16 << 10;

/// Serves whoever connects, until `stop`.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut guests = Vec::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                make_room(&mut guests);
                guests.push(Guest::new(stream, router.clone(), stop.clone()));
            }
            Err(error) => rest_after(&error).await,
        }
    }
}

/// Sees to it that there is a place. The oldest is first.
fn make_room(guests: &mut Vec<Guest>) {
    guests.retain(|guest| !guest.task.is_finished());
    if guests.len() >= PLACES && !is_active(Mutant::KeepIdleOperators) {
        let idle = guests.iter().position(|guest| guest.busy.load(Ordering::Relaxed) == 0);
        guests.remove(idle.unwrap_or(0)).task.abort();
    }
}

/// A connection.
struct Guest {
    /// How many requests are under way; an answer that is made is the transport's.
    busy: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Guest {
    fn new<I>(io: I, router: Router, stop: CancellationToken) -> Self
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let busy = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(entertain(io, router, Arc::clone(&busy), stop));
        Self { busy, task }
    }
}

/// Serves one connection to its end. After `stop` it ends with the request that is under way.
async fn entertain<I>(io: I, router: Router, busy: Arc<AtomicUsize>, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let busy = Busy::begin(&busy);
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer as Result<_, Infallible>
        }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Sending::new(io, LIMIT)), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an operator's connection ended");
    }
}

/// A request that is under way.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn begin(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::Instant,
    };

    use super::*;

    /// Whatever a client has sent, and however it goes on, it is not waited for.
    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection() {
        let router = Router::new().route("/livez", get(|| async { "alive\n" }));
        let whole = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
        for (sent, answers) in [("", 0), ("GET /li", 0), (whole, 1), (&whole.repeat(2), 2)] {
            let (mut client, server) = duplex(4096);
            let guest = Guest::new(server, router.clone(), CancellationToken::new());
            client.write_all(sent.as_bytes()).await.unwrap();
            let begun = Instant::now();
            let mut read = String::new();
            client.read_to_string(&mut read).await.unwrap();
            assert_eq!(read.matches("alive").count(), answers, "{sent:?}");
            guest.task.await.unwrap();
            assert!(begun.elapsed() <= 2 * LIMIT, "{sent:?}");
        }
    }

    /// An answer that is not taken.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for() {
        let router = Router::new().route("/large", get(|| async { "x".repeat(1 << 20) }));
        let (mut client, server) = duplex(64);
        let guest = Guest::new(server, router, CancellationToken::new());
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        guest.task.await.unwrap();
    }
}
