//! Connections that change their protocol: bytes both ways, nothing else.
//!
//! A tunnel may take as long as it likes, and say nothing for as long. It has a place among
//! the connections that are served for as long as it lasts, so a client that is silent is asked
//! by TCP whether it is there. A tunnel ends with the gate: both sides hear that nothing more
//! comes, and what they send after that goes nowhere.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, ReadBuf, copy, copy_bidirectional, sink},
    net::TcpStream,
};
use tokio_util::task::TaskTracker;

use super::{closing::Watch, preface::Rewound, through::write_through};
use crate::{
    closing::Closing,
    mutants::{Mutant, is_active},
};

/// When a silent client is asked for a sign of life, and how often. With the nine times of
/// Linux one that has vanished is gone after less than four minutes.
const SIGN_OF_LIFE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(75)).with_interval(Duration::from_secs(15));

/// Both sides agreed to switch.
#[derive(Debug)]
pub(crate) struct Tunnel {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

impl Tunnel {
    /// The client's wish to switch.
    pub(crate) fn wish<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
        request.extensions_mut().remove()
    }

    /// A tunnel if the upstream agreed.
    pub(crate) fn agreed<B>(client: OnUpgrade, response: &mut Response<B>) -> Option<Self> {
        let agreed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        agreed.then(|| Self { client, upstream: hyper::upgrade::on(response) })
    }
}

/// A connection on which HTTP has ended, and that goes on as a tunnel.
#[derive(Debug)]
pub(super) struct Switched {
    pub(super) tunnel: Tunnel,
    pub(super) client: Rewound<TcpStream>,
}

impl Switched {
    /// Joins both sides, until they have ended or `ending` begins.
    async fn join(self, ending: &Closing) {
        let Self { tunnel, client } = self;
        match tunnel.client.await {
            // The library's word for a connection that was switched and is not in its hands.
            Err(error) if error.is_user() => {}
            Err(error) => return tracing::debug!(%error, "a tunnel did not open"),
            Ok(_) => return,
        }
        let upstream = match tunnel.upstream.await {
            Ok(upstream) => upstream,
            Err(error) => return tracing::debug!(%error, "a tunnel did not open"),
        };
        if let Err(error) = SockRef::from(client.get_ref()).set_tcp_keepalive(&SIGN_OF_LIFE) {
            tracing::debug!(%error, "TCP keep-alive was refused");
        }
        let mut client = Side::new(client, ending);
        let mut upstream = Side::new(TokioIo::new(upstream), ending);
        if let Err(error) = copy_bidirectional(&mut client, &mut upstream).await {
            return tracing::debug!(%error, "a tunnel ended");
        }
        if ending.has_begun() {
            // A side that is closed while something of it is unread is reset, and may lose
            // what it has not read itself.
            let (mut nowhere, mut nobody) = (sink(), sink());
            let _ = tokio::join!(
                copy(&mut client.io, &mut nowhere),
                copy(&mut upstream.io, &mut nobody),
            );
        }
    }
}

/// One side of a tunnel. It has nothing more to say once the end has begun.
struct Side<I> {
    io: I,
    ending: Watch,
}

impl<I> Side<I> {
    fn new(io: I, ending: &Closing) -> Self {
        Self { io, ending: Watch::new(ending) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Side<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.has_begun(cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

write_through!(Side);

/// The tunnels of a gate. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Tunnels {
    open: TaskTracker,
    ending: Closing,
}

impl Tunnels {
    /// Joins a tunnel, in a task of its own. `place` is held until it has ended.
    pub(super) fn open<P: Send + 'static>(&self, switched: Switched, place: P) {
        let place = if is_active(Mutant::ForgetTunnels) { None } else { Some(place) };
        let ending = self.ending.clone();
        self.open.spawn(async move {
            switched.join(&ending).await;
            drop(place);
        });
    }

    /// Ends all of them, and waits for that up to `limit`.
    pub(super) async fn end(&self, limit: Duration) {
        self.ending.begin();
        self.open.close();
        if tokio::time::timeout(limit, self.open.wait()).await.is_err() {
            tracing::warn!(left = self.open.len(), "tunnels were cut at the end of the shutdown");
        }
    }
}
