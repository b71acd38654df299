//! Which keys a generation of the [index](super::index) may hold.
//!
//! A Bloom filter in blocks of one cache line each (Putze, Sanders and Singler,
//! "Cache-, Hash- and Space-Efficient Bloom Filters", 2007).
//!
//! 1. A key that was added is known for ever. One that was not is taken for known in
//!    about one of a hundred cases, which costs a look into the generation.
//! 2. Store keys are hashes already, so their bits are taken as they are.
//! 3. The bits are part of the [format](super::tables::FORMAT) of the tables.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Bits for each key that is expected.
const BITS: u64 = 12;

/// Bits that one key sets, each named by [`NAME`] bits of it.
const SET: u32 = 7;
const NAME: u32 = 9;

const WORDS: usize = 8;
const BYTES: usize = 8 * WORDS;

#[derive(Default)]
#[repr(align(64))]
struct Block([AtomicU64; WORDS]);

/// A set of keys that knows too many. Keys are added while others look.
pub(super) struct Filter {
    blocks: Box<[Block]>,
}

impl Filter {
    /// For about `keys` keys; with more it knows too many more.
    pub(super) fn new(keys: u64) -> Self {
        let blocks = (keys * BITS).div_ceil(BYTES as u64 * 8).max(1);
        Self { blocks: (0..blocks).map(|_| Block::default()).collect() }
    }

    pub(super) fn add(&self, half: &[u8; 16]) {
        let (block, bits) = self.place(half);
        for (word, bit) in bits {
            block.0[word].fetch_or(bit, Relaxed);
        }
    }

    /// Whether a key with this half may have been added. What was added before its
    /// row could be read is seen, since the lock that hands on tables orders the two.
    pub(super) fn knows(&self, half: &[u8; 16]) -> bool {
        let (block, mut bits) = self.place(half);
        bits.all(|(word, bit)| block.0[word].load(Relaxed) & bit != 0)
    }

    /// Where a key's bits are: neighbours in the order of keys share their block.
    fn place(&self, half: &[u8; 16]) -> (&Block, impl Iterator<Item = (usize, u64)> + use<>) {
        let (words, _) = half.as_chunks();
        let [block, names] = [0, 1].map(|word| u64::from_be_bytes(words[word]));
        let block = (u128::from(block) * self.blocks.len() as u128) >> 64;
        let bits = (0..SET).map(move |number| {
            let name = names >> (number * NAME);
            ((name >> 6) as usize % WORDS, 1 << (name % 64))
        });
        (&self.blocks[block as usize], bits)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let words = self.blocks.iter().flat_map(|block| &block.0);
        words.flat_map(|word| word.load(Relaxed).to_le_bytes()).collect()
    }

    /// `None`: no filter has so many bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (blocks, rest) = bytes.as_chunks::<BYTES>();
        if blocks.is_empty() || !rest.is_empty() {
            return None;
        }
        let block = |block: &[u8; BYTES]| {
            let (words, _) = block.as_chunks();
            Block(std::array::from_fn(|word| u64::from_le_bytes(words[word]).into()))
        };
        Some(Self { blocks: blocks.iter().map(block).collect() })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("bytes", &(self.blocks.len() * BYTES)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(number: u64) -> [u8; 16] {
        *blake3::hash(&number.to_be_bytes()).as_bytes().first_chunk().unwrap()
    }

    #[test]
    fn what_was_added_is_known_and_little_else() {
        let filter = Filter::new(10_000);
        (0..10_000).for_each(|number| filter.add(&half(number)));
        let again = Filter::from_bytes(&filter.to_bytes()).unwrap();
        for filter in [&filter, &again] {
            assert!((0..10_000).all(|number| filter.knows(&half(number))));
            let known = (10_000..110_000).filter(|&number| filter.knows(&half(number))).count();
            assert!((200..1500).contains(&known), "{known} of 100000");
        }
    }

    #[test]
    fn every_half_has_its_place() {
        for keys in [0, 1, 7, 1000] {
            let filter = Filter::new(keys);
            for half in [[0; 16], [0xff; 16]] {
                assert!(!filter.knows(&half));
                filter.add(&half);
                assert!(filter.knows(&half));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_filter_are_not_read() {
        for length in [0, 1, 63, 65] {
            assert!(Filter::from_bytes(&vec![0xff; length]).is_none(), "{length}");
        }
    }
}
