//! Connections that change their protocol: bytes both ways, nothing else.

use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

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

    /// Joins both sides, when HTTP has ended on the client's and left `client`.
    pub(crate) async fn join(self, mut client: impl AsyncRead + AsyncWrite + Unpin) {
        match self.client.await {
            // The library's word for a connection that was switched and is not in its hands.
            Err(error) if error.is_user() => {}
            Err(error) => return tracing::debug!(%error, "a tunnel did not open"),
            Ok(_) => return,
        }
        let upstream = match self.upstream.await {
            Ok(upstream) => upstream,
            Err(error) => return tracing::debug!(%error, "a tunnel did not open"),
        };
        let mut upstream = TokioIo::new(upstream);
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
            tracing::debug!(%error, "a tunnel ended");
        }
    }
}
