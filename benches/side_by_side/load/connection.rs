//! One connection: a request out, an answer in.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use super::ANSWER;

/// More than any answer of the backend with a proxy's headers.
const LARGEST: usize = 4096;

pub(super) struct Connection {
    stream: TcpStream,
    received: Box<[u8; LARGEST]>,
    length: usize,
    busy: bool,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, received: Box::new([0; LARGEST]), length: 0, busy: false })
    }

    /// Whether an answer is still to come.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Sends a whole request. It is far smaller than a socket's buffer, which is empty.
    pub(super) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        (self.length, self.busy) = (0, true);
        self.stream.write_all(request)
    }

    /// Reads what is there: whether the answer is complete.
    ///
    /// # Errors
    /// When the answer is not the right one, or does not come.
    pub(super) fn receive(&mut self) -> io::Result<bool> {
        let space = &mut self.received[self.length..];
        if space.is_empty() {
            return Err(wrong("an answer is longer than expected"));
        }
        match self.stream.read(space) {
            Ok(0) => return Err(wrong("the server closed a connection before its answer")),
            Ok(length) => self.length += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if !self.busy {
            return Err(wrong("there was more than one answer to a request"));
        }
        let complete = examine(&self.received[..self.length])?;
        self.busy = !complete;
        Ok(complete)
    }
}

/// Whether this is a whole answer of status 200 with a body as long as the backend's.
fn examine(received: &[u8]) -> io::Result<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(received).map_err(|error| wrong(&error.to_string()))? {
        httparse::Status::Partial => return Ok(false),
        httparse::Status::Complete(head) => head,
    };
    if response.code != Some(200) {
        let text = String::from_utf8_lossy(received);
        return Err(wrong(&format!("an answer was not 200: {text}")));
    }
    let length = response.headers.iter().find(|header| {
        header.name.len() == "content-length".len()
            && header.name.eq_ignore_ascii_case("content-length")
    });
    if length.is_none_or(|length| length.value != b"48") {
        let text = String::from_utf8_lossy(received);
        return Err(wrong(&format!("an answer has no Content-Length of 48: {text}")));
    }
    match (received.len() - head).cmp(&ANSWER.len()) {
        std::cmp::Ordering::Less => Ok(false),
        std::cmp::Ordering::Equal => Ok(true),
        std::cmp::Ordering::Greater => Err(wrong("bytes follow an answer")),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// One request on a connection of its own, and all that comes back.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
