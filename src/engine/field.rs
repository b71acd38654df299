//! Which bytes the names and values of headers may have, for those who look without taking.
//!
//! These are the rules of the `http` crate, which says nothing about bytes but by making a name
//! or a value of them. A test compares.

/// Whether bytes are the name of a header.
pub(super) fn is_name(bytes: &[u8]) -> bool {
    (1..=LONGEST_NAME).contains(&bytes.len()) && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// Whether bytes are the value of a header.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    // Without an early return many bytes are looked at together.
    bytes
        .iter()
        .fold(true, |so_far, byte| so_far & (*byte == b'\t' || *byte >= b' ' && *byte != 0x7f))
}

const LONGEST_NAME: usize = 65_535;

/// The characters of a token (RFC 9110, 5.6.2).
static TOKEN: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 128 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(character, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
            || matches!(character, b'^'..=b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn names_are_those_that_the_library_takes() {
        let is_name_there = |bytes: &[u8]| HeaderName::from_bytes(bytes).is_ok();
        for byte in 0..=255 {
            // Short names, those that the library knows, and long ones go different ways.
            for name in [vec![byte], b"dat".iter().copied().chain([byte]).collect()] {
                assert_eq!(is_name(&name), is_name_there(&name), "{name:?}");
            }
            for (length, at) in [(64, 63), (65, 0), (65, 64), (300, 299)] {
                let mut name = vec![b'a'; length];
                name[at] = byte;
                assert_eq!(is_name(&name), is_name_there(&name), "{name:?}");
            }
        }
        for length in [0, 1, 64, 65, LONGEST_NAME, LONGEST_NAME + 1] {
            let name = vec![b'x'; length];
            assert_eq!(is_name(&name), is_name_there(&name), "{length}");
        }
    }

    #[test]
    fn values_are_those_that_the_library_takes() {
        let is_value_there = |bytes: &[u8]| HeaderValue::from_bytes(bytes).is_ok();
        for byte in 0..=255 {
            for (length, at) in [(1, 0), (40, 0), (40, 39), (100, 50)] {
                let mut value = vec![b'a'; length];
                value[at] = byte;
                assert_eq!(is_value(&value), is_value_there(&value), "{value:?}");
            }
        }
        assert!(is_value(b"") && is_value_there(b""));
    }
}
