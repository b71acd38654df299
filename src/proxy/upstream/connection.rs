//! A connection to an upstream, which carries one exchange at a time.
//!
//! The exchange drives its connection itself: nothing is handed from task to task on
//! the way of a small request. A body that is large, or of unknown length, may have
//! to flow while nobody asks for the response, so its connection gets a task.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    super::pace::MAX_HEAD,
    meter::{Meter, Metered},
    patience::Patience,
};
use crate::{
    BoxError,
    mutants::{Mutant, is_active},
    timer::Timer,
};

/// A request body up to this length fits the buffers of a socket.
const SMALL: u64 = 64 << 10;

/// What reads and writes. Its type has no name outside the HTTP library.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection.
pub(crate) struct Connection<B> {
    sender: SendRequest<B>,
    /// `None` when it runs in a task, or has ended.
    driver: Option<Driver>,
    task: Option<JoinHandle<()>>,
    pub(crate) meter: Arc<Meter>,
    /// It has carried an exchange before, so its peer may be about to close it.
    pub(crate) reused: bool,
    /// It carries no other exchange.
    is_last: bool,
    /// Kept from exchange to exchange, since most of them never need it.
    timer: Timer,
}

/// The exchange took longer than it may.
pub(crate) struct TooLate;

/// What became of a request. One that is given back was not sent.
pub(crate) type Exchanged<B> =
    Result<Result<Response<Incoming>, TrySendError<Request<B>>>, TooLate>;

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Speaks HTTP/1.1 on a new connection.
    pub(crate) async fn open(stream: TcpStream) -> hyper::Result<Self> {
        let (io, meter) = Metered::new(stream);
        // Head and body in one piece, as towards the client.
        let (sender, connection) = http1::Builder::new()
            .writev(false)
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(io))
            .await?;
        let driver: Driver = Box::pin(connection.with_upgrades());
        let (driver, timer) = (Some(driver), Timer::default());
        Ok(Self { sender, driver, task: None, meter, reused: false, is_last: false, timer })
    }

    /// Sends a request and waits for the head of its response, as long as there is patience.
    ///
    /// The request goes to the library before the future begins, which need not hold it.
    pub(crate) fn exchange(
        &mut self,
        request: Request<B>,
        patience: Patience,
    ) -> impl Future<Output = Exchanged<B>> + Send {
        let is_small = request.body().size_hint().upper().is_some_and(|length| length <= SMALL);
        if !is_small {
            self.hand_over();
        }
        let response = self.sender.try_send_request(request);
        Exchange { response, connection: self, patience, sent: false }
    }

    /// Goes on, and looks whether that brought the response.
    fn look<R: Future>(&mut self, response: Pin<&mut R>, cx: &mut Context<'_>) -> Poll<R::Output> {
        let is_driven = self.driver.is_some();
        self.drive(cx);
        // A response that comes while this task drives the connection need not wake it.
        if is_driven { response.poll(&mut quiet()) } else { response.poll(cx) }
    }
}

pin_project! {
    /// A response that is waited for. No async block, in which it would have its place twice.
    struct Exchange<'c, B, R> {
        #[pin]
        response: R,
        connection: &'c mut Connection<B>,
        patience: Patience,
        sent: bool,
    }
}

impl<B, R> Future for Exchange<'_, B, R>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Future,
{
    type Output = Result<R::Output, TooLate>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let is_first = !mem::replace(this.sent, true);
        // Nothing can have come before the request was written.
        if !is_first
            && let Poll::Ready(response) =
                this.connection.look(this.response.as_mut(), &mut quiet())
        {
            return Poll::Ready(Ok(response));
        }
        if let Poll::Ready(response) = this.connection.look(this.response, cx) {
            return Poll::Ready(Ok(response));
        }
        if is_first {
            this.patience.begin(|| this.connection.meter.written());
        }
        loop {
            ready!(this.connection.timer.poll_until(this.patience.next(), cx));
            if !this.patience.is_left(this.connection.meter.written(), Instant::now()) {
                return Poll::Ready(Err(TooLate));
            }
        }
    }
}

