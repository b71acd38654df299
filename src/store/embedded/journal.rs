//! Two files in turn that make a batch of changes last with one small forced write.
//!
//! 1. A frame is written when the one before it was forced to the disk. At most the
//!    last frame of all was not acknowledged, and only that one can be torn.
//! 2. Frames count up over both files and over restarts. What is left in a file from
//!    its turn before has lower numbers, so reading stops there.
//! 3. So a whole frame with a higher number than the last that can be read proves that one
//!    before it was acknowledged and is damaged. Such a journal is not read: what is
//!    missing may have been claims.
//! 4. A file is written from its beginning again only when everything in it is in
//!    the tables, durably: its caller turns the journal over no earlier.
//! 5. A frame begins at a multiple of [`ALIGN`], so no forced page is written again
//!    in the same turn.
//! 6. Nobody can make a frame who does not know the folder's [`Secret`]: not even one whose
//!    response lies in the file and is what remains of a frame that was torn, or of one
//!    from a turn before.
//!
//! | bytes of a frame | what |
//! |---|---|
//! | 4 | how many bytes of changes follow the 28 of this head; never 0 |
//! | 8 | its number |
//! | 16 | BLAKE3 of the number and the changes, keyed with the secret and cut short |
//! | n | changes, see [`row`](super::row) |

use std::{io, ops::RangeInclusive};

use bytes::{Buf, BufMut, Bytes};
use redb::StorageBackend;

use crate::mutants::{Mutant, is_active};

/// Where a file keeps its bytes.
pub(super) type File = Box<dyn StorageBackend>;

const HEAD: usize = 28;
const ALIGN: usize = 4096;

/// What the frames of one folder are hashed with.
pub(super) type Secret = [u8; 32];

/// Files grow by this much, written as zeros: to overwrite what is there costs the
/// disk a fraction of what appending does.
pub(super) const GROWTH: usize = 1 << 20;

/// Both files, and where the next frame goes.
#[derive(Debug)]
pub(super) struct Journal {
    files: [File; 2],
    turn: usize,
    offset: u64,
    last: u64,
    secret: Secret,
}

/// What a file of the journal holds.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) number: u64,
    pub(super) changes: Bytes,
}

/// Why a journal cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Frames are missing, or a file is.
    Missing,
    /// What was acknowledged is damaged.
    Damaged,
}

/// Why a frame was not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// Nothing of it was: there is no room.
    NotBegun(io::Error),
    /// Nobody knows whether it is there.
    InDoubt(io::Error),
}

impl Journal {
    /// A journal whose files hold nothing that is needed any more, up to frame `last`.
    pub(super) fn new(files: [File; 2], last: u64, secret: Secret) -> Self {
        Self { files, turn: 0, offset: 0, last, secret }
    }

    /// The number of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Writes a frame and forces it to the disk; returns how many bytes of the file it
    /// takes.
    pub(super) fn append(&mut self, changes: &[u8], force: bool) -> Result<usize, Unwritten> {
        let number = self.last + 1;
        let length = u32::try_from(changes.len()).map_err(io::Error::other);
        let length = length.map_err(Unwritten::NotBegun)?;
        let mut frame = Vec::with_capacity((HEAD + changes.len()).next_multiple_of(ALIGN));
        frame.put_u32(length);
        frame.put_u64(number);
        frame.put_slice(&digest(&self.secret, number, changes));
        frame.put_slice(changes);
        frame.resize(frame.len().next_multiple_of(ALIGN), 0);

        self.make_room(frame.len()).map_err(Unwritten::NotBegun)?;
        let file = &self.files[self.turn];
        file.write(self.offset, &frame).map_err(Unwritten::InDoubt)?;
        if force {
            file.sync_data().map_err(Unwritten::InDoubt)?;
        }
        (self.offset, self.last) = (self.offset + frame.len() as u64, number);
        Ok(frame.len())
    }

    /// Sees to it that a frame of that many bytes has room. After an error nothing of it is there,
    /// and what the file has grown by is.
    pub(super) fn make_room(&self, length: usize) -> io::Result<()> {
        let file = &self.files[self.turn];
        let end = self.offset + length as u64;
        let mut there = file.len()?;
        while there < end {
            let grown = file
                .set_len(there + GROWTH as u64)
                .and_then(|()| file.write(there, &vec![0; GROWTH]));
            if let Err(error) = grown {
                // A length without blocks behind it would be taken for room the next time.
                let _ = file.set_len(there);
                return Err(error);
            }
            there += GROWTH as u64;
        }
        Ok(())
    }

