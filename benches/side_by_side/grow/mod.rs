//! What a request costs when there are many records already: `--grow`.
//!
//! Each number of records gets a store of its own, filled through the library's `Store`
//! trait before the gate is started on it: every record is a claim and a swap, exactly as
//! the gate writes them. Then the gate does first requests, and replays across all of the
//! records with its cache off, so that the store has to find them. Sizes take turns.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Result,
    load::{Keys, Load, Request},
    measure::{Cost, Ledger, Subject, Wait},
    process::{Process, folder},
    rows::Work,
    servers::{
        Build, Server, Store, Threads,
        gate::{self, Settings},
        redis,
    },
};

mod fill;
pub(crate) mod report;
mod settle;

/// Fewer records than this are filled in again for each run, since the run itself adds as
/// many.
const SMALL: u64 = 200_000;
/// For so many records one replay before replays are measured. That touches nearly every page
/// of an index with some seventy keys a page: what is measured is a gate that has been at work,
/// and not how it fills its memory after a start.
const WARMING: u64 = 10;
const CONNECTIONS: usize = 32;

/// One line of the result.
pub(crate) struct Line {
    pub(crate) store: Store,
    pub(crate) records: u64,
    pub(crate) work: Work,
    pub(crate) costs: Vec<Cost>,
    pub(crate) waits: Vec<Wait>,
}

/// Records that outlive the gates that are started on them.
struct Filled {
    store: Store,
    records: u64,
    url: String,
    redis: Option<Rc<Process>>,
    /// How many keys beyond the records were used.
    used: u64,
    folder: TempDir,
}

/// What is measured.
pub(crate) struct Plan<'a> {
    pub(crate) stores: &'a [Store],
    pub(crate) sizes: &'a [u64],
    /// The gate's `store.page_cache`, where it is not the usual one.
    pub(crate) page_cache: Option<&'a str>,
    pub(crate) duration: Duration,
    pub(crate) runs: usize,
    /// Requests per second in the measurement of latencies, where it is not half of what the
    /// slowest size bears.
    pub(crate) rate: Option<f64>,
}

pub(crate) fn measure(plan: &Plan<'_>, backend: &Server) -> Result<Vec<Line>> {
    let &Plan { stores, sizes, duration, runs, rate: given, .. } = plan;
    let mut filled = Vec::new();
    for &store in stores {
        for &records in sizes {
            filled.push(Filled::new(store, records)?);
        }
    }
    let mut lines: Vec<Line> = filled
        .iter()
        .flat_map(|filled| [Work::First, Work::Replay].map(|work| filled.line(work)))
        .collect();
    for run in 1..=runs {
        for (index, filled) in filled.iter_mut().enumerate() {
            if run > 1 && filled.records < SMALL {
                *filled = Filled::new(filled.store, filled.records)?;
            }
            for line in &mut lines[2 * index..2 * index + 2] {
                let (server, mut load) = filled.warmed(plan, backend.address, line.work)?;
                let ledger = Ledger::Backend(backend);
                let subject = Subject { server: &server, work: line.work, ledger };
                let cost = subject.cost(&mut load, duration)?;
                eprintln!(
                    "{run}/{runs} {:?}, {} records, {:?}: {:.1} us/request, {:.0}/s",
                    filled.store, filled.records, line.work, cost.cpu, cost.rate
                );
                line.costs.push(cost);
            }
        }
    }
    // One rate for all sizes of a store and a kind of work.
    for run in 1..=runs {
        for (index, filled) in filled.iter_mut().enumerate() {
            if filled.records < SMALL {
                *filled = Filled::new(filled.store, filled.records)?;
            }
            for at in 2 * index..2 * index + 2 {
                let slowest = report::slowest(&lines, lines[at].store, lines[at].work);
                let rate = given.unwrap_or(slowest / 2.0);
                let line = &mut lines[at];
                let (server, mut load) = filled.warmed(plan, backend.address, line.work)?;
                let ledger = Ledger::Backend(backend);
                let subject = Subject { server: &server, work: line.work, ledger };
                let duration = match line.work {
                    Work::First => duration.max(line.store.patience()),
                    Work::Replay | Work::Unkeyed => duration,
                };
                let wait = subject.wait(&mut load, rate, duration)?;
                eprintln!(
                    "{run}/{runs} {:?}, {} records, {:?}, {rate:.0}/s: {wait}",
                    filled.store, filled.records, line.work
                );
                line.waits.push(wait);
            }
        }
    }
    Ok(lines)
}

impl Filled {
    fn new(store: Store, records: u64) -> Result<Self> {
        let folder = folder()?;
        let (url, redis) = match store {
            Store::Redis => {
                let (process, at) = redis::start()?;
                (format!("redis://{at}"), Some(process))
            }
            Store::Embedded | Store::Memory => (gate::file_url(folder.path()), None),
        };
        fill::fill(&url, records)?;
        Ok(Self { store, records, url, redis, used: 0, folder })
    }

    fn line(&self, work: Work) -> Line {
        let Self { store, records, .. } = *self;
        Line { store, records, work, costs: Vec::new(), waits: Vec::new() }
    }

    /// A gate on these records, and a load for it that has made it work.
    fn warmed(
        &mut self,
        plan: &Plan<'_>,
        backend: SocketAddr,
        work: Work,
    ) -> Result<(Server, Load)> {
        self.settle()?;
        let server = self.gate(backend, plan.page_cache)?;
        let mut load = self.load(&server, work)?;
        load.saturate(plan.duration)?;
        if work == Work::Replay {
            load.take(self.records / WARMING)?.faultless("replays before a measurement")?;
        }
        Ok((server, load))
    }

    /// What the store does about its new records by itself is done, and the system has its files
    /// in memory.
    fn settle(&self) -> Result<()> {
        if let Some(process) = &self.redis {
            return settle::settle(process, &self.url);
        }
        for file in fs::read_dir(self.folder.path().join(gate::RECORDS))? {
            io::copy(&mut File::open(file?.path())?, &mut io::sink())?;
        }
        Ok(())
    }

    /// A gate on these records, without a cache of responses: what is measured is the store.
    fn gate(&self, backend: SocketAddr, page_cache: Option<&str>) -> Result<Server> {
        let settings =
            Settings { build: Build::Given, cache: false, threads: Threads::PerCore, page_cache };
        gate::start_on(backend, &self.url, self.redis.clone(), folder()?, settings)
    }

    fn load(&mut self, server: &Server, work: Work) -> Result<Load> {
        let keys = match work {
            Work::Replay => Keys::Across(self.records),
            Work::First | Work::Unkeyed => {
                // Far more than a run uses.
                self.used += 1_000_000_000;
                Keys::From(self.records + self.used)
            }
        };
        Load::connect(server.address, Request::new(server.path, keys), CONNECTIONS)
    }
}
