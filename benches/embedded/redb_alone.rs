//! What redb does with the same rows.

use std::time::{Duration, Instant};

use redb::{Database, TableDefinition};

use crate::{Failure, sample};

const HEADS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("heads");
const RESPONSES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("responses");

/// About as long as an encoded head.
const HEAD: [u8; 100] = [1; 100];
/// About as long as an encoded response.
const RESPONSE: [u8; sample::BODY + 64] = [2; sample::BODY + 64];

/// Durable writes per second in transactions of `batch`: half of them insert a head,
/// the others replace one that is there and insert a response.
pub(crate) fn writes(batch: usize, quick_repair: bool, time: Duration) -> Result<f64, Failure> {
    let folder = crate::folder()?;
    let database = Database::create(folder.path().join("alone.redb"))?;
    let (begun, mut writes) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(quick_repair);
        let mut heads = transaction.open_table(HEADS)?;
        let mut responses = transaction.open_table(RESPONSES)?;
        for _ in 0..batch {
            let pair = writes / 2;
            // The answers of one batch belong to the claims of the batch before it.
            let is_claim = writes.is_multiple_of(2);
            let number = if is_claim { pair } else { pair.saturating_sub(batch as u64 / 2) };
            let key = sample::key(number);
            heads.insert(key.as_bytes(), &HEAD[..])?;
            if !is_claim {
                responses.insert(key.as_bytes(), &RESPONSE[..])?;
            }
            writes += 1;
        }
        drop((heads, responses));
        transaction.commit()?;
    }
    Ok(writes as f64 / begun.elapsed().as_secs_f64())
}
