//! Thrift's compact protocol, as far as is needed to check that the metadata of a Parquet file can be decoded safely.
//!
//! The `parquet` crate reserves memory for as many row groups, and as many children of a schema element, as the metadata
//! claims, and follows nested schema elements by recursion. So metadata is checked here first.
//!
//! Protocol: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// Values may nest this deep. Parquet's own structures nest less than ten deep.
const MAX_DEPTH: usize = 32;

/// A value of the structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThriftValue {
    /// A structure begins.
    Struct,
    /// An integer of any width.
    Integer(i64),
    /// Anything else.
    Other,
}

/// Walks the structure at the start of `bytes` and returns how many bytes it takes; `None` if they are not a
/// structure, or if it claims more bytes than there are.
///
/// `visit` is called for each value with the numbers of the fields that lead to it. The elements of a list have the
/// numbers of the list.
pub(super) fn walk(bytes: &[u8], visit: &mut dyn FnMut(&[i16], ThriftValue)) -> Option<usize> {
    let mut walk = Walk { bytes, at: 0, path: Vec::with_capacity(MAX_DEPTH), visit };
    walk.structure(0)?;
    Some(walk.at)
}

struct Walk<'w> {
    bytes: &'w [u8],
    at: usize,
    path: Vec<i16>,
    visit: &'w mut dyn FnMut(&[i16], ThriftValue),
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let number = self.varint()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of elements or bytes. Each takes at least one byte.
    fn size(&mut self) -> Option<usize> {
        let size = usize::try_from(self.varint()?).ok()?;
        (size <= self.bytes.len() - self.at).then_some(size)
    }

    fn structure(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        (self.visit)(&self.path, ThriftValue::Struct);
        let mut field = 0_i16;
        loop {
            let header = self.byte()?;
            let kind = header & 0x0f;
            if kind == 0 {
                return Some(());
            }
            field = match header >> 4 {
                0 => i16::try_from(self.zigzag()?).ok()?,
                delta => field.checked_add(i16::from(delta))?,
            };
            self.path.push(field);
            self.value(kind, false, depth)?;
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8, is_element: bool, depth: usize) -> Option<()> {
        let seen = match kind {
            // The type of a boolean field holds its value; an element of a list takes a byte.
            1 | 2 if !is_element => ThriftValue::Other,
            1 | 2 => {
                self.skip(1)?;
                ThriftValue::Other
            }
            3 => ThriftValue::Integer(i64::from(self.byte()?.cast_signed())),
            4..=6 => ThriftValue::Integer(self.zigzag()?),
            7 => {
                self.skip(8)?;
                ThriftValue::Other
            }
            8 => {
                let size = self.size()?;
                self.skip(size)?;
                ThriftValue::Other
            }
            9 | 10 => return self.list(depth),
            11 => return self.map(depth),
            12 => return self.structure(depth + 1),
            13 => {
                self.skip(16)?;
                ThriftValue::Other
            }
            _ => return None,
        };
        (self.visit)(&self.path, seen);
        Some(())
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        let header = self.byte()?;
        let size = match header >> 4 {
            15 => self.size()?,
            size => usize::from(size),
        };
        if depth > MAX_DEPTH || size > self.bytes.len() - self.at {
            return None;
        }
        for _ in 0..size {
            self.value(header & 0x0f, true, depth + 1)?;
        }
        Some(())
    }

    fn map(&mut self, depth: usize) -> Option<()> {
        let size = self.size()?;
        if size == 0 {
            return Some(());
        }
        if depth > MAX_DEPTH {
            return None;
        }
        let kinds = self.byte()?;
        for _ in 0..size {
            self.value(kinds >> 4, true, depth + 1)?;
            self.value(kinds & 0x0f, true, depth + 1)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bytes: &[u8]) -> (Option<usize>, Vec<(Vec<i16>, ThriftValue)>) {
        let mut seen = Vec::new();
        let length = walk(bytes, &mut |path, value| seen.push((path.to_vec(), value)));
        (length, seen)
    }

    #[test]
    fn values_are_told_with_the_fields_that_lead_to_them() {
        // Field 1 is the integer -1, field 3 a list of the integers 1 and 2, field 4 a structure with the text "a" in field 1.
        let (length, values) = seen(&[0x15, 0x01, 0x29, 0x25, 0x02, 0x04, 0x1c, 0x18, 0x01, b'a', 0x00, 0x00, 0xff]);
        assert_eq!(length, Some(12));
        let expected = [
            (vec![], ThriftValue::Struct),
            (vec![1], ThriftValue::Integer(-1)),
            (vec![3], ThriftValue::Integer(1)),
            (vec![3], ThriftValue::Integer(2)),
            (vec![4], ThriftValue::Struct),
            (vec![4, 1], ThriftValue::Other),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn claims_beyond_the_bytes_are_refused() {
        for bytes in [
            // A list of 2^28 structures, a text of as many bytes, a structure without an end, one of an unknown type.
            [0x19, 0xfc, 0xff, 0xff, 0xff, 0x7f].as_slice(),
            &[0x18, 0xff, 0xff, 0xff, 0x7f],
            &[0x15, 0x01],
            &[0x1f, 0x00],
            &[],
        ] {
            assert_eq!(seen(bytes).0, None, "{bytes:x?}");
        }
        assert_eq!(seen(&[0x1c; 1_000]).0, None, "structures in structures");
    }
}
