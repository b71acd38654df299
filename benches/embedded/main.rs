//! The embedded store against the database that it is built on, and against itself
//! with more records.
//!
//! ```console
//! $ cargo bench --bench embedded
//! $ cargo bench --bench embedded -- growth 10000 1000000 10000000
//! ```
//!
//! Without arguments: so many writers, each of which claims a key and then records a
//! response of 1 KiB, as one first request does, again and again; then redb alone
//! writes the same rows in transactions of as many writes as the store has put into
//! one forced write. `redb` is redb as it comes; `quick repair` is redb set up to be
//! open at once after a crash, which the store promises too.
//!
//! Files are beneath the target folder: a temporary folder may lie in memory, where a forced
//! write costs nothing, and nothing is measured. `CARGO_TARGET_DIR` says on which disk.

#![allow(clippy::print_stdout, reason = "a program for people")]
#![allow(clippy::print_stderr, reason = "what it does not do")]

#[path = "../side_by_side/disk.rs"]
mod disk;
mod growth;
mod redb_alone;
mod sample;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::disk::Beneath;
use oncegate::{
    ambient::System,
    store::{EmbeddedStore, Store},
};

const TIME: Duration = Duration::from_secs(4);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says this to every benchmark, `cargo test --all-targets` does not.
    let Some(at) = arguments.iter().position(|argument| argument == "--bench") else {
        eprintln!("nothing was measured: run `cargo bench --bench embedded`");
        return Ok(());
    };
    arguments.remove(at);
    match Beneath::of(folder()?.path())? {
        Beneath::Memory => return Err(disk::MEMORY.into()),
        Beneath::Disk(remark) => println!("{remark}"),
    }
    match arguments.split_first() {
        Some((first, sizes)) if first == "growth" => growth::run(sizes).await,
        Some((other, _)) => Err(format!("no such measurement: {other}").into()),
        None => compare().await,
    }
}

/// A folder on the disk that holds the build.
fn folder() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("embedded-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

async fn compare() -> Result<(), Failure> {
    println!(
        "{:>7} {:>14} {:>12} {:>10} {:>12} {:>12} {:>8} {:>8}",
        "writers",
        "first requests",
        "writes/s",
        "per sync",
        "redb",
        "quick repair",
        "to redb",
        "to q.r."
    );
    for writers in [1, 8, 64, 256] {
        let (requests, per_sync) = first_requests(writers).await?;
        let writes = 2.0 * requests;
        let batch = per_sync.round().max(1.0) as usize;
        let plain = redb_alone::writes(batch, false, TIME)?;
        let quick = redb_alone::writes(batch, true, TIME)?;
        println!(
            "{writers:>7} {requests:>12.0}/s {writes:>12.0} {per_sync:>10.1} {plain:>12.0} \
             {quick:>12.0} {:>7.0}% {:>7.0}%",
            100.0 * writes / plain,
            100.0 * writes / quick,
        );
    }
    Ok(())
}

/// First requests per second, and how many writes shared one forced write.
async fn first_requests(writers: u64) -> Result<(f64, f64), Failure> {
    let folder = folder()?;
    let store = Arc::new(EmbeddedStore::open(folder.path(), Arc::new(System))?);
    let (begun, commits) = (Instant::now(), store.commits());
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut requests = 0;
                while begun.elapsed() < TIME {
                    let (key, fence) = (sample::key(writer << 40 | requests), sample::fence());
                    store.claim(&key, &sample::pending(fence), sample::KEEP).await?;
                    store
                        .swap(&key, fence, &sample::done(fence.next(), sample::BODY), sample::KEEP)
                        .await?;
                    requests += 1;
                }
                Ok::<u64, Failure>(requests)
            })
        })
        .collect();
    let mut requests = 0;
    for task in tasks {
        requests += task.await??;
    }
    let syncs = store.commits() - commits;
    let per_second = requests as f64 / begun.elapsed().as_secs_f64();
    Ok((per_second, 2.0 * requests as f64 / syncs as f64))
}
