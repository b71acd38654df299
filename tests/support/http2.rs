//! HTTP/2 clients: one that follows the rules, and one that writes frames as it is told.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use super::client::Answer;

/// A connection whose streams are independent of each other.
pub struct Client {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        Self { sender, driver: tokio::spawn(connection) }
    }

    /// Sends a head; the body goes into what is returned beside the answer to come.
    pub async fn begin(
        &self,
        head: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        self.sender.clone().ready().await?.send_request(head, ends)
    }

    /// Sends a request and reads its answer.
    pub async fn try_send(&self, head: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (response, mut sending) = self.begin(head, body.is_empty()).await?;
        if !body.is_empty() {
            sending.send_data(Bytes::copy_from_slice(body), true)?;
        }
        answer(response.await?).await
    }

    pub async fn send(&self, head: Request<()>, body: &[u8]) -> Answer {
        self.try_send(head, body).await.expect("the gate answers every request")
    }

    pub async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        self.send(keyed(path, key), body.as_bytes()).await
    }

    /// How the connection ended.
    pub async fn end(self) -> Result<(), h2::Error> {
        drop(self.sender);
        self.driver.await.unwrap()
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.driver.is_finished()
    }

    /// Ends the connection at once.
    pub fn cut(self) {
        self.driver.abort();
    }
}

/// The head of a POST with headers.
pub fn head(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let request = Request::post(format!("http://gate{path}"));
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value))
        .body(())
        .unwrap()
}

/// The head of a POST with a key.
pub fn keyed(path: &str, key: &str) -> Request<()> {
    head(path, &[("idempotency-key", key)])
}

/// Reads a response to its end.
pub async fn answer(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: fields(&head.headers),
        body: whole,
        trailers: fields(&trailers),
    })
}

fn fields(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Kinds of frames.
pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const PRIORITY: u8 = 0x2;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

/// Flags of frames.
pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

/// What begins a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it was read.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How a stream ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a response, of which this is the body.
    Answered(Vec<u8>),
    /// With RST_STREAM.
    Reset,
    /// With the connection.
    Gone,
}

/// A connection that writes whatever it is told to.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    /// Opens a connection and sends the preface and empty settings.
    pub async fn open(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address).await;
        raw.write(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await;
        raw
    }

    /// Opens a connection and sends nothing.
    pub async fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Like `write`, for peers that may have hung up.
    pub async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame; settings and pings are acknowledged on the way.
    pub async fn frame(&mut self) -> Option<Frame> {
        let head = self.take(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.take(length).await?;
        let (kind, flags) = (head[3], head[4]);
        if (kind == SETTINGS || kind == PING) && flags & ACK == 0 {
            let echo = if kind == PING { &payload[..] } else { b"" };
            self.try_write(&frame(kind, ACK, 0, echo)).await;
        }
        Some(Frame { kind, flags, stream, payload })
    }

    /// How a stream ends.
    pub async fn end_of(&mut self, stream: u32) -> End {
        let mut body = Vec::new();
        while let Some(frame) = self.frame().await {
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                RST_STREAM => return End::Reset,
                DATA => body.extend(frame.payload),
                HEADERS => {}
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                return End::Answered(body);
            }
        }
        End::Gone
    }

    /// Reads until the peer closes; whether it said GOAWAY before.
    pub async fn is_sent_away(&mut self) -> bool {
        let mut away = false;
        while let Some(frame) = self.frame().await {
            away |= frame.kind == GOAWAY;
        }
        away
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        Some(self.read.drain(..length).collect())
    }
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block in which every field is a literal, with whatever bytes it has.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// A length as HPACK writes it: seven bits, and the rest in groups of seven.
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(rest as u8 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}