/// For a first look, which most of the time is enough. Everything that happens on a
/// connection happens in the task that drives it, and would wake that task in vain. One
/// that is to wait looks again with its own waker.
pub(super) fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl<B> Connection<B> {
    /// Notes what a response says of the exchanges after it. To a service that speaks HTTP/1.0
    /// the library would send the next request as one of HTTP/1.0, which has no chunks: a body
    /// whose length nobody knows would be left out.
    pub(crate) fn note(&mut self, version: Version) {
        self.is_last |= version == Version::HTTP_10 && !is_active(Mutant::ReuseHttp10);
    }

    /// Whether it has carried all that it may.
    pub(crate) const fn is_last(&self) -> bool {
        self.is_last
    }

    /// Whether it could carry an exchange at once, as far as is known without looking: the
    /// last one has ended, its request included, and the peer has not closed. The library calls
    /// a request ended whose last bytes it still holds.
    ///
    /// Whether the peer has closed it meanwhile is seen before anything is sent: the library
    /// reads before it writes, and gives the request back.
    pub(crate) fn is_free(&self) -> bool {
        self.sender.is_ready() && (!self.meter.is_owing() || is_active(Mutant::ReuseOwing))
    }

    /// Goes on with what is under way.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = driver.as_mut().poll(cx)
        {
            log(ended);
            self.driver = None;
        }
    }

    /// Gives the connection a task of its own, for as long as it lasts.
    pub(crate) fn hand_over(&mut self) {
        if let Some(driver) = self.driver.take() {
            self.task = Some(tokio::spawn(async move { log(driver.await) }));
        }
    }

    /// Lets the rest of a request follow when its response has come early, and ends it when
    /// it has not moved for `limit`.
    pub(crate) fn leave(mut self, limit: Duration) {
        self.hand_over();
        let Self { task: Some(mut task), meter, .. } = self else { return };
        tokio::spawn(async move {
            let mut seen = meter.written();
            while timeout(limit, &mut task).await.is_err() {
                let written = meter.written();
                if mem::replace(&mut seen, written) == written {
                    return task.abort();
                }
            }
        });
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an upstream connection ended");
    }
}

impl<B> std::fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("reused", &self.reused).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::{BodyExt as _, Full};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
    };

    use super::*;

    /// What the system holds is far less than a request, and the service answers after its head.
    #[tokio::test]
    async fn a_connection_that_owes_a_part_of_its_request_is_not_free() {
        let [socket, listening] = [(); 2].map(|()| TcpSocket::new_v4().unwrap());
        socket.set_send_buffer_size(4096).unwrap();
        listening.set_recv_buffer_size(4096).unwrap();
        listening.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = listening.listen(1).unwrap();
        let (near, far) =
            tokio::join!(socket.connect(listener.local_addr().unwrap()), listener.accept());
        let (near, (mut far, _)) = (near.unwrap(), far.unwrap());
        let mut connection = Connection::open(near).await.unwrap();
        // Far more than these sockets hold, and no more than the library does.
        let body = Full::new(Bytes::from(vec![b'x'; 60_000]));
        let request = Request::post("/early").header("host", "s").body(body).unwrap();
        let patience = Patience::new(Duration::from_secs(20), None, Instant::now());
        let answers = async {
            let mut head = [0; 5];
            far.read_exact(&mut head).await.unwrap();
            far.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        };
        let (response, ()) = tokio::join!(connection.exchange(request, patience), answers);
        let Ok(Ok(response)) = response else { panic!("no response") };
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
        assert!(connection.meter.written() < 60_000, "the system has taken everything");
        assert!(!connection.is_free());
        let mut rest = Vec::new();
        let freed = poll_fn(|cx| {
            connection.drive(cx);
            if connection.is_free() { Poll::Ready(()) } else { Poll::Pending }
        });
        let takes = async { while far.read_buf(&mut rest).await.unwrap() > 0 {} };
        tokio::select! {
            () = takes => panic!("it was closed"),
            freed = timeout(Duration::from_secs(20), freed) => freed.expect("it is free at last"),
        }
    }
}
