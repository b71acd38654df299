//! Records as the gate would have written them, many at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Request, Response, request::Parts};
use oncegate::{
    Policy,
    ambient::{Ambient as _, System},
    engine::{
        fingerprint::Hasher,
        record::{Done, Fence, Pending, Record, Recorded, StoredResponse},
    },
    store::{EmbeddedOptions, EmbeddedStore, RedisOptions, RedisStore, Store, StoreError},
};

use crate::{
    Result, interrupt,
    load::{ANSWER, BODY, key},
};

/// Operations under way at once, so that they share round trips and forced writes.
const AT_ONCE: usize = 2048;
/// Records between two lines of progress.
const STEP: u64 = 500_000;

/// Writes `count` records into the store of `url`, and closes it.
pub(super) fn fill(url: &str, count: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Thousands of operations wait in line here, which no gate lets happen.
    let reply_timeout = Duration::from_secs(60);
    runtime.block_on(async {
        match url.strip_prefix("file:") {
            Some(folder) => {
                // Room for the whole index, so that the last records go in as fast as the first.
                let options = EmbeddedOptions { page_cache: 640 << 20, reply_timeout };
                let store = EmbeddedStore::open_with(folder, Arc::new(System), options)?;
                write(&store, url, count).await
            }
            None => {
                let options = RedisOptions { reply_timeout, ..RedisOptions::default() };
                write(&RedisStore::connect(url, options)?, url, count).await
            }
        }
    })
}

async fn write(store: &dyn Store, url: &str, count: u64) -> Result<()> {
    let (writer, begin) = (Writer::new(), Instant::now());
    let mut next = 0;
    while next < count {
        interrupt::check()?;
        let end = count.min(next + STEP);
        stream::iter(next..end)
            .map(|number| writer.record(store, number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        next = end;
        eprintln!("{url}: {next} of {count} records after {:.0} s", begin.elapsed().as_secs_f64());
    }
    Ok(())
}

/// What all records have in common.
struct Writer {
    policy: Policy,
    hasher: Hasher,
    /// The request of the load, as far as it counts.
    head: Parts,
    response: StoredResponse,
}

impl Writer {
    fn new() -> Self {
        let request = Request::post("/payments").body(()).expect("the parts are valid");
        let response = Response::builder()
            .header("server", "nginx")
            .header("date", "Sat, 21 Nov 2026 12:00:00 GMT")
            .header("content-type", "application/json")
            .body(())
            .expect("the parts are valid");
        Self {
            policy: Policy::default(),
            hasher: Hasher::new(b""),
            head: request.into_parts().0,
            response: StoredResponse::new(response.into_parts().0, ANSWER.into(), None),
        }
    }

    /// A claim, and the end of it.
    async fn record(&self, store: &dyn Store, number: u64) -> std::result::Result<(), StoreError> {
        let name = self.hasher.store_key(&self.policy.scope, &self.head, &key(number));
        let fingerprint = self.hasher.fingerprint(&self.policy, &self.head, BODY.as_bytes());
        let (fence, now) = (Fence::new(System.token()), System.now());
        let pending = Record::Pending(Pending {
            fence,
            fingerprint,
            node: "side_by_side".into(),
            started: now,
            lease_until: now.after(self.policy.lease),
        });
        store.claim(&name, &pending, self.policy.keep_open()).await?;
        let done = Record::Done(Arc::new(Done {
            fence: fence.next(),
            fingerprint,
            completed: now,
            retained_until: now.after(self.policy.retention),
            response: Recorded::Whole(self.response.clone()),
        }));
        store.swap(&name, fence, &done, self.policy.keep_done()).await?;
        Ok(())
    }
}
