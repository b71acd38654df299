//! A limit on how long a head may take on an HTTP/2 connection.
//!
//! The HTTP library limits how large a header block may be and how many frames it
//! may have, but it waits for its end for ever, and meanwhile no other stream can
//! say a word. So the frames are followed here, by their lengths and kinds alone.
//! DATA frames are left to the limit on bodies.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep},
};

use super::super::through::write_through;
use crate::mutants::{Mutant, is_active};

/// The preface is followed by frames.
const PREFACE: usize = 24;
const FRAME_HEAD: usize = 9;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// A connection on which a head that has begun must end in time.
#[derive(Debug)]
pub(super) struct Heads<I> {
    io: I,
    walk: Walk,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<I> Heads<I> {
    pub(super) fn new(io: I, limit: Duration) -> Self {
        Self { io, walk: Walk::default(), limit, timer: None }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Heads<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            let was = self.walk.ended;
            self.walk.follow(&buf.filled()[before..]);
            if !self.walk.is_inside() || self.walk.ended != was {
                self.timer = None;
            }
        } else if self.walk.is_inside() {
            let limit = self.limit;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
            if timer.as_mut().poll(cx).is_ready() && !is_active(Mutant::WaitForHeads) {
                let error =
                    io::Error::new(io::ErrorKind::TimedOut, "the head of a request took too long");
                return Poll::Ready(Err(error));
            }
        }
        read
    }
}

write_through!(Heads);

/// Where in the sequence of frames a connection is.
#[derive(Debug)]
struct Walk {
    /// What is left of the preface or of the payload of a frame.
    skip: usize,
    head: [u8; FRAME_HEAD],
    head_len: usize,
    /// A header block has begun, and its last frame is not here.
    in_block: bool,
    /// The payload that is skipped is of a DATA frame.
    in_data: bool,
    /// How many heads and other frames have ended; wraps.
    ended: u32,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            head: [0; FRAME_HEAD],
            head_len: 0,
            in_block: false,
            in_data: false,
            ended: 0,
        }
    }
}

impl Walk {
    /// Whether something has begun that must end in time.
    const fn is_inside(&self) -> bool {
        self.in_block || self.head_len > 0 || self.skip > 0 && !self.in_data
    }

    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                if self.skip == 0 {
                    self.end();
                }
                continue;
            }
            let taken = (FRAME_HEAD - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&bytes[..taken]);
            self.head_len += taken;
            bytes = &bytes[taken..];
            if self.head_len == FRAME_HEAD {
                self.begin();
            }
        }
    }

    /// The head of a frame is here.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.head_len = 0;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.in_data = kind == DATA;
        if kind == HEADERS || kind == CONTINUATION {
            self.in_block = flags & END_HEADERS == 0;
        }
        if self.skip == 0 {
            self.end();
        }
    }

    /// The payload of a frame is here.
    fn end(&mut self) {
        self.in_data = false;
        if !self.in_block {
            self.ended = self.ended.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let head = [0, 0, length, kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![0; usize::from(length)]].concat()
    }

    #[test]
    fn only_what_is_whole_has_ended() {
        let bytes = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(0x4, 0, 6),
            frame(HEADERS, 0, 3),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 2),
            frame(DATA, 1, 5),
        ]
        .concat();
        // After these lengths nothing is left open: preface, settings, block, and within data.
        let (block, data) = (24 + 15 + 12 + 9 + 11, 24 + 15 + 12 + 9 + 11 + 9);
        for length in 1..=bytes.len() {
            for size in [1, 7, length] {
                let mut walk = Walk::default();
                bytes[..length].chunks(size).for_each(|piece| walk.follow(piece));
                let closed = [24, 24 + 15, block].contains(&length) || length >= data;
                assert_eq!(walk.is_inside(), !closed, "{length} in pieces of {size}");
            }
        }
        let mut walk = Walk::default();
        walk.follow(&bytes);
        assert_eq!(walk.ended, 4);
    }
}
