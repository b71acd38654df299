//! Gates: in this process, or as the real program.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use oncegate::{
    config::{Config, Sources},
    proxy::Server,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{sync::oneshot, task::JoinHandle};

use super::backend::Backend;

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
        metric(self.admin, line).await
    }

    /// How many requests ended with `outcome`.
    pub async fn outcomes(&self, outcome: &str) -> u64 {
        let line = format!("oncegate_requests_total{{route=\"/\",outcome=\"{outcome}\"}}");
        self.metric(&line).await as u64
    }
}

/// A backend, and a gate before it.
pub async fn both(settings: &str) -> (Backend, Gate) {
    let backend = Backend::start().await;
    let gate = Gate::start(&backend.url(), settings).await;
    (backend, gate)
}

/// The real program.
pub struct Process {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    _config: Option<tempfile::NamedTempFile>,
}

impl Process {
    /// Starts `oncegate serve` and waits until it says that it listens.
    pub fn start(store: &str, upstream: &str, config: Option<&Path>) -> Self {
        let mut command = Command::new(program());
        command.args(["serve", "--store", store, "--upstream", upstream]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        Self::run(command)
    }

    /// The same with settings, as text.
    pub fn configured(store: &str, upstream: &str, settings: &str) -> Self {
        let mut config = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        std::io::Write::write_all(&mut config, settings.as_bytes()).unwrap();
        let mut process = Self::start(store, upstream, Some(config.path()));
        process._config = Some(config);
        process
    }

    /// Runs a command that ends up as `oncegate serve` on ports that the system chooses.
    pub fn run(mut command: Command) -> Self {
        use std::io::BufRead as _;
        // These are the tests' own; the program would take them for settings.
        for variable in ["ONCEGATE_PATIENCE", "ONCEGATE_SEED", "ONCEGATE_TEST_LOG"] {
            command.env_remove(variable);
        }
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut address, mut said) = (None, String::new());
        for line in lines.by_ref() {
            let line = line.unwrap();
            if line.contains("listens on") {
                address = Some(address_in(&line));
            } else if line.contains("/readyz") {
                let (address, admin) = (address.unwrap(), address_in(&line));
                // The pipe must be read for ever, or the program would block on its log.
                let echo = std::env::var_os("ONCEGATE_TEST_LOG").is_some();
                std::thread::spawn(move || {
                    for line in lines.map_while(Result::ok).filter(|_| echo) {
                        eprintln!("{address} {line}");
                    }
                });
                return Self { address, admin, child, _config: None };
            }
            said.push_str(&line);
            said.push('\n');
        }
        let _ = child.wait();
        panic!("the gate did not start: {said}");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> i32 {
        self.ask_to_stop();
        self.child.wait().unwrap().code().unwrap()
    }

    /// SIGSTOP: the process is there, and does nothing. Returns when that is so: on a
    /// busy machine some threads run on for a while.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let until = Instant::now() + super::patience();
        while !self.is_stopped() {
            assert!(Instant::now() < until, "the gate was not stopped in time");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether every thread is stopped, or gone.
    fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id())) else {
            return true;
        };
        threads.flatten().all(|thread| {
            // The state follows the name, which is in parentheses.
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        })
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The status of `/readyz`, and what it says.
    pub async fn readyz(&self) -> (u16, String) {
        let request = b"GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n";
        let answer = super::client::send(self.admin, request).await;
        (answer.status, answer.text().to_owned())
    }

    /// A value of `/metrics`.
    pub async fn metric(&self, line: &str) -> f64 {
        metric(self.admin, line).await
    }

    /// Tells the gate that somebody knows of the loss of data.
    pub async fn acknowledge_loss(&self) {
        let request = b"POST /api/store/acknowledge HTTP/1.1\r\nHost: admin\r\n\r\n";
        let answer = super::client::send(self.admin, request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program: Cargo's word for it in a test; beside the `examples` folder in an example.
pub fn program() -> PathBuf {
    match option_env!("CARGO_BIN_EXE_oncegate") {
        Some(path) => path.into(),
        None => {
            let here = std::env::current_exe().unwrap();
            here.parent().and_then(Path::parent).unwrap().join("oncegate")
        }
    }
}

async fn metric(admin: SocketAddr, line: &str) -> f64 {
    let request = b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n";
    let answer = super::client::send(admin, request).await;
    let found = answer.text().lines().find_map(|text| text.strip_prefix(line));
    found.unwrap_or_else(|| panic!("no metric {line}")).trim().parse().unwrap()
}

/// The address in a line with a URL.
fn address_in(line: &str) -> SocketAddr {
    let (_, rest) = line.split_once("http://").unwrap();
    rest.split(['/', ' ']).next().unwrap().parse().unwrap()
}
