//! A server that runs for a measurement: started, and stopped with all that it has started.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Result, interrupt};

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(2);

/// A program, or nothing when it is not installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where Debian keeps servers, which is not on everybody's path.
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let own = std::env::home_dir().map(|home| home.join(".cargo/bin"));
    let mut folders = std::env::split_paths(&path).chain(system).chain(own);
    folders.find_map(|folder| Some(folder.join(program)).filter(|path| path.is_file()))
}

/// A port of the loopback that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A folder for a server's files, on the disk that holds the build: a temporary folder may
/// lie in memory, where a forced write costs nothing.
pub(crate) fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("side_by_side-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A running server and everything that it has started. Dropped, it is stopped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts `program` in `folder` and waits until `address` accepts connections.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        folder: TempDir,
        address: SocketAddr,
    ) -> Result<Self> {
        let log = File::create(folder.path().join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(folder.path())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let mut process = Self { name, child, folder };
        process.wait_for(address)?;
        Ok(process)
    }

    fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            interrupt::check()?;
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > until {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("{} did not start: {}", self.name, log.trim()).into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process, and its descendants after it.
    pub(crate) fn family(&self) -> Vec<u32> {
        let everybody: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|id| Some((id, parent_of(id)?)))
            .collect();
        let mut family = vec![self.id()];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            let children = everybody.iter().filter(|(_, of)| *of == parent);
            family.extend(children.map(|(id, _)| *id));
            next += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Known before its parent ends, since then it has another one.
        let family = self.family();
        signal(self.id(), Signal::TERM);
        let until = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(2));
        }
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            for id in family.into_iter().skip(1) {
                signal(id, Signal::KILL);
            }
        }
    }
}

fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // An error means that it has ended already.
        let _ = kill_process(id, signal);
    }
}

/// Who has started a process.
fn parent_of(id: u32) -> Option<u32> {
    stat(id)?.get(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` that follow the name, which stands in parentheses and may
/// hold anything.
pub(crate) fn stat(id: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(line.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// Writes a file of a server's folder and returns its path.
pub(crate) fn write(folder: &TempDir, name: impl AsRef<OsStr>, text: &str) -> Result<PathBuf> {
    let path = folder.path().join(name.as_ref());
    File::create(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}
