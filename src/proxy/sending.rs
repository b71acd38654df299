//! What a client is sent, and has to take.
//!
//! An answer that its client does not read fills the buffers of the system, and then
//! holds its connection, its upstream and what is left of it for as long as the client
//! likes. So somebody who takes no byte for a while is taken for gone.
//!
//! Looked at where bytes are written: it is the same for every version of HTTP, and
//! costs nothing while they leave.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    mutants::{Mutant, is_active},
    timer::Timer,
};

/// A connection whose peer must take something within `limit` when there is something to
/// be taken. Being late is an [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub(crate) struct Sending<I> {
    io: I,
    limit: Duration,
    /// Since when nothing has been taken that was there to be.
    stuck: Option<Instant>,
    timer: Timer,
}

impl<I> Sending<I> {
    pub(crate) fn new(io: I, limit: Duration) -> Self {
        Self { io, limit, stuck: None, timer: Timer::default() }
    }

    pub(crate) fn into_inner(self) -> I {
        self.io
    }

    fn limited<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() || is_active(Mutant::WaitForReaders) {
            self.stuck = None;
            return written;
        }
        let since = *self.stuck.get_or_insert_with(Instant::now);
        ready!(self.timer.poll_until(since + self.limit, cx));
        let late = "the client took nothing of an answer for too long (server.idle_timeout)";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, late)))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Sending<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Sending<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.limited(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.limited(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.limited(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limited(shut, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_takes_a_byte_in_time_is_waited_for() {
        let (mut client, server) = tokio::io::duplex(4);
        let mut server = Sending::new(server, LIMIT);
        let begun = Instant::now();
        let sending = tokio::spawn(async move {
            server.write_all(b"0123456789").await?;
            server.shutdown().await
        });
        let mut taken = Vec::new();
        while taken.len() < 10 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            taken.push(client.read_u8().await.unwrap());
        }
        sending.await.unwrap().unwrap();
        assert_eq!((&taken[..], begun.elapsed() > 9 * LIMIT), (&b"0123456789"[..], true));
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_late() {
        let (_client, server) = tokio::io::duplex(4);
        let mut server = Sending::new(server, LIMIT);
        let begun = Instant::now();
        let late = server.write_all(b"0123456789").await.unwrap_err();
        assert_eq!((late.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
    }
}
