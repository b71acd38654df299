use redb::backends::InMemoryBackend;

use super::*;
use crate::store::embedded::common::Common;

const SECRET: Secret = [7; 32];

fn files() -> [File; 2] {
    [Box::new(InMemoryBackend::new()), Box::new(InMemoryBackend::new())]
}

fn numbers(journal: &Journal, after: u64) -> Result<Vec<u64>, Flaw> {
    let frames = read(&journal.files, after, &SECRET).expect("in memory");
    frames.map(|frames| frames.iter().map(|frame| frame.number).collect())
}

/// Damages a byte of a file.
fn damage(journal: &Journal, file: usize, at: u64) {
    let file = &journal.files[file];
    let mut byte = [0];
    file.read(at, &mut byte).expect("in memory");
    file.write(at, &[byte[0] ^ 1]).expect("in memory");
}

/// Where something in the frame of that number lies in its file, the frames before having
/// two pages each.
fn within(frame: u64, at: usize) -> u64 {
    frame * 2 * ALIGN as u64 + at as u64
}

/// Three frames, three in the other file, and one over the first.
fn turned() -> Journal {
    let mut journal = Journal::new(files(), 0, SECRET);
    for frame in 1..=7 {
        journal.append(&vec![frame; 3000], true).expect("in memory");
        if frame == 3 || frame == 6 {
            journal.turn_over();
        }
    }
    journal
}

#[test]
fn frames_are_read_in_order_and_old_ones_are_not() {
    let journal = turned();
    assert_eq!(numbers(&journal, 3), Ok(vec![4, 5, 6, 7]));
    assert_eq!(numbers(&journal, 6), Ok(vec![7]));
    assert_eq!(numbers(&journal, 9), Ok(vec![]));
}

#[test]
fn a_torn_frame_is_not_read() {
    for torn in [0, 5, HEAD, 2999] {
        let journal = turned();
        damage(&journal, 0, torn as u64);
        assert_eq!(numbers(&journal, 3), Ok(vec![4, 5, 6]), "byte {torn}");
    }
}

#[test]
fn frames_that_are_missing_are_noticed() {
    assert_eq!(numbers(&turned(), 2), Err(Flaw::Missing));
    let new = Journal::new(files(), 0, SECRET);
    assert_eq!((numbers(&new, 0), numbers(&new, 1)), (Ok(vec![]), Err(Flaw::Missing)));
}

/// Six frames over what is left of three.
fn long() -> Journal {
    let mut journal = Journal::new(files(), 0, SECRET);
    for frame in 1..=12 {
        journal.append(&vec![frame; 5000], true).expect("in memory");
        if frame == 3 || frame == 6 {
            journal.turn_over();
        }
    }
    journal
}

#[test]
fn a_damaged_frame_that_others_follow_is_noticed() {
    for damaged in 0..6 {
        for at in [0, 5, HEAD, ALIGN, HEAD + 4999] {
            let journal = long();
            damage(&journal, 0, within(damaged, at));
            let expected = match damaged {
                // It need not have been acknowledged.
                5 => Ok((7..=11).collect()),
                _ => Err(Flaw::Damaged),
            };
            assert_eq!(numbers(&journal, 6), expected, "frame {damaged}, byte {at}");
            // As soon as all of it is in the tables, nobody needs it.
            assert_eq!(numbers(&journal, 12), Ok(vec![]));
        }
    }
}

/// What a client has sent may read like the head of a frame of a far future, and each would have
/// megabytes to hash.
#[test]
fn numbers_that_no_frame_can_have_are_not_looked_into() {
    let journal = long();
    let content = vec![1; 64 << 20];
    journal.files[1].set_len(content.len() as u64).expect("in memory");
    journal.files[1].write(0, &content).expect("in memory");
    let begun = std::time::Instant::now();
    assert_eq!(numbers(&journal, 12), Ok(vec![]));
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn several_damaged_frames_are_noticed() {
    let journal = long();
    (1..5).for_each(|frame| damage(&journal, 0, within(frame, 0)));
    assert_eq!(numbers(&journal, 6), Err(Flaw::Damaged));
}

#[test]
fn a_frame_that_never_reached_the_disk_is_noticed() {
    let (journal, mut before) = (long(), Journal::new(files(), 0, SECRET));
    before.append(&[1; 5000], true).expect("in memory");
    let mut stale = [0; 2 * ALIGN];
    before.files[0].read(0, &mut stale).expect("in memory");
    journal.files[0].write(0, &stale).expect("in memory");
    assert_eq!(numbers(&journal, 6), Err(Flaw::Damaged));
}

/// A process that was started again takes the number of a torn frame once more, at another
/// place.
#[test]
fn a_number_that_is_taken_again_is_no_damage() {
    for more in 1..8 {
        let mut journal = turned();
        journal.append(&[8; 9000], true).expect("in memory");
        damage(&journal, 0, (ALIGN + HEAD) as u64);
        assert_eq!(numbers(&journal, 6), Ok(vec![7]));
        let mut journal = Journal::new(journal.files, 7, SECRET);
        for frame in 0..more {
            journal.append(&[frame; 3000], true).expect("in memory");
        }
        let expected = (8..8 + u64::from(more)).collect();
        assert_eq!(numbers(&journal, 7), Ok(expected), "{more} more");
    }
}

/// A response can hold what reads like a frame, at the beginning of a page.
#[test]
fn a_frame_that_somebody_else_has_made_is_none() {
    for secret in [[0; 32], [8; 32]] {
        for number in [1, 2, 3, 1000] {
            let mut theirs = Journal::new(files(), number - 1, secret);
            theirs.append(&[1; 100], true).expect("in memory");
            let mut forged = vec![1; 3 * ALIGN];
            theirs.files[0].read(0, &mut forged[ALIGN - HEAD..][..ALIGN]).expect("in memory");
            // It was torn, or it was written over: what is left begins with the second page.
            let mut journal = Journal::new(files(), 0, SECRET);
            journal.append(&[1; 10], true).expect("in memory");
            journal.turn_over();
            journal.append(&forged, true).expect("in memory");
            damage(&journal, 1, 0);
            assert_eq!(numbers(&journal, 0), Ok(vec![1]), "{number}");
            let mut journal = Journal::new(journal.files, 1, SECRET);
            journal.turn_over();
            journal.append(&[1; 10], true).expect("in memory");
            assert_eq!(numbers(&journal, 1), Ok(vec![2]), "{number}");
        }
    }
}

/// A start that was cut off may have left the one with its length and the other without.
#[test]
fn files_that_have_a_length_are_made_to_keep_it() {
    let parts = [Common::default(), Common::default()];
    parts[1].set_len(GROWTH as u64).unwrap();
    let files = parts.clone().map(|part| Box::new(part) as File);
    create(&files).unwrap();
    assert_eq!(parts.map(|part| part.forced()), [1, 1]);
}
