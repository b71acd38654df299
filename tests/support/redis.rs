//! A Redis server of the test's own, and a link to it that can be cut.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream as Stream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::ports::Port;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(20);

/// How often another port is tried where somebody else was quicker.
const ATTEMPTS: usize = 5;

/// A `redis-server` on a free port of the loopback, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: Port,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server with additional arguments and waits until it answers.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not come up.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let port = Port::take();
        let child = spawn(port.number(), &arguments, folder.path());
        let mut server = Self { child, port, arguments, folder };
        let mut attempts = 1;
        while let Err(status) = server.wait() {
            assert!(attempts < ATTEMPTS, "redis-server ended at its start: {status}");
            attempts += 1;
            server.port = Port::take();
            server.child = spawn(server.port.number(), &server.arguments, server.folder.path());
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are small")
    }

    /// A server that copies the one at `primary`, and has done so for the first time, also
    /// in the eyes of that one.
    pub(crate) fn replica_of(primary: SocketAddr) -> Self {
        Self::copying(primary, &[])
    }

    /// The same with additional arguments.
    pub(crate) fn copying(primary: SocketAddr, arguments: &[&str]) -> Self {
        let source = format!("{} {}", primary.ip(), primary.port());
        let server = Self::start(&[arguments, &["--replicaof", &source]].concat());
        let port = format!("port={},", server.address().port());
        let deadline = Instant::now() + START;
        let client = redis::Client::open(format!("redis://{primary}")).expect("a URL");
        let is_in_step = || {
            let mut primary = client.get_connection().expect("the primary answers");
            let told: String =
                redis::cmd("INFO").arg("replication").query(&mut primary).expect("INFO");
            told.lines().any(|line| line.contains(&port) && line.contains("state=online"))
        };
        while !is_in_step() {
            assert!(Instant::now() < deadline, "the replica did not find its primary");
            thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Whether it has taken all that its primary has written so far.
    pub(crate) fn has_all_of(&self, primary: &Self) -> bool {
        let written = primary.info("master_repl_offset");
        self.info("slave_repl_offset") >= written
    }

    /// Makes a replica a primary.
    pub(crate) fn promote(&self) {
        redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).exec(&mut self.connection()).expect("promoted");
    }

    /// Makes a primary a replica of another one. It closes no connection for that.
    pub(crate) fn follow(&self, primary: &Self) {
        let port = primary.address().port().to_string();
        let follow = ["127.0.0.1", &port];
        redis::cmd("REPLICAOF").arg(&follow).exec(&mut self.connection()).expect("demoted");
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server has ended");
    }

    /// Starts it anew, on the same port and with what it kept: nothing, unless its
    /// arguments say so.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port.number(), &self.arguments, self.folder.path());
        let started = self.wait();
        started.unwrap_or_else(|status| panic!("redis-server ended at its start: {status}"));
    }

    /// One field of `INFO`, over a connection of its own.
    pub(crate) fn info(&self, field: &str) -> u64 {
        self.every_info().get(field).unwrap_or_else(|| panic!("INFO has no {field}"))
    }

    /// All of `INFO`, in one round trip and over a connection of its own.
    pub(crate) fn every_info(&self) -> redis::InfoDict {
        let ask = redis::cmd("INFO").arg("everything").query(&mut self.connection());
        ask.expect("INFO")
    }

    pub(crate) fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("the URL is sound");
        client.get_connection().expect("a connection to the test's own server")
    }

    /// Waits until it answers; an error if it ends instead.
    fn wait(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the server can be asked") {
                return Err(status);
            }
            let answers = Stream::connect(self.address()).is_ok() && {
                let client = redis::Client::open(self.url()).expect("the URL is sound");
                client
                    .get_connection()
                    .is_ok_and(|mut connection| redis::cmd("PING").exec(&mut connection).is_ok())
            };
            if answers {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("redis-server did not answer within {START:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, arguments: &[String], folder: &std::path::Path) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        // A primary would wait 5 seconds for more replicas before it lets the first one copy.
        .args(["--repl-diskless-sync-delay", "0", "--port"])
        .arg(port.to_string())
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot start redis-server ({error}); try: apt-get install redis-server")
        })
}

/// A link to a server that can lose replies, hold them back, and break.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    server: Arc<watch::Sender<SocketAddr>>,
    to_cut: Arc<AtomicUsize>,
    condition: Arc<watch::Sender<Condition>>,
}

/// What a link does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Condition {
    /// It is carried on.
    #[default]
    Up,
    /// Replies wait.
    Held,
    /// Connections break, and no new one lasts.
    Down,
}

impl Link {
    /// A link that loses nothing yet.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (to_cut, condition) = (Arc::new(AtomicUsize::new(0)), watch::Sender::default());
        let server = Arc::new(watch::Sender::new(server));
        let link = Self { address, server, to_cut, condition: Arc::new(condition) };
        let accepting = link.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link = accepting.clone();
                tokio::spawn(async move {
                    let mut condition = link.condition.subscribe();
                    // An error is a connection that has ended, which is what links do.
                    tokio::select! {
                        _ = condition.wait_for(|now| *now == Condition::Down) => {}
                        _ = link.forward(client) => {}
                    }
                });
            }
        });
        link
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks the connection in place of the next reply.
    pub(crate) fn lose_next_reply(&self) {
        self.to_cut.store(1, SeqCst);
    }

    /// Whether the reply is still to be lost.
    pub(crate) fn waits_to_cut(&self) -> bool {
        self.to_cut.load(SeqCst) > 0
    }

    /// Holds replies back; what is asked still arrives.
    pub(crate) fn hold(&self) {
        self.condition.send_replace(Condition::Held);
    }

    /// Breaks all connections and keeps the link down.
    pub(crate) fn cut(&self) {
        self.condition.send_replace(Condition::Down);
    }

    /// Carries on, with the replies that were held back first.
    pub(crate) fn release(&self) {
        self.condition.send_replace(Condition::Up);
    }

    /// Leads to another server from the next connection on, as a name does.
    pub(crate) fn lead_to(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    async fn forward(&self, client: TcpStream) -> io::Result<()> {
        let server = *self.server.borrow();
        let server = TcpStream::connect(server).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let (mut asking, mut told) = client.into_split();
        let (mut replying, mut asked) = server.into_split();
        // A reply to a look, which a gate takes when it likes, is not the one that is to be lost.
        let looks = AtomicBool::new(false);
        let asked = async {
            let mut bytes = [0; 4096];
            loop {
                let length = asking.read(&mut bytes).await?;
                if length == 0 {
                    return Ok(());
                }
                let bytes = &bytes[..length];
                looks.store(bytes.windows(6).any(|word| word == b"INFO\r\n"), SeqCst);
                asked.write_all(bytes).await?;
            }
        };
        let replied = async {
            let mut condition = self.condition.subscribe();
            let mut bytes = [0; 4096];
            loop {
                let length = replying.read(&mut bytes).await?;
                if length == 0 || !looks.load(SeqCst) && self.to_cut.swap(0, SeqCst) > 0 {
                    return Ok(());
                }
                // A link that is cut while it holds something back loses it.
                let _ = condition.wait_for(|now| *now == Condition::Up).await;
                told.write_all(&bytes[..length]).await?;
            }
        };
        tokio::select! {
            ended = asked => ended,
            ended = replied => ended,
        }
    }
}
