use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use redb::{ReadableDatabase, ReadableTableMetadata, StorageBackend, backends::InMemoryBackend};

use super::*;
use crate::{
    ambient::System,
    engine::record::StoreKey,
    store::embedded::{common::Common, meta, responses::Haste, row::Row, tables::Reader},
};

/// Before anything expires.
const EVER: Timestamp = Timestamp(0);

/// Tables whose index has generations of 16 keys.
struct Tables {
    database: Database,
    responses: Common,
    layout: Layout,
}

impl Tables {
    fn new() -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        meta::prepare(&database, &System).unwrap().unwrap();
        let responses = Common::default();
        let layout = Layout::open(&database, Box::new(responses.clone())).unwrap();
        let mut layout = layout.unwrap();
        layout.index = Index::of(&database, 16);
        Self { database, responses, layout }
    }

    /// As a process that was started again has them.
    fn open_again(&mut self) {
        let responses = Responses::open(&self.database, Box::new(self.responses.clone()));
        self.layout.responses = responses.unwrap().unwrap();
    }

    fn store(
        &mut self,
        changes: &Changes,
        last: u64,
        now: u64,
        sweep: usize,
    ) -> Result<usize, Broken> {
        store(&self.database, &mut self.layout, changes, last, Timestamp(now), sweep)
    }

    fn sweep(&mut self, now: u64, limit: usize) -> usize {
        let minute = Duration::from_secs(60);
        sweep(&self.database, &mut self.layout, Timestamp(now), limit, minute).unwrap()
    }

    fn put(&mut self, number: u8, row: Option<Row>) {
        let changes = Changes::from([(key(number), row.map(Arc::new))]);
        self.store(&changes, 1, 0, 0).unwrap();
    }

    fn read(&mut self) -> Reader {
        Reader::open(&self.database, &mut self.layout).unwrap()
    }

    fn is_due(&mut self, now: u64) -> bool {
        self.read().is_due(Timestamp(now)).unwrap()
    }

    /// How many rows there are in `records` and among the responses. Panics unless each is
    /// found by its key, and each key has one.
    fn rows(&mut self) -> (u64, u64) {
        let transaction = self.database.begin_read().unwrap();
        let index = self.layout.index.read(&transaction).unwrap();
        let records = transaction.open_table(RECORDS).unwrap();
        for entry in records.range::<(u64, &[u8; 16])>(..).unwrap() {
            let (until, half) = entry.as_ref().unwrap().0.value();
            let place = index.get(half).unwrap().expect("a row without its key");
            assert_eq!(place.0, until);
            assert!(Spot::of(place).is_none_or(|spot| !self.layout.responses.is_here(spot)));
        }
        let responses = self.layout.responses.all().into_iter().filter(|(spot, key, row)| {
            let place = index.get(halves(key).0).unwrap();
            place == Some(Spot::place(Some(*spot), row.until))
        });
        let (records, responses) = (records.len().unwrap(), responses.count() as u64);
        assert_eq!(index.count().unwrap(), records + responses);
        (records, responses)
    }
}

fn key(number: u8) -> StoreKey {
    StoreKey::from_bytes([number; 32])
}

/// A row whose head and response nobody else has, if only `mark` is new.
fn row(mark: u64, until: u64, response_until: Option<u64>) -> Row {
    let bytes = Bytes::copy_from_slice(&mark.to_be_bytes());
    Row {
        until,
        response_until: response_until.unwrap_or(0),
        head: bytes.clone(),
        response: response_until.map(|_| bytes),
    }
}

#[test]
fn what_replaces_a_record_leaves_nothing_of_it() {
    let mut tables = Tables::new();
    tables.put(1, Some(row(1, 100, None)));
    assert_eq!(tables.rows(), (1, 0));
    tables.put(1, Some(row(2, 200, Some(150))));
    assert_eq!(tables.rows(), (0, 1));
    // The result that comes late, with other times and with the same.
    tables.put(1, Some(row(3, 300, Some(250))));
    tables.put(1, Some(row(4, 300, Some(250))));
    assert_eq!(tables.rows(), (0, 1));
    let held = tables.read().row(&key(1), EVER, Haste::Wait).unwrap();
    assert_eq!(held, Some(row(4, 300, Some(250))));
    // A claim of the key after its record has expired, before that was removed.
    tables.put(1, Some(row(5, 400, None)));
    assert_eq!(tables.rows(), (1, 0));
    tables.put(1, Some(row(6, 500, Some(450))));
    tables.put(1, None);
    assert_eq!(tables.rows(), (0, 0));
}

