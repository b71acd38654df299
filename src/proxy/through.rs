//! Small pieces in one call.
//!
//! The HTTP library hands over a head and a body as two pieces. For what is small the
//! system takes longer to gather two than it takes to copy both.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// What is copied at the most.
const SMALL: usize = 2048;

/// Writes `bufs`, or as much of them as goes in one call.
pub(crate) fn poll_write<I: AsyncWrite>(
    io: Pin<&mut I>,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match bufs {
        [only] => io.poll_write(cx, only),
        _ if bufs.iter().map(|piece| piece.len()).sum::<usize>() <= SMALL => {
            let mut joined = [0; SMALL];
            let mut length = 0;
            for piece in bufs {
                joined[length..length + piece.len()].copy_from_slice(piece);
                length += piece.len();
            }
            io.poll_write(cx, &joined[..length])
        }
        _ => io.poll_write_vectored(cx, bufs),
    }
}

/// Implements `AsyncWrite` for a wrapper by that of its field `io`, small pieces in one
/// call. If its field `flushed` is named, that says whether nothing was written since the
/// last flush.
macro_rules! write_through {
    ($wrapper:ident $(, $flushed:ident)?) => {
        impl<I: tokio::io::AsyncWrite + Unpin> tokio::io::AsyncWrite for $wrapper<I> {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $(self.$flushed = false;)?
                std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $(self.$flushed = false;)?
                $crate::proxy::joined::poll_write(std::pin::Pin::new(&mut self.io), cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.io.is_write_vectored()
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                let flushed = std::pin::Pin::new(&mut self.io).poll_flush(cx);
                $(self.$flushed = flushed.is_ready();)?
                flushed
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
            }
        }
    };
}
pub(crate) use write_through;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn every_byte_is_written_in_order() {
        for lengths in [&[][..], &[5], &[3, 4, 0, 5], &[1000, 1048], &[1000, 1049], &[9000, 9000]] {
            let pieces: Vec<Vec<u8>> =
                lengths.iter().zip(1..).map(|(length, byte)| vec![byte; *length]).collect();
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let (mut near, mut far) = tokio::io::duplex(1 << 16);
            let wrote = poll_fn(|cx| poll_write(Pin::new(&mut near), cx, &slices)).await.unwrap();
            drop(near);
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            let all = pieces.concat();
            assert_eq!((wrote, &read[..]), (read.len(), &all[..wrote]), "{lengths:?}");
            assert!(wrote == all.len() || all.len() > SMALL, "{lengths:?}");
        }
    }
}
