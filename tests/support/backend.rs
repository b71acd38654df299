//! A service that cannot deduplicate. What it executed stands in its ledger, which
//! no gate can touch.
//!
//! The path says what happens after a request was read whole and executed:
//!
//! | path | then |
//! |---|---|
//! | `/gate/NAME` | waits until the test opens the gate of that name, then 201 |
//! | `/ticket/NAME` | the same, with the number of this execution as the body |
//! | `/slow/N` | waits N milliseconds, then 201 |
//! | `/reset` | resets the connection |
//! | `/cut/N` | sends the first N bytes of a response with a length, then resets |
//! | `/cut-chunked/N` | the same with chunks |
//! | `/hang` | never answers |
//! | `/status/N` | answers with that status |
//! | `/raw/NAME` | answers with bytes that the test has put there |
//! | `/large/N` | answers with N bytes |
//! | `/lost` | resets without executing anything |
//! | `/lost-once/NAME` | the first time like `/lost`, then 201 |
//! | `/late-once/NAME` | the first time resets, and executes it 300 ms later; then 201 |
//! | `/lookup/TEXT` | 200 with a list if a request with that body was executed, else 404 |
//! | anything else | 201 |

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// How long a request is on its way after its connection broke.
const LATE: Duration = Duration::from_millis(300);

/// A request as the backend read it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("/")
    }
}

#[derive(Default)]
struct Ledger {
    requests: Mutex<Vec<Seen>>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    raw: Mutex<HashMap<String, Vec<u8>>>,
    connections: Mutex<usize>,
    lost: Mutex<HashSet<String>>,
}

/// A running backend.
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    ledger: Arc<Ledger>,
}

/// What a response to a first request looks like: two cookies, a Latin-1 value, a place.
pub const RICH: &[u8] = b"HTTP/1.1 201 Created\r\nSet-Cookie: a=1\r\nLocation: /payments/1\r\nSet-Cookie: b=2; Path=/\r\nX-Name: caf\xe9\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"id\":1}";

impl Backend {
    pub async fn start() -> Self {
        Self::at(([127, 0, 0, 1], 0).into()).await
    }

