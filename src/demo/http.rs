//! One request on a connection of its own.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: Bytes,
}

/// Why there was no complete answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection broke, before the answer or in it.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The time was up.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
}

/// A request to `path`, ready for [`call`].
pub(crate) fn request(
    method: Method,
    path: &'static str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static(path);
    request
}

/// Sends `request` to `peer`, a `host:port`, on a new connection.
///
/// # Errors
/// [`CallError`]; but for [`CallError::Connect`] the request may have arrived.
pub(crate) async fn call(
    peer: &str,
    mut request: Request<Full<Bytes>>,
    limit: Duration,
) -> Result<Reply, CallError> {
    if let Ok(host) = HeaderValue::from_str(peer) {
        request.headers_mut().insert(header::HOST, host);
    }
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let exchange = async {
        let stream = TcpStream::connect(peer).await.map_err(CallError::Connect)?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The connection ends with this future, finished or not.
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Reply { status: head.status, body: body.collect().await?.to_bytes() })
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(CallError::Timeout(limit)))
}
