use bytes::Bytes;
use redb::backends::InMemoryBackend;

use super::*;
use crate::{
    ambient::System,
    engine::record::{StoreKey, Timestamp},
    store::embedded::{common::Common, meta, row::Row},
};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn database() -> Database {
    let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    meta::prepare(&database, &System).unwrap().unwrap();
    database
}

fn opened(file: &Common, database: &Database) -> Option<Responses> {
    Responses::open(database, Box::new(file.clone())).unwrap()
}

fn key(number: u64) -> StoreKey {
    StoreKey::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

/// A row of `length` bytes and some, whose response expires at `until`.
fn row(number: u64, length: usize, until: u64) -> Row {
    let response = Bytes::from(vec![number as u8; length]);
    let head = Bytes::copy_from_slice(&number.to_be_bytes());
    Row { until: until + DAY, response_until: until, head, response: Some(response) }
}

/// One transaction.
fn write<T>(
    database: &Database,
    responses: &mut Responses,
    work: impl FnOnce(&mut Responses) -> T,
) -> T {
    let transaction = database.begin_write().unwrap();
    let done = work(responses);
    responses.close(&transaction).unwrap();
    transaction.commit().unwrap();
    done
}

/// Appends `count` rows of some 30 KB in a transaction of their own.
fn append(
    database: &Database,
    responses: &mut Responses,
    first: u64,
    count: u64,
    until: u64,
) -> Vec<Spot> {
    write(database, responses, |responses| {
        let numbers = first..first + count;
        let append = |number| {
            responses.append(&key(number), &row(number, 30_000, until), until - DAY).unwrap()
        };
        numbers.map(append).collect()
    })
}

/// Leaves everything that is due.
fn leave(database: &Database, responses: &mut Responses, now: u64) -> usize {
    write(database, responses, |responses| {
        let mut left = 0;
        while let Some(extent) = responses.due(now) {
            for (spot, ..) in responses.rows(extent, usize::MAX).unwrap() {
                responses.leave(spot);
                left += 1;
            }
        }
        left
    })
}

#[test]
fn rows_are_read_where_they_were_written_and_after_the_file_was_opened_again() {
    let (database, file) = (database(), Common::default());
    let mut responses = opened(&file, &database).unwrap();
    let lengths = [0, 10, 1000, 70_000, 5_000_000, 3];
    let spots = write(&database, &mut responses, |responses| {
        let numbered = (0..).zip(lengths);
        let append = |(number, length)| {
            responses.append(&key(number), &row(number, length, 2 * DAY), DAY).unwrap()
        };
        numbered.map(append).collect::<Vec<_>>()
    });
    let mut again = opened(&file, &database).unwrap();
    for responses in [&mut responses, &mut again] {
        let reading = responses.read();
        for ((number, length), spot) in (0..).zip(lengths).zip(&spots) {
            let expected = row(number, length, 2 * DAY);
            let bare = Row { response: None, ..expected.clone() };
            assert_eq!(reading.row(*spot).unwrap(), Some((key(number), expected)));
            assert_eq!(reading.bare(*spot).unwrap(), Some((key(number), bare)));
            assert_eq!(responses.key(*spot).unwrap(), Some(key(number)));
        }
        assert!(!reading.is_due(Timestamp(2 * DAY - 1)) && reading.is_due(Timestamp(2 * DAY)));
    }
}

#[test]
fn what_was_not_committed_is_written_over() {
    let (database, file) = (database(), Common::default());
    let mut responses = opened(&file, &database).unwrap();
    let first = append(&database, &mut responses, 0, 3, 2 * DAY);
    // The power goes before the transaction is committed.
    for number in 10..30 {
        responses.append(&key(number), &row(number, 30_000, 2 * DAY), DAY).unwrap();
    }
    let mut responses = opened(&file, &database).unwrap();
    let second = append(&database, &mut responses, 3, 20, 2 * DAY);
    let reading = responses.read();
    for (number, spot) in (0..).zip(first.iter().chain(&second)) {
        let found = reading.row(*spot).unwrap();
        assert_eq!(found, Some((key(number), row(number, 30_000, 2 * DAY))));
    }
}

#[test]
fn responses_that_expire_together_share_extents() {
    let (database, file) = (database(), Common::default());
    let mut responses = opened(&file, &database).unwrap();
    let row_at = |number: u64, until| row(number, 100, until);
    let spots = write(&database, &mut responses, |responses| {
        let mut spots = Vec::new();
        for number in 0..24 {
            let now = DAY + number * HOUR;
            for kept in [HOUR, DAY] {
                let row = row_at(number, now + kept);
                spots.push(responses.append(&key(number), &row, now).unwrap());
            }
        }
        spots
    });
    let extents = |from: usize| spots.iter().skip(from).step_by(2).map(|spot| spot.extent);
    assert!(extents(0).all(|short| extents(1).all(|long| long != short)));
    for (spot, _, row) in responses.all() {
        let latest = responses.extents[&spot.extent].latest;
        assert!(latest - row.response_until <= DAY / 32, "{spot:?}");
    }
}

/// They gather for seconds, and what is left of their time when they are written is anything.
#[test]
fn responses_that_are_kept_for_seconds_share_few_extents() {
    let (database, file) = (database(), Common::default());
    let mut responses = opened(&file, &database).unwrap();
    write(&database, &mut responses, |responses| {
        for number in 0..4000 {
            // In the order of keys, which is none.
            let until = DAY - 2000 + number * 2_654_435_761 % 4000;
            responses.append(&key(number), &row(number, 100, until), DAY).unwrap();
        }
    });
    assert!(responses.extents.len() <= 20, "{} extents", responses.extents.len());
}

#[test]
fn an_extent_is_left_row_by_row_and_its_room_is_used_again() {
    let (database, file) = (database(), Common::default());
    let mut responses = opened(&file, &database).unwrap();
    let old = append(&database, &mut responses, 0, 100, 2 * DAY);
    let end = responses.space.end();
    let (extent, now) = (old[0].extent, 2 * DAY);
    assert_eq!((responses.due(now - 1), responses.due(now)), (None, Some(extent)));
    write(&database, &mut responses, |responses| responses.leave(old[0]));
    assert!(!responses.is_here(old[0]) && responses.is_here(old[1]));
    let reading = responses.read();
    assert_eq!(reading.row(old[0]).unwrap(), None);
    assert!(reading.row(old[1]).unwrap().is_some());
    drop(reading);
    // Where it was left off is known when the file is opened again.
    let mut responses = opened(&file, &database).unwrap();
    assert_eq!(leave(&database, &mut responses, now), 99);
    assert_eq!(responses.due(u64::MAX), None);
    // No number comes again, though none is left.
    let mut responses = opened(&file, &database).unwrap();
    let new = append(&database, &mut responses, 200, 100, 3 * DAY);
    assert_eq!(responses.space.end(), end, "the file does not grow");
    let reading = responses.read();
    assert!(old.iter().all(|spot| reading.row(*spot).unwrap().is_none()));
    assert!(new.iter().all(|spot| reading.row(*spot).unwrap().is_some()));
}

#[test]
fn room_is_not_used_again_as_long_as_somebody_reads_it() {
    let (database, file) = (database(), Common::default());
    let mut responses = opened(&file, &database).unwrap();
    let old = append(&database, &mut responses, 0, 10, 2 * DAY);
    let reading = responses.read();
    leave(&database, &mut responses, 2 * DAY);
    let after = responses.read();
    append(&database, &mut responses, 20, 40, 3 * DAY);
    for (number, spot) in (0..).zip(&old) {
        let found = reading.row(*spot).unwrap();
        assert_eq!(found, Some((key(number), row(number, 30_000, 2 * DAY))));
        assert_eq!(after.row(*spot).unwrap(), None);
    }
    let end = responses.space.end();
    drop(reading);
    append(&database, &mut responses, 60, 5, 3 * DAY + HOUR);
    assert_eq!(responses.space.end(), end, "now it is");
}

#[test]
fn another_file_is_refused() {
    let database = database();
    let mut responses = opened(&Common::default(), &database).unwrap();
    append(&database, &mut responses, 0, 10, 2 * DAY);
    assert!(opened(&Common::default(), &database).is_none());
}