    /// Goes on at the beginning of the other file.
    pub(super) fn turn_over(&mut self) {
        (self.turn, self.offset) = (1 - self.turn, 0);
    }
}

/// Whether nothing was ever in these files.
pub(super) fn are_empty(files: &[File; 2]) -> io::Result<bool> {
    Ok(files[0].len()? == 0 && files[1].len()? == 0)
}

/// Makes new files ones that cannot be taken for missing ones: from now on neither is
/// ever empty. One that has a length may have it from a start that was cut off, and the disk
/// may not know of it yet.
pub(super) fn create(files: &[File; 2]) -> io::Result<()> {
    for file in files {
        if file.len()? == 0 {
            file.set_len(GROWTH as u64)?;
            file.write(0, &vec![0; GROWTH])?;
        }
        if !is_active(Mutant::TrustLength) {
            file.sync_data()?;
        }
    }
    Ok(())
}

/// Reads the frames after number `after`, in order.
pub(super) fn read(
    files: &[File; 2],
    after: u64,
    secret: &Secret,
) -> io::Result<Result<Vec<Frame>, Flaw>> {
    if after > 0 && (files[0].len()? == 0 || files[1].len()? == 0) {
        return Ok(Err(Flaw::Missing));
    }
    let (mut frames, mut behind) = (Vec::new(), Vec::new());
    for file in files {
        behind.push(read_file(file, secret, &mut frames)?);
    }
    frames.sort_by_key(|frame| frame.number);
    frames.retain(|frame| frame.number > after);
    if (after + 1..).zip(&frames).any(|(number, frame)| frame.number != number) {
        return Ok(Err(Flaw::Missing));
    }
    let last = frames.last().map_or(after, |frame| frame.number);
    // No more frames can have followed than there is room for.
    let most = (files[0].len()? + files[1].len()?) / ALIGN as u64;
    let later = last + 1..=last.saturating_add(most);
    let is_damaged = behind.into_iter().any(|behind| has_later(&behind, &later, secret));
    let is_damaged = is_damaged && !is_active(Mutant::TakeDamageForTorn);
    Ok(if is_damaged { Err(Flaw::Damaged) } else { Ok(frames) })
}

/// Reads the frames of a file's last turn, and returns what lies behind them.
fn read_file(file: &File, secret: &Secret, frames: &mut Vec<Frame>) -> io::Result<Bytes> {
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut content = vec![0; length];
    file.read(0, &mut content)?;
    let mut content = Bytes::from(content);
    let mut next_number = None;
    while let Some((frame, behind)) = first(&content, secret) {
        if next_number.is_some_and(|number| frame.number != number) {
            break;
        }
        next_number = Some(frame.number + 1);
        frames.push(frame);
        content = behind;
    }
    Ok(content)
}

/// Whether a whole frame with a `later` number begins anywhere in there.
fn has_later(behind: &Bytes, later: &RangeInclusive<u64>, secret: &Secret) -> bool {
    (0..behind.len()).step_by(ALIGN).map(|offset| behind.slice(offset..)).any(|content| {
        // Next to nothing in there has such a number, so next to nothing is hashed.
        let number = content.get(4..12).map(|mut bytes| bytes.get_u64());
        number.is_some_and(|number| later.contains(&number)) && first(&content, secret).is_some()
    })
}

/// The frame that begins here, if it is whole, and what lies behind it.
fn first(content: &Bytes, secret: &Secret) -> Option<(Frame, Bytes)> {
    let mut head = content.get(..HEAD)?;
    let length = usize::try_from(head.get_u32()).ok().filter(|length| *length > 0)?;
    let number = head.get_u64();
    let changes = content.get(HEAD..HEAD.checked_add(length)?)?;
    if digest(secret, number, changes) != head {
        return None;
    }
    let end = (HEAD + length).next_multiple_of(ALIGN).min(content.len());
    Some((Frame { number, changes: content.slice_ref(changes) }, content.slice(end..)))
}

fn digest(secret: &Secret, number: u64, changes: &[u8]) -> [u8; 16] {
    let secret = if is_active(Mutant::OpenDigest) { &[0; 32] } else { secret };
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&number.to_be_bytes()).update(changes);
    let digest: [u8; 32] = hasher.finalize().into();
    *digest.first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
