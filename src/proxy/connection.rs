//! A client's connection, from its start to its end.
//!
//! Most connections wait: for their first byte, or for another request of a client that
//! keeps its connection. One that waits is a socket and a small task. What serves HTTP
//! on it, with two buffers of 8 KiB, is made when bytes arrive and given up a moment
//! ([`REST`](super::inbound::REST)) after the last answer.
//!
//! 1. Nothing that the client has sent is lost. What the library has read of a next
//!    request is taken back from it, and read once more.
//! 2. A connection rests between two requests and never inside one: the last body was
//!    read to its end, and the last answer has been handed to the system.
//! 3. A connection that has spoken HTTP/1 goes on with HTTP/1.
//! 4. `server.idle_timeout` counts from the last answer, through the rest.
//! 5. Somebody who does not read, or sends the longest head there may be, holds buffers of
//!    [`MAX_HEAD`] and no more.

use std::{convert::Infallible, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use http::{HeaderValue, StatusCode, header::CONNECTION};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    headers::Peer,
    http2,
    inbound::Paced,
    link::Limits,
    pace::MAX_HEAD,
    pipeline::Pipeline,
    preface::{self, Rewound, Spoken},
    sending::Sending,
    tunnel::Switched,
    turn::Turns,
};
use crate::{
    closing::Closing,
    mutants::{Mutant, is_active},
};

/// How long a client may go on sending what nobody takes any more.
const LINGER: Duration = Duration::from_secs(2);

/// Who is served, and how.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) peer: Arc<Peer>,
    pub(super) limits: Limits,
    /// Whether the client may speak HTTP/2.
    pub(super) http2: bool,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) closing: Closing,
}

/// A connection that is not served any more, or not for now.
enum Left {
    /// It has ended.
    Ended,
    /// It rests between two requests of HTTP/1.
    Resting {
        io: Rewound<TcpStream>,
        /// When it had nothing more to do.
        since: Instant,
    },
    /// It speaks another protocol from now on.
    Switched(Switched),
}

impl Client {
    /// Serves a connection until it ends, becomes a tunnel, or is idle after `closing`.
    pub(super) async fn serve(self, stream: TcpStream) -> Option<Switched> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        let since = Instant::now();
        if !self.begins(&stream, since).await {
            return None;
        }
        // Boxed, so that a connection that waits does not hold room for what serves it.
        let mut left = Box::pin(self.first(stream, since)).await;
        loop {
            let (io, since) = match left {
                Left::Ended => return None,
                Left::Switched(switched) => return Some(switched),
                Left::Resting { io, since } => (io, since),
            };
            if io.is_read() && !self.begins(io.get_ref(), since).await {
                return None;
            }
            left = Box::pin(self.http1(io, since)).await;
        }
    }

    /// Waits for the next byte, without room for it. False when none came in time.
    async fn begins(&self, stream: &TcpStream, since: Instant) -> bool {
        tokio::select! {
            // What has arrived before a shutdown is served.
            biased;
            // An error is met again by the one who reads.
            _ = stream.readable() => true,
            () = self.closing.begun() => false,
            () = tokio::time::sleep_until(since + self.limits.idle_timeout) => {
                tracing::debug!("no request came for too long (server.idle_timeout)");
                false
            }
        }
    }

    /// Serves the version that the first bytes are of.
    async fn first(&self, stream: TcpStream, since: Instant) -> Left {
        if !self.http2 {
            return self.http1(Rewound::untouched(stream), since).await;
        }
        let Limits { idle_timeout, head_timeout } = self.limits;
        let decided = tokio::select! {
            biased;
            decided = preface::decide(stream, idle_timeout, head_timeout) => decided,
            () = self.closing.begun() => return Left::Ended,
        };
        match decided {
            Ok((Spoken::Http1, io)) => self.http1(io, since).await,
            // Boxed, so that the many connections of HTTP/1 do not hold room for it.
            Ok((Spoken::Http2, io)) => {
                let (peer, pipeline) = (Arc::clone(&self.peer), Arc::clone(&self.pipeline));
                let (closing, io) = (self.closing.clone(), Sending::new(io, idle_timeout));
                Box::pin(http2::serve(io, peer, self.limits, pipeline, closing)).await;
                Left::Ended
            }
            Err(error) => {
                tracing::debug!(%error, "a client connection ended before it began");
                Left::Ended
            }
        }
    }

    /// Serves HTTP/1 until the connection ends, rests, or speaks something else.
    async fn http1(&self, io: Rewound<TcpStream>, since: Instant) -> Left {
        let io = Sending::new(io, self.limits.idle_timeout);
        let (io, pace) = Paced::new(io, self.limits, since, &self.closing);
        let exchanges = &pace;
        let service = service_fn(|request| {
            let handled = self.pipeline.handle(request, &self.peer, exchanges);
            async move {
                let mut response = handled.await;
                // What follows a switch is no request.
                let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if self.closing.has_begun() && !switches {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        // Head and body are copied into one piece: for what is small, the system takes longer
        // to gather two than it takes to copy both.
        let mut connection = http1::Builder::new()
            .writev(false)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service);
        let mut turns = Turns::new(pace.clone());
        let ended = poll_fn(|cx| match turns.take(cx, |cx| Pin::new(&mut connection).poll(cx)) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if pace.is_resting() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        let ended = ended.await;
        let is_refused = match &ended {
            Some(Err(error)) => {
                tracing::debug!(%error, "a client connection ended");
                error.is_parse()
            }
            _ => !pace.has_read_all(),
        };
        let is_broken = matches!(ended, Some(Err(_)));
        let parts = connection.into_parts();
        let (io, since) = parts.io.into_inner().into_parts();
        let io = io.into_inner();
        if ended.is_none() {
            let ahead = without_empty_lines(&parts.read_buf);
            let io = if is_active(Mutant::ForgetReadAhead) { io } else { io.unread(ahead) };
            return Left::Resting { io, since };
        }
        match pace.switched() {
            Some(tunnel) if !is_broken => {
                Left::Switched(Switched { tunnel, client: io.unread(&parts.read_buf) })
            }
            _ => {
                if is_refused && !is_active(Mutant::HangUp) {
                    Box::pin(linger(io)).await;
                }
                Left::Ended
            }
        }
    }
}

/// Ends a connection whose client may not have read its answer yet and still sends. If what
/// it sends met a closed socket, the system would take the answer away from it (RFC 9112, 9.6).
async fn linger(mut io: Rewound<TcpStream>) {
    let end = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io, &mut tokio::io::sink()).await
    };
    // Whoever goes on for longer, or is gone, has had his chance.
    let _ = timeout(LINGER, end).await;
}

/// Some clients send an empty line after a body; it begins no request (RFC 9112, 2.2).
fn without_empty_lines(mut ahead: &[u8]) -> &[u8] {
    while let Some(rest) = ahead.strip_prefix(b"\r\n") {
        ahead = rest;
    }
    ahead
}
