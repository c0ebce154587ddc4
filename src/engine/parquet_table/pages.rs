//! The pages of a column, checked before they are decoded.

use bytes::Bytes;
use flate2::Crc;
use parquet::errors::ParquetError;

use super::thrift::{self, ThriftValue};

/// The most bytes that a page may hold once it is decompressed. Writers cut pages at about a mebibyte.
const MAX_PAGE_BYTES: usize = 512 << 20;

/// The fields of a page's header. Format: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>
#[derive(Debug, Default)]
struct Header {
    inflated: Option<i64>,
    stored: Option<i64>,
    checksum: Option<i64>,
    values: i64,
}

/// Checks the pages in each of `parts`, as [`check`] does.
pub(super) fn check_all(parts: &[Bytes], most_values: i64) -> parquet::errors::Result<()> {
    parts.iter().try_for_each(|part| check(part, most_values).map_err(ParquetError::General))
}

/// Checks each page in `bytes`, which begin with one: its sizes are possible, it holds no more than `most_values`, and its
/// checksum, if it has one, is right. The error says what is wrong.
pub(super) fn check(mut bytes: &[u8], most_values: i64) -> Result<(), String> {
    while !bytes.is_empty() {
        let mut header = Header::default();
        let length = thrift::walk(bytes, &mut |path, value| {
            let ThriftValue::Integer(number) = value else {
                return;
            };
            match path {
                [2] => header.inflated = Some(number),
                [3] => header.stored = Some(number),
                [4] => header.checksum = Some(number),
                // Of a data page, a dictionary, and a data page of the second version.
                [5 | 7 | 8, 1] => header.values = number,
                _ => {}
            }
        });
        let damaged = || "the header of a page is damaged".to_owned();
        let length = length.ok_or_else(damaged)?;
        let size = |size: Option<i64>| size.and_then(|size| usize::try_from(size).ok()).ok_or_else(damaged);
        let (inflated, stored) = (size(header.inflated)?, size(header.stored)?);
        let page = bytes[length..].get(..stored).ok_or("a page ends before it is complete")?;
        if inflated > MAX_PAGE_BYTES {
            return Err(format!("a page claims to hold {} MiB", inflated >> 20));
        }
        if header.values < 0 || header.values > most_values {
            return Err("a page claims to hold more values than its column".to_owned());
        }
        if let Some(checksum) = header.checksum {
            let mut crc = Crc::new();
            crc.update(page);
            if i64::from(crc.sum().cast_signed()) != checksum {
                return Err("a page is not what its checksum says".to_owned());
            }
        }
        bytes = &bytes[length + stored..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of one value, its header with the checksum of `of`, where there is one.
    fn page(data: &[u8], checksum_of: Option<&[u8]>) -> Vec<u8> {
        let zigzag = |number: i64| {
            let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
            let mut bytes = Vec::new();
            while rest >= 0x80 {
                bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
                rest >>= 7;
            }
            bytes.push(u8::try_from(rest).unwrap());
            bytes
        };
        let size = zigzag(i64::try_from(data.len()).unwrap());
        let mut bytes = [&[0x15, 0x00, 0x15][..], &size, &[0x15], &size].concat();
        let next = if let Some(of) = checksum_of {
            let mut crc = Crc::new();
            crc.update(of);
            bytes.push(0x15);
            bytes.extend(zigzag(i64::from(crc.sum().cast_signed())));
            0x1c
        } else {
            0x2c
        };
        bytes.extend([next, 0x15, 0x02, 0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x00, 0x00]);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_page_is_held_against_its_checksum() {
        assert_eq!(check(&page(b"data", None), 1), Ok(()));
        assert_eq!(check(&[page(b"data", Some(b"data")), page(b"more", Some(b"more"))].concat(), 1), Ok(()));
        let other = check(&page(b"dada", Some(b"data")), 1);
        assert_eq!(other, Err("a page is not what its checksum says".to_owned()));
    }

    #[test]
    fn pages_that_cannot_be_are_refused() {
        let whole = page(b"data", None);
        assert!(check(&whole, 0).unwrap_err().contains("more values"));
        assert!(check(&whole[..whole.len() - 1], 1).unwrap_err().contains("complete"));
        assert!(check(&whole[1..], 1).is_err());
        let mut huge = vec![0x15, 0x00, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 0x00, 0x00];
        assert!(check(&huge, 1).unwrap_err().contains("MiB"));
        huge[2] = 0x55;
        assert!(check(&huge, 1).unwrap_err().contains("damaged"), "no size at all");
    }
}