#[test]
fn what_has_expired_is_removed_little_by_little() {
    let mut tables = Tables::new();
    for number in 0..10 {
        tables.put(number, Some(row(u64::from(number), 200, Some(100))));
    }
    assert_eq!((tables.is_due(99), tables.sweep(99, 100)), (false, 0));
    assert_eq!((tables.is_due(100), tables.sweep(100, 4), tables.rows()), (true, 4, (4, 6)));
    assert_eq!((tables.is_due(100), tables.sweep(100, 100), tables.rows()), (true, 6, (10, 0)));
    let bare = tables.read().row(&key(3), EVER, Haste::Wait).unwrap();
    assert_eq!(bare, Some(Row { response: None, ..row(3, 200, Some(100)) }));
    assert_eq!((tables.is_due(199), tables.sweep(199, 100)), (false, 0));
    assert_eq!((tables.is_due(200), tables.sweep(200, 4), tables.rows()), (true, 4, (6, 0)));
    // A record that expires with its response, or was found only after both had.
    tables.put(20, Some(row(20, 200, Some(200))));
    tables.put(21, Some(row(21, 200, Some(150))));
    assert_eq!((tables.sweep(200, 100), tables.rows()), (8, (0, 0)));
}

#[test]
fn a_key_that_shares_its_half_with_another_is_refused() {
    let mut tables = Tables::new();
    let near = |number| StoreKey::from_bytes(std::array::from_fn(|at| number + u8::from(at == 31)));
    let twin = near(1);
    for (first, again) in
        [(row(1, 100, None), row(2, 100, None)), (row(3, 200, Some(150)), row(4, 200, Some(150)))]
    {
        tables.put(1, Some(first.clone()));
        let reader = tables.read();
        assert!(reader.row(&twin, EVER, Haste::Wait).is_err() && reader.bare(&twin, EVER).is_err());
        // Had they come so close that no look was between them.
        let changes = Changes::from([(twin, Some(Arc::new(again)))]);
        assert!(tables.store(&changes, 1, 0, 0).is_err());
        assert_eq!(tables.read().row(&key(1), EVER, Haste::Wait).unwrap(), Some(first));
    }
    let changes = [key(9), near(9)].map(|key| (key, Some(Arc::new(row(5, 100, None)))));
    assert!(tables.store(&Changes::from(changes), 1, 0, 0).is_err());
}

/// Whose key can be read, or only its other bytes, or nothing.
#[test]
fn a_damaged_response_that_is_replaced_stops_nothing() {
    for at in [0, 40, 76] {
        let mut tables = Tables::new();
        tables.put(1, Some(row(1, 200, Some(150))));
        let mut byte = [0];
        tables.responses.read(at, &mut byte).unwrap();
        tables.responses.write(at, &[byte[0] ^ 1]).unwrap();
        tables.put(1, Some(row(2, 300, Some(250))));
        let held = tables.read().row(&key(1), EVER, Haste::Wait).unwrap();
        assert_eq!(held, Some(row(2, 300, Some(250))), "byte {at}");
    }
}

/// However many times they are kept for: each has its extent, and no more.
#[test]
fn responses_that_are_kept_for_many_times_lie_together() {
    const HOUR: u64 = 3_600_000;
    let mut tables = Tables::new();
    let kept = (0..4000_u64).map(|number| {
        let key = StoreKey::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let until = (1 + number % 24) * HOUR;
        (key, Some(Arc::new(row(number, until, Some(until)))))
    });
    let changes: Changes = kept.collect();
    tables.store(&changes, 1, 0, 0).unwrap();
    let spots = tables.layout.responses.all();
    let extents: std::collections::BTreeSet<u32> =
        spots.iter().map(|(spot, ..)| spot.extent).collect();
    assert_eq!((spots.len(), extents.len()), (4000, 24));
    let reader = tables.read();
    for (key, row) in &changes {
        assert_eq!(reader.row(key, EVER, Haste::Wait).unwrap().as_ref(), row.as_deref());
    }
}

