//! Listing what is there.

use redis::Pipeline;

use super::{
    RedisStore,
    request::{Commands, Request},
    wire::{Name, read},
};
use crate::{
    engine::{codec, record::StoreKey},
    store::{Cursor, Page, StoreError},
};

/// How many times one page of a listing asks the server, whose database may hold
/// mostly other things.
const SCANS: usize = 16;

impl RedisStore {
    /// The next page of a listing.
    pub(super) async fn page(
        &self,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let mut page = Page { records: Vec::new(), next: cursor };
        for _ in 0..SCANS {
            let mut command = redis::cmd("SCAN");
            command.arg(page.next.as_ref().map_or("0", |cursor| &cursor.0));
            command.arg("MATCH").arg("oncegate:{*}").arg("COUNT").arg(limit.clamp(1, 1000));
            let reply = self.link.run("scan", Request::Send(Commands::One(&command))).await?;
            let (next, names): (String, Vec<Vec<u8>>) = read(reply, "scan")?;
            page.next = (next != "0").then_some(Cursor(next));
            self.summaries(&names, &mut page).await?;
            if page.next.is_none() || page.records.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    /// Reads the heads of `names`, those that are still there.
    async fn summaries(&self, names: &[Vec<u8>], page: &mut Page) -> Result<(), StoreError> {
        let keys: Vec<StoreKey> = names.iter().filter_map(|name| Name::parse(name)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(2 * keys.len());
        for key in &keys {
            let name = Name::of(key);
            pipeline.cmd("GET").arg(name.head()).cmd("EXISTS").arg(name.response());
        }
        let reply = self.link.run("scan", Request::Send(Commands::Many(&pipeline))).await?;
        let rows: Vec<(Option<Vec<u8>>, bool)> = read(reply, "scan")?;
        for (key, (head, response_is_there)) in keys.into_iter().zip(rows) {
            let Some(head) = head else { continue };
            match codec::decode_summary(&head, response_is_there) {
                Ok(summary) => page.records.push((key, summary)),
                Err(error) => tracing::error!(%error, "a record is not listed"),
            }
        }
        Ok(())
    }
}
