use proptest::prelude::*;
use redb::{ReadableTableMetadata as _, backends::InMemoryBackend};

use super::*;
use crate::{ambient::System, store::embedded::meta};

fn database() -> Database {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    meta::prepare(&database, &System).unwrap().unwrap();
    database
}

/// A place that only the time tells from others.
fn at(time: u64) -> Place {
    (time, 0, 0, 0)
}

fn half(number: u64) -> [u8; 16] {
    *blake3::hash(&number.to_be_bytes()).as_bytes().first_chunk().unwrap()
}

/// One transaction.
fn write<T>(database: &Database, index: &mut Index, work: impl FnOnce(&mut Writing<'_>) -> T) -> T {
    let transaction = database.begin_write().unwrap();
    let mut writing = index.write(&transaction).unwrap();
    let done = work(&mut writing);
    *index = writing.close(&transaction).unwrap();
    transaction.commit().unwrap();
    done
}

fn read(database: &Database, index: &Index) -> Reading {
    index.read(&database.begin_read().unwrap()).unwrap()
}

/// Keys from 0 to `keys`, four in each transaction, each with its number for its time.
fn filled(database: &Database, keys: u64) -> Index {
    let mut index = Index::of(database, 16);
    for first in (0..keys).step_by(4) {
        write(database, &mut index, |writing| {
            for number in first..keys.min(first + 4) {
                assert_eq!(writing.insert(&half(number), at(number)).unwrap(), None);
            }
        });
    }
    index
}

/// Panics unless there are these keys and no others of the first 1000.
fn holds(database: &Database, index: &Index, expected: impl Fn(u64) -> Option<u64>) {
    let reading = read(database, index);
    for number in 0..1000 {
        let times = reading.get(&half(number)).unwrap();
        assert_eq!(times, expected(number).map(at), "key {number}");
    }
    let mut keys: Vec<_> =
        (0..1000).filter_map(|number| Some((half(number), at(expected(number)?)))).collect();
    keys.sort_unstable();
    assert_eq!(reading.count().unwrap(), keys.len() as u64);
    let mut listed = Vec::new();
    while let page = reading.list(listed.last().map(|(half, _)| half), 7).unwrap()
        && !page.is_empty()
    {
        listed.extend(page);
    }
    assert_eq!(listed, keys);
}

#[test]
fn keys_are_found_in_every_generation_and_after_they_were_opened_again() {
    let database = database();
    let index = filled(&database, 100);
    assert_eq!(index.generations.len(), 7);
    let number = |number| (number < 100).then_some(number);
    holds(&database, &index, number);
    let again = Index::open(&database).unwrap();
    assert_eq!((again.generations.len(), again.taken), (7, index.taken));
    holds(&database, &again, number);
}

#[test]
fn a_key_that_is_put_again_moves_to_the_youngest() {
    let database = database();
    let mut index = filled(&database, 40);
    for (number, time) in [(3, 50), (3, 51), (39, 52)] {
        let before = if time == 51 { 50 } else { number };
        let put = write(&database, &mut index, |writing| writing.insert(&half(number), at(time)));
        assert_eq!(put.unwrap(), Some(at(before)));
    }
    holds(&database, &index, |number| match number {
        3 => Some(51),
        39 => Some(52),
        other => (other < 40).then_some(other),
    });
    let removed = write(&database, &mut index, |writing| {
        [3, 3, 20].map(|number| writing.remove(&half(number)).unwrap())
    });
    assert_eq!(removed, [Some(at(51)), None, Some(at(20))]);
}

#[test]
fn what_is_left_of_a_generation_moves_on_and_what_is_empty_is_gone() {
    let database = database();
    let mut index = filled(&database, 40);
    assert_eq!(index.generations.len(), 3);
    write(&database, &mut index, |writing| {
        (0..15).for_each(|number| assert!(writing.remove(&half(number)).unwrap().is_some()));
    });
    assert!(read(&database, &index).is_due().unwrap());
    assert_eq!(write(&database, &mut index, |writing| move_on(writing, 10)), 1);
    assert!(!read(&database, &index).is_due().unwrap());
    let numbers = index.generations.iter().map(|generation| generation.number);
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2]);
    holds(&database, &index, |number| (15..40).contains(&number).then_some(number));
    // Its table and its filter are gone, too.
    let transaction = database.begin_read().unwrap();
    assert_eq!(transaction.open_table(FILTERS).unwrap().len().unwrap(), 1);
    let names = transaction.list_tables().unwrap();
    assert_eq!(
        names.filter(|table| redb::TableHandle::name(table).starts_with("index")).count(),
        2
    );
}

/// What a transaction does with keys that are there, merging first.
fn move_on(writing: &mut Writing<'_>, limit: usize) -> usize {
    let merged = writing.merge(limit).unwrap();
    merged + writing.thin_out(limit - merged).unwrap()
}

/// Merges until nothing is left to do, `step` keys in each transaction, and tells how many
/// transactions that took.
fn settle(database: &Database, index: &mut Index, step: usize) -> usize {
    let mut steps = 0;
    while index.growing.is_some() || read(database, index).is_due().unwrap() {
        write(database, index, |writing| assert!(move_on(writing, step) <= step));
        steps += 1;
        assert!(steps < 10_000, "it does not end");
    }
    steps
}

fn kinds(index: &Index) -> Vec<bool> {
    index.generations.iter().map(|generation| generation.merged).collect()
}