    /// The same where it was not yet, or no longer.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), ledger: Arc::default() };
        let accepting = backend.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *accepting.ledger.connections.lock().unwrap() += 1;
                let backend = accepting.clone();
                tokio::spawn(async move { backend.serve(stream).await });
            }
        });
        backend
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was executed.
    pub fn requests(&self) -> Vec<Seen> {
        self.ledger.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.ledger.requests.lock().unwrap().len()
    }

    pub fn connections(&self) -> usize {
        *self.ledger.connections.lock().unwrap()
    }

    /// How often the request with this key was executed.
    pub fn executions(&self, key: &str) -> usize {
        let requests = self.ledger.requests.lock().unwrap();
        requests.iter().filter(|seen| seen.header("idempotency-key") == Some(key)).count()
    }

    /// Lets `permits` requests at `/gate/NAME` go on.
    pub fn open(&self, name: &str, permits: usize) {
        self.gate(name).add_permits(permits);
    }

    /// What `/raw/NAME` answers.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.ledger.raw.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
    }

    fn gate(&self, name: &str) -> Arc<Semaphore> {
        let mut gates = self.ledger.gates.lock().unwrap();
        Arc::clone(gates.entry(name.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    fn loses(&self, path: &str) -> bool {
        let first_of = |name: &str| self.ledger.lost.lock().unwrap().insert(name.to_owned());
        path.starts_with("/lost-once/") && first_of(path)
            || path.starts_with("/lost") && !path.starts_with("/lost-")
    }

    fn is_late(&self, path: &str) -> bool {
        path.starts_with("/late-once/") && self.ledger.lost.lock().unwrap().insert(path.to_owned())
    }

    fn look_up(&self, body: &str) -> Vec<u8> {
        let requests = self.ledger.requests.lock().unwrap();
        let posted = requests.iter().filter(|seen| seen.line.starts_with("POST "));
        match posted.filter(|seen| seen.body == body.as_bytes()).count() {
            0 => status(404),
            _ => b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[{\"id\":1}]".to_vec(),
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        while let Some(seen) = read(&mut stream, &mut buffer).await {
            if self.loses(seen.path()) {
                return stream.set_zero_linger().unwrap();
            }
            if self.is_late(seen.path()) {
                stream.set_zero_linger().unwrap();
                drop(stream);
                tokio::time::sleep(LATE).await;
                return self.ledger.requests.lock().unwrap().push(seen);
            }
            let execution = {
                let mut requests = self.ledger.requests.lock().unwrap();
                requests.push(seen.clone());
                requests.len()
            };
            let path = seen.path().split('?').next().unwrap().to_owned();
            let (_, rest) = path.split_once('/').unwrap_or_default();
            let (what, argument) = rest.split_once('/').unwrap_or((rest, ""));
            let number = || argument.parse::<usize>().unwrap();
            let response = match what {
                "gate" => {
                    self.gate(argument).acquire().await.unwrap().forget();
                    created(&seen)
                }
                "ticket" => {
                    self.gate(argument).acquire().await.unwrap().forget();
                    created(&Seen { body: format!("execution {execution}").into(), ..seen })
                }
                "slow" => {
                    let wait = std::time::Duration::from_millis(number() as u64);
                    tokio::time::sleep(wait).await;
                    created(&seen)
                }
                "reset" => return stream.set_zero_linger().unwrap(),
                "cut" => {
                    let _ = stream.write_all(&RICH[..number()]).await;
                    return cut(stream).await;
                }
                "cut-chunked" => {
                    let whole = chunked();
                    let _ = stream.write_all(&whole[..number().min(whole.len())]).await;
                    return cut(stream).await;
                }
                "hang" => std::future::pending().await,
                "status" => status(number()),
                "lookup" => self.look_up(argument),
                "raw" => {
                    self.ledger.raw.lock().unwrap().get(argument).expect("put by the test").clone()
                }
                "large" => match large(&mut stream, number()).await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                _ => created(&seen),
            };
            if stream.write_all(&response).await.is_err() {
                return;
            }
        }
    }
}

/// Writes a response of `length` bytes piece by piece: a test may ask for many at once.
async fn large(stream: &mut TcpStream, mut length: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    while length > 0 {
        let piece = length.min(1 << 16);
        stream.write_all(&[b'x'; 1 << 16][..piece]).await?;
        length -= piece;
    }
    Ok(())
}

/// A response in two chunks with a trailer.
pub fn chunked() -> Vec<u8> {
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n".to_vec()
}

/// Everything that was written arrives, and then a reset.
async fn cut(stream: TcpStream) {
    // A reset would overtake bytes that the peer has not read yet.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    stream.set_zero_linger().unwrap();
}

fn created(seen: &Seen) -> Vec<u8> {
    let body = String::from_utf8_lossy(&seen.body);
    format!(
        "HTTP/1.1 201 Created\r\nLocation: /payments/1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn status(code: usize) -> Vec<u8> {
    format!("HTTP/1.1 {code} Status\r\nContent-Length: 3\r\n\r\n{code}").into_bytes()
}

/// Reads one request.
pub async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let headers = lines.filter_map(field).collect();
    let seen = Seen { line, headers, body: Vec::new(), trailers: Vec::new() };
    let mut trailers = Vec::new();
    let body = if seen.header("transfer-encoding") == Some("chunked") {
        read_chunks(stream, buffer, &mut trailers).await?
    } else {
        let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
        while buffer.len() < length {
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        buffer.drain(..length).collect()
    };
    Some(Seen { body, trailers, ..seen })
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

async fn read_chunks(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    trailers: &mut Vec<(String, String)>,
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = read_line(stream, buffer).await?;
        let size = usize::from_str_radix(&size, 16).unwrap();
        if size == 0 {
            break;
        }
        while buffer.len() < size + 2 {
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        body.extend_from_slice(&buffer[..size]);
        buffer.drain(..size + 2);
    }
    loop {
        let line = read_line(stream, buffer).await?;
        if line.is_empty() {
            return Some(body);
        }
        trailers.extend(field(&line));
    }
}

async fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|w| w == b"\r\n") {
            let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 2);
            return Some(line);
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}
