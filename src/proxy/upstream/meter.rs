//! Counting what leaves: the evidence of whether a request was sent.
//!
//! An HTTP library's error kinds cannot tell "never sent" from "executed". The
//! bytes that the socket accepted can: a connection whose count did not move
//! since the request was handed to it has sent nothing of it. [`Meter::seal`]
//! makes that final: from then on the connection can write no more.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Set for ever once no more may be written.
const SEALED: u64 = 1 << 63;
/// Set while a write is under way.
const WRITING: u64 = 1 << 62;
/// Set while the peer takes no more of what was to be written.
const OWING: u64 = 1 << 61;
const COUNT: u64 = OWING - 1;

/// How many bytes a connection has accepted.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    /// Bytes accepted so far.
    pub(crate) fn written(&self) -> u64 {
        self.0.load(Ordering::Acquire) & COUNT
    }

    /// Whether a part of what was to be written has not been accepted.
    pub(crate) fn is_owing(&self) -> bool {
        self.0.load(Ordering::Acquire) & OWING != 0
    }

    /// Forbids further writes. True if provably nothing was accepted since the
    /// count was `mark`.
    pub(crate) fn seal(&self, mark: u64) -> bool {
        let state = self.0.fetch_or(SEALED, Ordering::AcqRel);
        state & WRITING == 0 && state & COUNT == mark
    }

    /// Runs one write unless sealed.
    fn write(&self, write: impl FnOnce() -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let before = self.0.fetch_or(WRITING, Ordering::AcqRel);
        if before & SEALED != 0 {
            self.0.fetch_and(!WRITING, Ordering::AcqRel);
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the exchange on this connection was given up",
            )));
        }
        let outcome = write();
        let bytes = if let Poll::Ready(Ok(bytes)) = &outcome { *bytes as u64 } else { 0 };
        let owes = if outcome.is_pending() { OWING } else { 0 };
        // Counts and ends the write at once: the flags are set, so they can be taken away. One
        // writes at a time, so what was owed before is still.
        self.0.fetch_sub(WRITING + (before & OWING) - owes - bytes, Ordering::AcqRel);
        outcome
    }
}

/// A connection with a meter on its way out.
#[derive(Debug)]
pub(crate) struct Metered<I> {
    io: I,
    meter: Arc<Meter>,
}

impl<I> Metered<I> {
    pub(crate) fn new(io: I) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Self { io, meter: Arc::clone(&meter) }, meter)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { io, meter } = self.get_mut();
        meter.write(|| Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { io, meter } = self.get_mut();
        meter.write(|| Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_seal_is_a_proof_and_final() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut io, meter) = Metered::new(near);
        io.write_all(b"first").await.unwrap();
        let mark = meter.written();
        assert_eq!(mark, 5);
        assert!(meter.seal(mark), "nothing was written since the mark");
        let error = io.write_all(b"second").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        drop(io);
        let mut arrived = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut arrived).await.unwrap();
        assert_eq!(arrived, b"first");
    }

    #[tokio::test]
    async fn what_the_peer_does_not_take_is_owed() {
        let (near, mut far) = tokio::io::duplex(4);
        let (mut io, meter) = Metered::new(near);
        for _ in 0..2 {
            let mut writing = Box::pin(io.write_all(b"sixbytes"));
            assert!(futures::poll!(&mut writing).is_pending());
            assert!(meter.is_owing());
            let mut taken = [0; 8];
            let (written, read) =
                tokio::join!(writing, tokio::io::AsyncReadExt::read_exact(&mut far, &mut taken));
            written.unwrap();
            read.unwrap();
            assert!(!meter.is_owing());
        }
        assert_eq!(meter.written(), 16);
        assert!(meter.seal(16));
    }

    #[tokio::test]
    async fn one_byte_is_enough_to_be_in_doubt() {
        let (near, _far) = tokio::io::duplex(64);
        let (mut io, meter) = Metered::new(near);
        let mark = meter.written();
        io.write_all(b"x").await.unwrap();
        assert!(!meter.seal(mark));
    }
}