#[test]
fn full_generations_become_one() {
    let database = database();
    let mut index = filled(&database, 127);
    assert_eq!(kinds(&index), [false; 8]);
    assert!(!read(&database, &index).is_due().unwrap());
    write(&database, &mut index, |writing| writing.insert(&half(127), at(127)).unwrap());
    assert_eq!(
        kinds(&index),
        [false, false, false, false, false, false, false, false, true, false]
    );

    // Half of it, during which keys are put again, removed, added, and read after a restart.
    for _ in 0..6 {
        assert_eq!(write(&database, &mut index, |writing| move_on(writing, 10)), 10);
    }
    write(&database, &mut index, |writing| {
        for number in 0..32 {
            assert_eq!(writing.insert(&half(number), at(1000)).unwrap(), Some(at(number)));
        }
        for number in 32..64 {
            assert_eq!(writing.remove(&half(number)).unwrap(), Some(at(number)));
        }
        assert_eq!(writing.insert(&half(500), at(500)).unwrap(), None);
    });
    let expected = |number| match number {
        0..32 => Some(1000),
        64..128 | 500 => Some(number),
        _ => None,
    };
    holds(&database, &index, expected);
    let mut again = Index::open(&database).unwrap();
    assert_eq!((again.growing, again.generations.len()), (index.growing, index.generations.len()));
    again.fewest = index.fewest;
    holds(&database, &again, expected);

    settle(&database, &mut again, 10);
    assert_eq!((kinds(&again), again.growing), (vec![true, false, false], None));
    holds(&database, &again, expected);
    // Those that were merged are gone with their filters, and the one they became has its own.
    let transaction = database.begin_read().unwrap();
    assert_eq!(transaction.open_table(FILTERS).unwrap().len().unwrap(), 2);
    holds(&database, &Index::open(&database).unwrap(), expected);
}

#[test]
fn what_has_expired_meanwhile_leaves_nothing_to_merge() {
    let database = database();
    let mut index = filled(&database, 128);
    write(&database, &mut index, |writing| {
        (0..128).for_each(|number| assert!(writing.remove(&half(number)).unwrap().is_some()));
    });
    settle(&database, &mut index, 10);
    assert_eq!((kinds(&index), index.growing), (vec![false], None));
    holds(&database, &index, |_| None);
}

#[test]
fn what_expires_while_it_is_merged_leaves_nothing() {
    let database = database();
    let mut index = filled(&database, 128);
    write(&database, &mut index, |writing| assert_eq!(move_on(writing, 10), 10));
    assert!(index.growing.is_some());
    write(&database, &mut index, |writing| {
        (0..128).for_each(|number| assert!(writing.remove(&half(number)).unwrap().is_some()));
    });
    assert_eq!((kinds(&index), index.growing), (vec![false], None));
    assert!(!read(&database, &index).is_due().unwrap());
    holds(&database, &index, |_| None);
}

#[test]
fn more_keys_make_larger_generations_and_not_many() {
    let database = database();
    let mut index = Index::of(&database, 4);
    for number in 0..1000 {
        write(&database, &mut index, |writing| {
            writing.insert(&half(number), at(number)).unwrap();
            move_on(writing, 2);
        });
    }
    let made_for = |index: &Index| index.generations.last().unwrap().keys;
    assert!((6..=1000 / PART).contains(&made_for(&index)), "{}", made_for(&index));
    let all = index.generations.len();
    assert!(all < 64, "{all} generations");
    holds(&database, &index, Some);
    write(&database, &mut index, |writing| {
        (0..1000).for_each(|number| assert!(writing.remove(&half(number)).unwrap().is_some()));
    });
    settle(&database, &mut index, 2);
    assert_eq!(index.generations.len(), 1);
    holds(&database, &index, |_| None);
}

#[test]
fn a_damaged_filter_is_made_anew() {
    let database = database();
    filled(&database, 40);
    let transaction = database.begin_write().unwrap();
    let mut filters = transaction.open_table(FILTERS).unwrap();
    let (digest, bytes) = {
        let row = filters.get(0).unwrap().unwrap();
        (*row.value().0, row.value().1.to_vec())
    };
    filters.insert(0, (&digest, &*vec![0; bytes.len()])).unwrap();
    drop(filters);
    transaction.commit().unwrap();
    let index = Index::open(&database).unwrap();
    holds(&database, &index, |number| (number < 40).then_some(number));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_is_a_map(
        keys in prop::sample::select(vec![2, 16]),
        steps in prop::collection::vec((0..60_u64, prop::option::weighted(0.6, 0..1000_u64), 0..4_usize), 1..200)
    ) {
        let database = database();
        let mut index = Index::of(&database, keys);
        let mut expected = std::collections::BTreeMap::new();
        for (number, time, moved) in steps {
            let before = write(&database, &mut index, |writing| {
                move_on(writing, moved);
                match time {
                    Some(time) => writing.insert(&half(number), at(time)).unwrap(),
                    None => writing.remove(&half(number)).unwrap(),
                }
            });
            let known = match time {
                Some(time) => expected.insert(number, time),
                None => expected.remove(&number),
            };
            prop_assert_eq!(before, known.map(at));
        }
        holds(&database, &index, |number| expected.get(&number).copied());
        holds(&database, &Index::open(&database).unwrap(), |number| expected.get(&number).copied());
    }
}
