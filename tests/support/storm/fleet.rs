//! Gates as processes, each with a link to Redis of its own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::support::{
    gate::Process,
    redis::{Link, Server},
};

pub struct Fleet {
    slots: Vec<Slot>,
    upstream: String,
    settings: String,
}

struct Slot {
    link: Link,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    process: Option<Process>,
    memory: Memory,
}

/// What a gate has in memory, in KiB.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub samples: Vec<u64>,
    pub starts: usize,
}

impl Fleet {
    pub async fn start(redis: &Server, upstream: &str, settings: &str, gates: usize) -> Self {
        let mut slots = Vec::new();
        for _ in 0..gates {
            let link = Link::to(redis.address()).await;
            slots.push(Slot { link, running: Mutex::default() });
        }
        let fleet = Self { slots, upstream: upstream.to_owned(), settings: settings.to_owned() };
        (0..gates).for_each(|gate| fleet.launch(gate));
        fleet
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Where a gate listens; `None` while it is down.
    pub fn address(&self, gate: usize) -> Option<SocketAddr> {
        self.running(gate).process.as_ref().map(|process| process.address)
    }

    /// Starts a gate. Blocks until it listens.
    pub fn launch(&self, gate: usize) {
        let store = self.slots[gate].link.url();
        let process = Process::configured(&store, &self.upstream, &self.settings);
        let mut running = self.running(gate);
        running.process = Some(process);
        running.memory.starts += 1;
    }

    /// SIGKILL.
    pub fn kill(&self, gate: usize) {
        drop(self.running(gate).process.take());
    }

    /// SIGTERM; new connections go elsewhere. Blocks until it has ended, and tells how.
    pub fn terminate(&self, gate: usize) -> Option<i32> {
        let process = self.running(gate).process.take();
        process.map(Process::terminate)
    }

    pub fn pause(&self, gate: usize) {
        self.running(gate).process.iter().for_each(Process::pause);
    }

    pub fn resume(&self, gate: usize) {
        self.running(gate).process.iter().for_each(Process::resume);
    }

    pub fn link(&self, gate: usize) -> &Link {
        &self.slots[gate].link
    }

    pub fn memory(&self) -> Vec<Memory> {
        (0..self.len()).map(|gate| self.running(gate).memory.clone()).collect()
    }

    fn sample(&self, gate: usize) {
        let mut running = self.running(gate);
        let Some(id) = running.process.as_ref().map(Process::id) else { return };
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident: Option<u64> =
            resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        running.memory.samples.extend(resident);
    }

    fn running(&self, gate: usize) -> MutexGuard<'_, Running> {
        self.slots[gate].running.lock().unwrap()
    }
}

/// Looks at every gate's memory once a second.
#[expect(clippy::print_stderr, reason = "a soak of an hour should show that it lives")]
pub async fn watch(fleet: Arc<Fleet>, speaks: bool) {
    let started = Instant::now();
    for second in 1_u64.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (0..fleet.len()).for_each(|gate| fleet.sample(gate));
        if speaks && second % 30 == 0 {
            let last = |memory: &Memory| memory.samples.last().map_or(0, |kib| kib / 1024);
            let mib: Vec<u64> = fleet.memory().iter().map(last).collect();
            eprintln!("{:>5} s, resident MiB of each gate: {mib:?}", started.elapsed().as_secs());
        }
    }
}
