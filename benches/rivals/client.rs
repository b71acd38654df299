//! A client: one request on a connection of its own, and whatever comes back.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long a client waits: longer than anybody here polls for somebody else's answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) address: SocketAddr,
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: &'static str,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The values of `Set-Cookie`.
    pub(crate) cookies: Vec<String>,
    pub(crate) body: String,
}

impl Ask {
    /// Sends it and reads to the end of the connection. Nothing, where no whole head comes.
    pub(crate) async fn exchange(&self) -> Option<Answer> {
        let bytes = timeout(PATIENCE, self.bytes()).await.ok()?;
        examine(&bytes.ok()?)
    }

    async fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut stream = self.send().await?;
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes).await {
            // A reset may follow an answer that has come whole.
            Err(error) if bytes.is_empty() => Err(error),
            Ok(_) | Err(_) => Ok(bytes),
        }
    }

    /// Sends it, and leaves it to the caller what becomes of the connection.
    pub(crate) async fn send(&self) -> io::Result<TcpStream> {
        let Self { address, method, path, headers, body } = self;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
        Ok(stream)
    }
}

fn examine(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).ok()? else { return None };
    let cookies = response.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("set-cookie"));
    let cookies = cookies.map(|h| String::from_utf8_lossy(h.value).into_owned()).collect();
    let body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    Some(Answer { status: response.code?, cookies, body })
}
