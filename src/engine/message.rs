//! Protobuf messages, written from what a record borrows and read where they lie.
//!
//! A derived encoder wants a message that owns every field: copies of names, values and
//! bodies, only to be written and dropped. What is written here is byte for byte the same
//! (the codec's tests compare). A message puts its fields twice, the first time to be
//! counted.

/// A message.
pub(super) trait Fields {
    /// Puts them in the order of their tags.
    fn put(&self, out: &mut impl Sink);

    /// How many bytes they take.
    fn length(&self) -> usize {
        let mut count = Count::default();
        self.put(&mut count);
        count.0
    }
}

/// Where bytes go.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// A number in groups of seven bits, of which all but the last have the high bit.
    fn varint(&mut self, value: u64);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.push(low | 0x80);
            value >>= 7;
        }
        let [last, ..] = value.to_le_bytes();
        self.push(last);
    }
}

/// Counts.
#[derive(Default)]
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn varint(&mut self, value: u64) {
        // 0 takes a group, too.
        self.0 += (value | 1).ilog2() as usize / 7 + 1;
    }
}

/// A numeric field, left out when it is 0. `tag` is below 16, as in all functions here.
pub(super) fn number(tag: u8, value: u64, out: &mut impl Sink) {
    if value != 0 {
        out.put(&[tag << 3]);
        out.varint(value);
    }
}

/// A field of bytes or text, left out when it is empty.
pub(super) fn bytes(tag: u8, value: &[u8], out: &mut impl Sink) {
    if !value.is_empty() {
        prefix(tag, value.len(), out);
        out.put(value);
    }
}

/// One message of a repeated field, with two fields of its own.
pub(super) fn pair(tag: u8, first: &[u8], second: &[u8], out: &mut impl Sink) {
    let mut length = Count::default();
    bytes(1, first, &mut length);
    bytes(2, second, &mut length);
    prefix(tag, length.0, out);
    bytes(1, first, out);
    bytes(2, second, out);
}

fn prefix(tag: u8, length: usize, out: &mut impl Sink) {
    out.put(&[tag << 3 | 2]);
    out.varint(length as u64);
}

/// A field as it lies in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a kind that no message of ours has.
    Foreign,
}

/// The fields of a message, in the order in which they lie there; what is damaged is the last,
/// and is named. A tag that is not known is for the reader to pass over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Foreign)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Foreign)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        // Nearly all of them are tags and lengths of one group.
        if let [last @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Some((*last).into());
        }
        self.groups()
    }

    fn groups(&mut self) -> Option<u64> {
        let mut value = 0;
        for (group, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * group);
            if *byte < 0x80 {
                self.0 = &self.0[group + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<(u64, Value<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or("message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            out.varint(value);
            let mut count = Count::default();
            count.varint(value);
            assert_eq!(count.0, out.len());
            assert_eq!(Reader(&out).varint(), Some(value));
            assert_eq!(Reader(&out[..out.len() - 1]).varint(), None);
        }
    }

    #[test]
    fn a_field_that_is_not_known_does_not_hide_the_next() {
        let message = [9, 1, 2, 3, 4, 5, 6, 7, 8, 13, 1, 2, 3, 4, 122, 2, 1, 2, 16, 7];
        let fields: Vec<_> = Reader(&message).collect::<Result<_, _>>().unwrap();
        let foreign = Value::Foreign;
        assert_eq!(
            fields,
            [(1, foreign), (1, foreign), (15, Value::Bytes(&[1, 2])), (2, Value::Number(7))]
        );
        assert_eq!(Reader(&message[..15]).last(), Some(Err("message")));
    }
}