#[test]
fn what_lies_behind_a_damaged_response_stays_where_it_is() {
    const LENGTH: u64 = 77;
    for at in [0, 40, 49, 61, 70, 76] {
        let mut tables = Tables::new();
        let rows = (1..=3).map(|number| (key(number), Some(row(number.into(), 200, Some(100)))));
        let changes = rows.map(|(key, row)| (key, row.map(Arc::new))).collect();
        tables.store(&changes, 1, 0, 0).unwrap();
        let mut byte = [0];
        tables.responses.read(LENGTH + at, &mut byte).unwrap();
        tables.responses.write(LENGTH + at, &[byte[0] ^ 1]).unwrap();
        for swept in [1, 0] {
            let swept = (true, swept, false);
            let sweep = (tables.is_due(100), tables.sweep(100, 100), tables.is_due(100));
            assert_eq!(sweep, swept, "byte {at}");
            let reader = tables.read();
            let before = reader.row(&key(1), EVER, Haste::Wait).unwrap();
            assert_eq!(before, Some(Row { response: None, ..row(1, 200, Some(100)) }));
            assert!(reader.row(&key(2), EVER, Haste::Wait).is_err());
            assert_eq!(
                reader.row(&key(3), EVER, Haste::Wait).unwrap(),
                Some(row(3, 200, Some(100)))
            );
            // It is come upon once more.
            tables.open_again();
        }
        tables.put(3, Some(row(4, 400, Some(300))));
        assert_eq!(
            tables.read().row(&key(3), EVER, Haste::Wait).unwrap(),
            Some(row(4, 400, Some(300)))
        );
        assert_eq!(tables.sweep(400, 100), 2, "the first key's head, and the third");
        let reader = tables.read();
        assert_eq!(
            [1, 3].map(|number| reader.row(&key(number), EVER, Haste::Wait).unwrap()),
            [None, None]
        );
        assert!(reader.row(&key(2), EVER, Haste::Wait).is_err());
        // When its record is over its place is free, whatever lies there.
        assert_eq!(reader.row(&key(2), Timestamp(200), Haste::Wait).unwrap(), None);
        let next = Changes::from([(key(2), Some(Arc::new(row(5, 500, None))))]);
        tables.store(&next, 1, 200, 0).unwrap();
        assert_eq!(tables.read().row(&key(2), EVER, Haste::Wait).unwrap(), Some(row(5, 500, None)));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { number: u8, kept: u64, response: Option<u64> },
    Remove { number: u8 },
    Sweep { limit: usize },
    Pass { time: u64 },
    OpenAgain,
}

/// So long that no two moments share a window of responses.
const MOMENT: u64 = 8192;

fn steps() -> impl Strategy<Value = Step> {
    let number = || 0..24_u8;
    prop_oneof![
        4 => (number(), 1..40_u64, option::of(1..50_u64))
            .prop_map(|(number, kept, response)| Step::Put { number, kept, response }),
        1 => number().prop_map(|number| Step::Remove { number }),
        2 => (0..4_usize).prop_map(|limit| Step::Sweep { limit }),
        2 => (1..20_u64).prop_map(|time| Step::Pass { time }),
        1 => Just(Step::OpenAgain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_key_shows_what_was_put_there_last(steps in vec(steps(), 1..120)) {
        let (mut tables, mut now, mut last) = (Tables::new(), 1000 * MOMENT, 0);
        let mut expected = BTreeMap::new();
        for (mark, step) in steps.into_iter().enumerate() {
            let (mut changes, mut limit) = (Changes::new(), 0);
            match step {
                Step::Put { number, kept, response } => {
                    let after = |moments: u64| now + moments * MOMENT;
                    let response_until = response.map(|response| after(response.min(kept)));
                    let row = row(mark as u64, after(kept), response_until);
                    changes.insert(key(number), Some(Arc::new(row.clone())));
                    expected.insert(number, row);
                }
                Step::Remove { number } => {
                    changes.insert(key(number), None);
                    expected.remove(&number);
                }
                Step::Sweep { limit: some } => limit = some,
                Step::Pass { time } => now += time * MOMENT,
                Step::OpenAgain => tables.open_again(),
            }
            last += 1;
            tables.store(&changes, last, now, limit).unwrap();
            tables.rows();
            let reader = tables.read();
            for number in 0..24 {
                let held = reader.row(&key(number), EVER, Haste::Wait).unwrap();
                let Some(row) = expected.get(&number) else {
                    prop_assert_eq!(held, None);
                    continue;
                };
                let bare = Row { response: None, ..row.clone() };
                let may_be = [
                    Some(row.clone()),
                    Some(bare).filter(|_| row.response_until <= now || row.response.is_none()),
                    None,
                ];
                let ways = if row.until <= now { 3 } else { 2 };
                let shown = may_be[..ways].contains(&held);
                prop_assert!(shown, "{:?} instead of {:?} at {}", held, row, now);
                prop_assert!(held.is_some() || row.until <= now);
            }
        }
        tables.sweep(now, usize::MAX);
        expected.retain(|_, row| row.until > now);
        let responses = expected.values().filter(|row| row.response_until > now).count() as u64;
        let there = expected.len() as u64;
        prop_assert_eq!(tables.rows(), (there - responses, responses));
    }
}
