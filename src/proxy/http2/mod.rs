//! HTTP/2 on the client's side, in clear text and with prior knowledge.
//!
//! `request` makes a head one that could have come by HTTP/1.1, so the rest of the
//! gate knows nothing of the version; `streams` counts what a connection has under
//! way, and hears from `pieces` what only waits for its client; `heads` limits how long
//! a head may take. An HTTP/1.1 connection is never upgraded to HTTP/2 (RFC 9113, 3.1).

mod heads;
mod pieces;
mod request;
mod streams;

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::Response;
use hyper::{server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use self::streams::Slot;
use self::{heads::Heads, pieces::Pieces, streams::Streams};
use super::{headers::Peer, link::Limits, pipeline::Pipeline};
use crate::{
    closing::Closing,
    engine::hop::strip_hop_by_hop,
    mutants::{Mutant, is_active},
};

/// How many streams a client may have open; no server should allow fewer (RFC 9113, 6.5.2).
const MAX_STREAMS: u32 = 100;

/// How many exchanges a connection may have under way, those that the client has
/// reset included. A client that gives up on a slow backend now and then stays
/// below; one that resets all it sends soon hears 503.
const MAX_UNDER_WAY: usize = 4 * MAX_STREAMS as usize;

/// How long a head may be, all streams' heads together 3 MiB. Cookies and tokens fit;
/// beyond it the library answers 431.
const MAX_HEAD: u32 = 32 << 10;

/// What may arrive unread on a stream, and on a connection. A stream that nobody
/// reads, because its upstream is slow, leaves room for the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a stream holds of an answer that its client does not read, whatever room the client
/// has made for it: 100 streams hold some 8 MiB. The library's 400 KiB would be 40 MiB.
const SEND_BUFFER: usize = 64 << 10;

/// How long a client may take to hang up after it was told to, if it may be idle so long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves one connection until it ends, or until nothing is under way after `closing`.
pub(crate) async fn serve<I>(
    io: I,
    peer: Arc<Peer>,
    limits: Limits,
    pipeline: Arc<Pipeline>,
    closing: Closing,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let streams = Streams::new();
    let begun = streams.clone();
    let service = service_fn(move |request| {
        let (pipeline, peer, stream) = (Arc::clone(&pipeline), Arc::clone(&peer), begun.begin());
        async move {
            let response = presentable(pipeline.handle(request, &peer, stream.slot()).await);
            Ok::<_, Infallible>(response.map(|body| Pieces::new(body, stream.answering())))
        }
    });
    let send_buffer = if is_active(Mutant::HoldWhatIsNotRead) { 400 << 10 } else { SEND_BUFFER };
    // The library's own limits stay: 1024 streams that were reset for their errors, and a
    // number of CONTINUATION frames that follows from the length of a head. Beyond them it
    // closes the connection. Its limit on streams that were reset before anybody saw them
    // (20) is raised: a client that gives up all its streams at one moment is no flood.
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_STREAMS as usize)
        .max_header_list_size(MAX_HEAD)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(send_buffer)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.head_timeout)
        .serve_connection(TokioIo::new(Heads::new(io, limits.head_timeout)), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => Some(served),
        () = closing.begun() => None,
        () = streams.quiet_for(limits.idle_timeout) => None,
        // One that is asked to leave first could stay for as long as it does not answer.
        () = streams.flooded() => {
            return tracing::debug!("most streams of a client were reset at once; it is sent away");
        }
    };
    let served = match served {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = &mut connection => served,
                () = streams.quiet_for(FAREWELL.min(limits.idle_timeout)) => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a client connection ended");
    }
}

/// Nothing in an answer may speak of a connection (RFC 9113, 8.2.2).
fn presentable<B>(mut response: Response<B>) -> Response<B> {
    strip_hop_by_hop(response.headers_mut());
    response
}
