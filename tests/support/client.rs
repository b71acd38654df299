//! A client that writes bytes and reads answers, so that nothing is hidden by a library.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An answer, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Answer {
    /// The values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_slice()).collect()
    }

    /// The only value of a header, as text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [] => "",
            [value] => std::str::from_utf8(value).unwrap(),
            _ => panic!("{name} is there more than once: {:?}", self.headers),
        }
    }

    /// The last part of a problem's type, `key-in-use`.
    pub fn problem(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no problem document: {self:?}"));
        let kind = document["type"].as_str().unwrap();
        kind.rsplit('/').next().unwrap().to_owned()
    }

    pub fn member(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&self.body).unwrap()[name].clone()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Like `open`, for peers that may be gone.
    pub async fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, read: Vec::new() })
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Asks once more on this connection, and so the same thread of the gate.
    pub async fn ask(&mut self, request: &[u8]) -> Answer {
        self.write(request).await;
        self.answer().await.expect("the peer answers")
    }

    /// Like `write`, for peers that may have hung up.
    pub async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Leaves, and waits until the peer has seen that and closed, too.
    pub async fn leave(mut self) {
        self.stream.shutdown().await.unwrap();
        assert!(self.is_closed().await);
    }

    /// The next answer; `None` when the peer closed before it was complete.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            let mut answer = self.head().await?;
            if answer.status < 200 {
                continue;
            }
            if answer.header("transfer-encoding") == "chunked" {
                loop {
                    let piece = self.chunk().await?;
                    if piece.is_empty() {
                        answer.trailers = self.fields().await?;
                        return Some(answer);
                    }
                    answer.body.extend(piece);
                }
            }
            let length = answer.header("content-length");
            if !length.is_empty() {
                answer.body = self.take(length.parse().unwrap()).await?;
            }
            return Some(answer);
        }
    }

    /// The next head, interim responses included.
    pub async fn head(&mut self) -> Option<Answer> {
        let line = self.line().await?;
        let line = String::from_utf8(line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        let headers = self.fields().await?;
        Some(Answer { status, headers, ..Answer::default() })
    }

    /// The next chunk of a body; the last one is empty, and its trailers follow.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line().await?;
        let size = std::str::from_utf8(&size).unwrap().split(';').next().unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let piece = self.take(size).await?;
        if size > 0 {
            assert_eq!(self.line().await?, b"");
        }
        Some(piece)
    }

    async fn fields(&mut self) -> Option<Vec<(String, Vec<u8>)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            let name = String::from_utf8(line[..colon].to_ascii_lowercase()).unwrap();
            fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|w| w == b"\r\n") {
                let line = self.read[..end].to_vec();
                self.read.drain(..end + 2);
                return Some(line);
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            self.more().await?;
        }
        Some(self.read.drain(..length).collect())
    }

    /// Whether the peer has closed; fails if it sends something instead.
    pub async fn is_closed(&mut self) -> bool {
        assert!(self.read.is_empty(), "unread: {:?}", String::from_utf8_lossy(&self.read));
        self.more().await.is_none()
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

/// A POST as text.
pub fn post(path: &str, key: &str, body: &str) -> Vec<u8> {
    post_with(path, &[("Idempotency-Key", key)], body)
}

/// A POST with headers.
pub fn post_with(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: gate\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    request.into_bytes()
}

/// Sends one request on a connection of its own.
pub async fn send(address: SocketAddr, request: &[u8]) -> Answer {
    try_send(address, request).await.expect("the gate answers every request")
}

/// Like [`send`]; `None` when there is no complete answer.
pub async fn try_send(address: SocketAddr, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request).await.ok()?;
    Connection { stream, read: Vec::new() }.answer().await
}
