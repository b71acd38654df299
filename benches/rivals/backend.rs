//! The service behind the proxies. It cannot tell a retry from a first request; what it has
//! begun and finished stands in its ledger.
//!
//! | request | |
//! |---|---|
//! | `GET /executed` | how many payments it has begun, and how many of them are finished |
//! | `POST /release` | lets those go on that are held |
//! | anything else | a payment, answered with its number among all |

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::Result;

/// What the service does once it has executed a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It answers.
    Answer,
    /// It holds every one until it is released, and answers then.
    Hold,
    /// It resets the connection of the first, and answers the others.
    Break,
    /// It answers with three cookies.
    Cookies,
}

/// How many cookies there are in [`Mode::Cookies`].
pub(crate) const COOKIES: usize = 3;

impl Mode {
    /// What services in other programs call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Hold => "hold",
            Self::Break => "break",
            Self::Cookies => "cookies",
        }
    }
}

struct Ledger {
    mode: Mode,
    begun: AtomicU64,
    finished: AtomicU64,
    released: watch::Sender<bool>,
}

/// A running service. Dropped, it ends, and its connections with it.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Backend {
    pub(crate) async fn start(mode: Mode) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Ledger {
            mode,
            begun: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            released: watch::Sender::new(false),
        });
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&ledger)));
            }
        });
        Ok(Self { address, accepting })
    }
}

async fn serve(stream: TcpStream, ledger: Arc<Ledger>) {
    if ledger.mode == Mode::Break {
        // The end of the connection is a reset then; what it does not allow is no end.
        let _ = stream.set_zero_linger();
    }
    let service = service_fn(move |request| answer(Arc::clone(&ledger), request));
    // An error is what the case is about.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(ledger: Arc<Ledger>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    match request.uri().path() {
        "/executed" => {
            let (begun, finished) = (ledger.begun.load(Relaxed), ledger.finished.load(Relaxed));
            Ok(Response::new(Full::from(format!("{begun} {finished}"))))
        }
        "/release" => {
            ledger.released.send_replace(true);
            Ok(Response::new(Full::default()))
        }
        _ => {
            request.into_body().collect().await?;
            let cookies = if ledger.mode == Mode::Cookies { COOKIES } else { 0 };
            // Whoever hangs up takes this future away, and not the payment.
            let execution = tokio::spawn(async move { ledger.execute().await }).await??;
            let mut response = Response::builder().header(header::CONTENT_TYPE, "application/json");
            for at in 0..cookies {
                response = response.header(header::SET_COOKIE, format!("c{at}=1"));
            }
            Ok(response.body(Full::from(format!("{{\"execution\":{execution}}}")))?)
        }
    }
}

impl Ledger {
    /// A payment's number.
    ///
    /// # Errors
    /// When its connection is to be reset.
    async fn execute(&self) -> io::Result<u64> {
        let execution = self.begun.fetch_add(1, Relaxed) + 1;
        if self.mode == Mode::Hold {
            // It cannot fail: the sender is in the ledger itself.
            let _ = self.released.subscribe().wait_for(|released| *released).await;
        }
        self.finished.fetch_add(1, Relaxed);
        if self.mode == Mode::Break && execution == 1 {
            return Err(io::Error::other("the connection is to be reset"));
        }
        Ok(execution)
    }
}
