//! Which version of HTTP a connection speaks, decided once by its first bytes.
//!
//! A client with prior knowledge of HTTP/2 begins with a preface that is no request
//! of HTTP/1 (RFC 9113, 3.3 and 3.4). What was read to see it is read once more by
//! the implementation of the version.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    time::timeout,
};

use super::through::write_through;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the head of a usual request, so that it takes one read.
const FIRST_READ: usize = 2 << 10;

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// Reads as much as the decision needs: the first byte within `idle`, the rest of
/// what could still become the preface within `head` of that.
///
/// # Errors
/// The connection's, or [`io::ErrorKind::TimedOut`].
pub(crate) async fn decide<I>(
    mut io: I,
    idle: Duration,
    head: Duration,
) -> io::Result<(Spoken, Rewound<I>)>
where
    I: AsyncRead + Unpin,
{
    let mut read = Vec::with_capacity(FIRST_READ);
    // Nothing of the client's is lost when the read of a few bytes is given up: it is given
    // up together with the connection.
    let first = timeout(idle, io.read_buf(&mut read)).await?;
    let spoken = match spoken(&read) {
        Some(spoken) => spoken,
        // The client has nothing to say, which HTTP/1 has a way to end.
        None if first? == 0 => Spoken::Http1,
        None => timeout(head, rest(&mut io, &mut read)).await??,
    };
    Ok((spoken, Rewound { read, at: 0, io }))
}

async fn rest<I: AsyncRead + Unpin>(io: &mut I, read: &mut Vec<u8>) -> io::Result<Spoken> {
    loop {
        if io.read_buf(read).await? == 0 {
            return Ok(Spoken::Http1);
        }
        if let Some(spoken) = spoken(read) {
            return Ok(spoken);
        }
    }
}

/// `None` while it could be either.
fn spoken(read: &[u8]) -> Option<Spoken> {
    if read.starts_with(PREFACE) {
        Some(Spoken::Http2)
    } else if PREFACE.starts_with(read) {
        None
    } else {
        Some(Spoken::Http1)
    }
}

/// A connection whose first bytes are read once more.
#[derive(Debug)]
pub(crate) struct Rewound<I> {
    read: Vec<u8>,
    at: usize,
    io: I,
}

impl<I> Rewound<I> {
    /// A connection of which nothing was read.
    pub(crate) const fn untouched(io: I) -> Self {
        Self { read: Vec::new(), at: 0, io }
    }

    /// The same with `bytes` to be read before what is left.
    pub(crate) fn unread(self, bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return self;
        }
        Self { read: [bytes, &self.read[self.at..]].concat(), at: 0, io: self.io }
    }

    /// Whether nothing is left that was read once.
    pub(crate) const fn is_read(&self) -> bool {
        self.read.is_empty()
    }

    pub(crate) const fn get_ref(&self) -> &I {
        &self.io
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewound<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let left = &self.read[self.at..];
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.at += taken;
        if self.at == self.read.len() {
            (self.read, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Rewound);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Everything that was read is read again, whatever the pieces it came in.
    #[tokio::test]
    async fn the_first_bytes_decide_and_are_not_lost() {
        let http2 = [PREFACE, b"frames"].concat();
        for (sent, expected) in [
            (&http2[..], Spoken::Http2),
            (b"POST / HTTP/1.1\r\n\r\n", Spoken::Http1),
            (b"PRI", Spoken::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Spoken::Http1),
            (b"PRIVATE / HTTP/1.1\r\n\r\n", Spoken::Http1),
            (b"", Spoken::Http1),
        ] {
            for size in [1, 2, 24, 64] {
                let (mut client, server) = tokio::io::duplex(size);
                let bytes = sent.to_vec();
                let writing = tokio::spawn(async move { client.write_all(&bytes).await });
                let limit = Duration::from_secs(5);
                let (spoken, mut io) = decide(server, limit, limit).await.unwrap();
                let mut read = Vec::new();
                io.read_to_end(&mut read).await.unwrap();
                assert_eq!((spoken, &read[..]), (expected, sent), "in pieces of {size}");
                writing.await.unwrap().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_is_given_back_is_read_first() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"GET /").await.unwrap();
        let limit = Duration::from_secs(5);
        let (_, io) = decide(server, limit, limit).await.unwrap();
        let mut io = io.unread(b"").unread(b"ahead ");
        let mut read = [0; 8];
        io.read_exact(&mut read).await.unwrap();
        let mut io = io.unread(b"again ");
        assert!(!io.is_read());
        client.write_all(b" HTTP").await.unwrap();
        let mut rest = [0; 14];
        io.read_exact(&mut rest).await.unwrap();
        assert_eq!((&read, &rest), (b"ahead GE", b"again T / HTTP"));
        assert!(io.is_read());
        io = io.unread(b"x");
        assert_eq!(io.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_or_half_is_not_waited_for() {
        for said in [&b""[..], b"PRI * HT"] {
            let (mut client, server) = tokio::io::duplex(64);
            client.write_all(said).await.unwrap();
            let limit = Duration::from_secs(5);
            let error = decide(server, limit, limit).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
