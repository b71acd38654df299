//! Gates: in this process, or as the real program.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use oncegate::{
    config::{Config, Sources},
    proxy::Server,
};
use tokio::{sync::oneshot, task::JoinHandle};

/// A gate in this process.
pub struct Gate {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<usize>,
}

impl Gate {
    /// Starts a gate before `upstream` with the given settings on top of free ports and
    /// a store in memory.
    pub async fn start(upstream: &str, settings: &str) -> Self {
        Self::on("memory:", upstream, settings).await
    }

    /// The same on a store.
    pub async fn on(store: &str, upstream: &str, settings: &str) -> Self {
        let variables = [
            ("ONCEGATE_SERVER__LISTEN", "127.0.0.1:0"),
            ("ONCEGATE_ADMIN__LISTEN", "127.0.0.1:0"),
            ("ONCEGATE_STORE__URL", store),
            ("ONCEGATE_UPSTREAM__URL", upstream),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(&Sources::text(settings).environment(variables)).unwrap();
        let server = Server::bind(config).await.unwrap();
        let (address, admin) = (server.address(), server.admin_address());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { address, admin, stop: Some(stop), task }
    }

    /// Begins the shutdown.
    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops, and tells how many exchanges were given up.
    pub async fn stop(mut self) -> usize {
        self.begin_stop();
        self.task.await.unwrap()
    }

    /// A value of `/metrics`.
    pub async fn metric(&self, line: &str) -> f64 {
        let request = b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n";
        let answer = super::client::send(self.admin, request).await;
        let found = answer.text().lines().find_map(|text| text.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no metric {line}")).trim().parse().unwrap()
    }

    /// How many requests ended with `outcome`.
    pub async fn outcomes(&self, outcome: &str) -> u64 {
        let line = format!("oncegate_requests_total{{route=\"/\",outcome=\"{outcome}\"}}");
        self.metric(&line).await as u64
    }
}

/// The real program.
pub struct Process {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts `oncegate serve` and waits until it says that it listens.
    pub fn start(store: &str, upstream: &str, config: Option<&Path>) -> Self {
        let (address, admin) = (free(), free());
        let mut command = Command::new(env!("CARGO_BIN_EXE_oncegate"));
        command.args(["serve", "--store", store, "--upstream", upstream]);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut process = Self { address, admin, child };
        process.wait_until_it_listens();
        process
    }

    fn wait_until_it_listens(&mut self) {
        use std::io::BufRead as _;
        let stderr = self.child.stderr.take().unwrap();
        let mut lines = std::io::BufReader::new(stderr).lines();
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            if line.contains("listens on") {
                // The pipe must be read for ever, or the program would block on its log.
                std::thread::spawn(move || lines.for_each(drop));
                return;
            }
            said.push_str(&line);
        }
        panic!("the gate did not start: {said}");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> i32 {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
pub fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
