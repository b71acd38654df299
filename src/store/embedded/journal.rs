//! Two files in turn that make a batch of changes last with one small forced write.
//!
//! 1. A frame is written when the one before it was forced to the disk. At most the
//!    last frame of all was not acknowledged, and only that one can be torn.
//! 2. Frames count up over both files and over restarts. What is left in a file from
//!    its turn before has lower numbers, so reading stops there.
//! 3. A file is written from its beginning again only when everything in it is in
//!    the tables, durably: its caller turns the journal over no earlier.
//! 4. A frame begins at a multiple of [`ALIGN`], so no forced page is written again
//!    in the same turn.
//!
//! | bytes of a frame | what |
//! |---|---|
//! | 4 | how many bytes of changes follow the 28 of this head; never 0 |
//! | 8 | its number |
//! | 16 | BLAKE3 of the number and the changes, cut short |
//! | n | changes, see [`row`](super::row) |

use std::io;

use bytes::{Buf, BufMut, Bytes};
use redb::StorageBackend;

/// Where a file keeps its bytes.
pub(super) type File = Box<dyn StorageBackend>;

const HEAD: usize = 28;
const ALIGN: usize = 4096;

/// Files grow by this much, written as zeros: to overwrite what is there costs the
/// disk a fraction of what appending does.
const GROWTH: usize = 1 << 20;

/// Both files, and where the next frame goes.
#[derive(Debug)]
pub(super) struct Journal {
    files: [File; 2],
    turn: usize,
    offset: u64,
    last: u64,
}

/// What a file of the journal holds.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) changes: Bytes,
}

impl Journal {
    /// A journal whose files hold nothing that is needed any more, up to frame `last`.
    pub(super) fn new(files: [File; 2], last: u64) -> Self {
        Self { files, turn: 0, offset: 0, last }
    }

    /// The number of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Writes a frame and forces it to the disk; returns how many bytes of the file it
    /// takes. After an error nobody knows whether it is there.
    pub(super) fn append(&mut self, changes: &[u8], force: bool) -> io::Result<usize> {
        let number = self.last + 1;
        let length = u32::try_from(changes.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity((HEAD + changes.len()).next_multiple_of(ALIGN));
        frame.put_u32(length);
        frame.put_u64(number);
        frame.put_slice(&digest(number, changes));
        frame.put_slice(changes);
        frame.resize(frame.len().next_multiple_of(ALIGN), 0);

        let file = &self.files[self.turn];
        let end = self.offset + frame.len() as u64;
        let mut there = file.len()?;
        while there < end {
            file.set_len(there + GROWTH as u64)?;
            file.write(there, &vec![0; GROWTH])?;
            there += GROWTH as u64;
        }
        file.write(self.offset, &frame)?;
        if force {
            file.sync_data()?;
        }
        (self.offset, self.last) = (end, number);
        Ok(frame.len())
    }

    /// Goes on at the beginning of the other file.
    pub(super) fn turn_over(&mut self) {
        (self.turn, self.offset) = (1 - self.turn, 0);
    }
}

/// Makes new files ones that cannot be taken for missing ones: from now on neither is
/// ever empty.
pub(super) fn create(files: &[File; 2]) -> io::Result<()> {
    for file in files {
        if file.len()? == 0 {
            file.set_len(GROWTH as u64)?;
            file.write(0, &vec![0; GROWTH])?;
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Reads the frames after number `after`, in order. `None`: some of them are missing, or
/// a file is.
pub(super) fn read(files: &[File; 2], after: u64) -> io::Result<Option<Vec<Frame>>> {
    if after > 0 && (files[0].len()? == 0 || files[1].len()? == 0) {
        return Ok(None);
    }
    let mut frames = read_file(&files[0])?;
    frames.append(&mut read_file(&files[1])?);
    frames.sort_by_key(|frame| frame.number);
    frames.retain(|frame| frame.number > after);
    let gapless = (after + 1..).zip(&frames).all(|(number, frame)| frame.number == number);
    Ok(gapless.then_some(frames))
}

fn read_file(file: &File) -> io::Result<Vec<Frame>> {
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read(0, &mut content)?;
    let mut content = Bytes::from(content);
    let mut frames: Vec<Frame> = Vec::new();
    while let Some(frame) = next(&mut content) {
        if frames.last().is_some_and(|before| frame.number != before.number + 1) {
            break;
        }
        frames.push(frame);
    }
    Ok(frames)
}

/// Takes a whole frame off the front.
fn next(content: &mut Bytes) -> Option<Frame> {
    let mut head = content.get(..HEAD)?;
    let length = usize::try_from(head.get_u32()).ok().filter(|length| *length > 0)?;
    let number = head.get_u64();
    let changes = content.get(HEAD..HEAD.checked_add(length)?)?;
    if digest(number, changes) != head {
        return None;
    }
    let changes = content.slice_ref(changes);
    content.advance((HEAD + length).next_multiple_of(ALIGN).min(content.len()));
    Some(Frame { number, changes })
}

fn digest(number: u64, changes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_be_bytes()).update(changes);
    let digest: [u8; 32] = hasher.finalize().into();
    *digest.first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn files() -> [File; 2] {
        [Box::new(InMemoryBackend::new()), Box::new(InMemoryBackend::new())]
    }

    fn numbers(journal: &Journal, after: u64) -> Option<Vec<u64>> {
        let frames = read(&journal.files, after).expect("in memory");
        frames.map(|frames| frames.iter().map(|frame| frame.number).collect())
    }

    /// Three frames, three in the other file, and one over the first.
    fn turned() -> Journal {
        let mut journal = Journal::new(files(), 0);
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
        assert_eq!(numbers(&journal, 3), Some(vec![4, 5, 6, 7]));
        assert_eq!(numbers(&journal, 6), Some(vec![7]));
        assert_eq!(numbers(&journal, 9), Some(vec![]));
    }

    #[test]
    fn a_torn_frame_is_not_read() {
        for torn in [0, 5, HEAD, 2999] {
            let journal = turned();
            let before = &journal.files[0];
            let mut byte = [0];
            before.read(torn as u64, &mut byte).expect("in memory");
            before.write(torn as u64, &[byte[0] ^ 1]).expect("in memory");
            assert_eq!(numbers(&journal, 3), Some(vec![4, 5, 6]), "byte {torn}");
        }
    }

    #[test]
    fn frames_that_are_missing_are_noticed() {
        assert_eq!(numbers(&turned(), 2), None);
        let new = Journal::new(files(), 0);
        assert_eq!((numbers(&new, 0), numbers(&new, 1)), (Some(vec![]), None));
    }
}
