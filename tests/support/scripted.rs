//! A service whose every byte the test reads and writes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Answers that need no more than a word.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
pub const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// A service that listens.
pub struct Service(TcpListener);

/// One end of a connection.
pub struct Peer {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Service {
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    pub async fn accept(&self) -> Peer {
        Peer::new(self.0.accept().await.unwrap().0)
    }
}

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Reads up to the next `end`, which is part of what is returned.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let read: Vec<u8> = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(read).unwrap();
            }
            let length = self.stream.read_buf(&mut self.read).await.unwrap();
            assert_ne!(length, 0, "no {end:?} after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The head of the next message.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Waits until the other end says that nothing more comes, and fails if something does.
    pub async fn ends(&mut self) {
        let length = self.stream.read_buf(&mut self.read).await.unwrap();
        assert_eq!((length, &*self.read), (0, &b""[..]));
    }

    /// Reads whatever comes, to the end.
    pub async fn drain(mut self) {
        let _ = tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await;
    }
}
