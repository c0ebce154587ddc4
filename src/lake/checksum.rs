//! Checksums of part files. A reader verifies each byte with them before it decodes it.
//!
//! A part file has two regions. Its pages have a CRC-32 for each block of [`BLOCK_BYTES`], so that a reader of a few pages
//! verifies only the blocks of these. The CRCs are in the footer, under the key [`BLOCKS_KEY`]. The second region has the page
//! indexes and the footer, which are read whole. It has one hash, and the transaction log records it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use highway::{HighwayHash as _, HighwayHasher, Key};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use serde::{Deserialize, Serialize};

use crate::store::hex;

/// Bytes of a block. Smaller blocks make footers larger, and larger blocks make readers of single pages read more.
pub const BLOCK_BYTES: u64 = 8 << 10;

/// The key of the block checksums in the key-value metadata of a footer.
pub const BLOCKS_KEY: &str = "tawny.blocks";

/// Bytes at the end of a Parquet file that do not depend on its content: the length of the footer, and `PAR1`.
const TRAILER_BYTES: usize = 8;

/// The most bytes of a part file. S3 stores no larger object, and sums of such sizes do not overflow.
const MAX_FILE_BYTES: u64 = 50 << 40;

/// The checksum of a file's page indexes and footer: their 128-bit `HighwayHash` with the key zero.
///
/// SHA-256 would take several percent of a hunt on processors without instructions for it.
/// Its text, which the transaction log has, is `<start>:<hash in hexadecimal digits>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MetadataChecksum {
    /// Where the page indexes begin, in bytes. Pages end there.
    pub start: u64,
    hash: u128,
}

impl MetadataChecksum {
    /// Returns the checksum of `metadata`: the bytes of a file from `start` to its end.
    pub fn of(start: u64, metadata: &[u8]) -> MetadataChecksum {
        let [low, high] = HighwayHasher::new(Key::default()).hash128(metadata);
        MetadataChecksum { start, hash: u128::from(high) << 64 | u128::from(low) }
    }
}

impl fmt::Display for MetadataChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, hex(&self.hash.to_be_bytes()))
    }
}

impl From<MetadataChecksum> for String {
    fn from(checksum: MetadataChecksum) -> String {
        checksum.to_string()
    }
}

/// A text is not a [`MetadataChecksum`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the checksum of a file")]
pub struct ChecksumFormatError {
    /// The text.
    pub text: String,
}

impl FromStr for MetadataChecksum {
    type Err = ChecksumFormatError;

    fn from_str(text: &str) -> Result<MetadataChecksum, ChecksumFormatError> {
        let is_hash = |hash: &str| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parse = || {
            let (start, hash) = text.split_once(':').filter(|(_, hash)| is_hash(hash))?;
            Some(MetadataChecksum { start: start.parse().ok()?, hash: u128::from_str_radix(hash, 16).ok()? })
        };
        parse().ok_or_else(|| ChecksumFormatError { text: text.to_owned() })
    }
}

impl TryFrom<String> for MetadataChecksum {
    type Error = ChecksumFormatError;

    fn try_from(text: String) -> Result<MetadataChecksum, ChecksumFormatError> {
        text.parse()
    }
}

/// The CRC-32 of each block of a file's pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockChecksums {
    blocks: Vec<u32>,
    /// Where the pages end, in bytes.
    end: u64,
}

impl BlockChecksums {
    /// Returns the checksums of `pages`: the bytes of a file up to its page indexes.
    pub fn of(pages: &[u8]) -> BlockChecksums {
        BlockChecksums { blocks: crcs(pages).collect(), end: pages.len() as u64 }
    }

    /// Returns an entry for the footer.
    pub fn to_key_value(&self) -> KeyValue {
        let bytes: Vec<u8> = self.blocks.iter().flat_map(|crc| crc.to_le_bytes()).collect();
        KeyValue::new(BLOCKS_KEY.to_owned(), BASE64_STANDARD.encode(bytes))
    }

    /// Returns the checksums in the verified footer of `file`.
    ///
    /// # Errors
    /// They are missing, or do not cover the pages.
    pub fn of_footer(file: &RecordedFile, footer: Option<&Vec<KeyValue>>) -> Result<BlockChecksums, PartFileDamage> {
        let end = file.checksum.start;
        let encoded = footer.into_iter().flatten().find(|entry| entry.key == BLOCKS_KEY);
        let bytes = encoded.and_then(|entry| BASE64_STANDARD.decode(entry.value.as_ref()?).ok());
        let (blocks, rest) = bytes.as_deref().unwrap_or_default().as_chunks::<4>();
        if !rest.is_empty() || blocks.len() as u64 != end.div_ceil(BLOCK_BYTES) {
            return Err(PartFileDamage::NoBlocks);
        }
        Ok(BlockChecksums { blocks: blocks.iter().map(|crc| u32::from_le_bytes(*crc)).collect(), end })
    }

    /// Returns the smallest range of whole blocks that includes `range`. `None` if it is not within the pages.
    pub fn block_range(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let is_within = range.start <= range.end && range.end <= self.end;
        is_within
            .then(|| range.start / BLOCK_BYTES * BLOCK_BYTES..range.end.next_multiple_of(BLOCK_BYTES).min(self.end))
    }

    /// Verifies `bytes`, which are whole blocks and begin at `start`.
    ///
    /// # Errors
    /// A block differs from its checksum.
    pub fn verify(&self, start: u64, bytes: &[u8]) -> Result<(), PartFileDamage> {
        let first = usize::try_from(start / BLOCK_BYTES).unwrap_or(usize::MAX);
        for (index, crc) in crcs(bytes).enumerate() {
            if self.blocks.get(first.saturating_add(index)) != Some(&crc) {
                return Err(PartFileDamage::Block { start: start.saturating_add(index as u64 * BLOCK_BYTES) });
            }
        }
        Ok(())
    }
}

fn crcs(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX)).map(libdeflater::crc32)
}

/// The content of a part file, as the transaction log records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedFile {
    /// Size in bytes.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
    /// The checksum of its page indexes and footer.
    pub checksum: MetadataChecksum,
}

impl RecordedFile {
    /// Checks that a part file can have the recorded sizes.
    ///
    /// # Errors
    /// The entry in the transaction log is damaged.
    pub fn check_sizes(&self) -> Result<(), PartFileDamage> {
        let is_possible = self.checksum.start < self.bytes && self.bytes <= MAX_FILE_BYTES;
        if is_possible { Ok(()) } else { Err(PartFileDamage::ImpossibleSize { recorded: self.bytes }) }
    }

    /// Compares the size of the stored file, in bytes, with the recorded one.
    ///
    /// # Errors
    /// They differ.
    pub fn check_stored_size(&self, stored: u64) -> Result<(), PartFileDamage> {
        if stored == self.bytes { Ok(()) } else { Err(PartFileDamage::Size { stored, recorded: self.bytes }) }
    }

    /// Verifies the bytes from the page indexes to the end of the file.
    ///
    /// # Errors
    /// They differ from the recorded checksum.
    pub fn check_metadata(&self, metadata: &[u8]) -> Result<(), PartFileDamage> {
        let is_same = MetadataChecksum::of(self.checksum.start, metadata) == self.checksum;
        if is_same { Ok(()) } else { Err(PartFileDamage::Metadata) }
    }

    /// Compares the number of records in the footer with the recorded one.
    ///
    /// # Errors
    /// They differ.
    pub fn check_records(&self, in_footer: i64) -> Result<(), PartFileDamage> {
        match u64::try_from(in_footer) {
            Ok(in_footer) if in_footer == self.records => Ok(()),
            _ => Err(PartFileDamage::Records { in_footer, recorded: self.records }),
        }
    }

    /// Verifies a whole file.
    ///
    /// # Errors
    /// The file is not the one that was recorded, or it is damaged.
    pub fn check_file(&self, file: &[u8]) -> Result<(), PartFileDamage> {
        self.check_sizes()?;
        self.check_stored_size(file.len() as u64)?;
        let start = usize::try_from(self.checksum.start).map_err(|_| PartFileDamage::Metadata)?;
        let (pages, metadata) = file.split_at_checked(start).ok_or(PartFileDamage::Metadata)?;
        self.check_metadata(metadata)?;
        let footer = ParquetMetaDataReader::decode_metadata(footer(metadata).ok_or(PartFileDamage::NoFooter)?)?;
        let footer = footer.file_metadata();
        self.check_records(footer.num_rows())?;
        BlockChecksums::of_footer(self, footer.key_value_metadata())?.verify(0, pages)
    }
}

/// Returns the bytes of the footer at the end of `metadata`. `None` if they are not the end of a Parquet file.
pub fn footer(metadata: &[u8]) -> Option<&[u8]> {
    let (rest, [length @ .., b'P', b'A', b'R', b'1']) = metadata.split_last_chunk::<TRAILER_BYTES>()? else {
        return None;
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    rest.get(rest.len().checked_sub(length)?..)
}

/// A part file is damaged, or is not the file that the transaction log recorded.
#[derive(Debug, thiserror::Error)]
pub enum PartFileDamage {
    /// The file does not exist.
    #[error("it is missing: restore it")]
    Missing,
    /// No part file has such a size.
    #[error("the transaction log says that it has {recorded} bytes, which is impossible: restore the log")]
    ImpossibleSize {
        /// The size in the transaction log, in bytes.
        recorded: u64,
    },
    /// The size differs.
    #[error("it has {stored} bytes, but the transaction log says {recorded}: restore it")]
    Size {
        /// The size of the stored file, in bytes.
        stored: u64,
        /// The size in the transaction log, in bytes.
        recorded: u64,
    },
    /// The page indexes or the footer differ.
    #[error("its footer differs from the checksum in the transaction log: restore it")]
    Metadata,
    /// The file does not end with a footer.
    #[error("it does not end as Parquet does: restore it")]
    NoFooter,
    /// The footer cannot be decoded.
    #[error("its footer cannot be read: {0}")]
    Footer(#[from] ParquetError),
    /// The footer has no checksums that fit.
    #[error("its footer has no checksums of its pages: convert the trail again")]
    NoBlocks,
    /// The number of records differs.
    #[error("it has {in_footer} records, but the transaction log says {recorded}: restore it")]
    Records {
        /// The number of records in the footer.
        in_footer: i64,
        /// The number of records in the transaction log.
        recorded: u64,
    },
    /// A block of pages differs.
    #[error("its bytes from {start} on differ from their checksum: restore it")]
    Block {
        /// Where the block begins, in bytes.
        start: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_checksum_is_read_as_it_is_printed() {
        let checksum = MetadataChecksum::of(77, b"footer");
        let text = checksum.to_string();
        assert!(text.starts_with("77:") && text.len() == 35, "{text}");
        assert_eq!(text.parse(), Ok(checksum));
        for other in
            ["", "77", "77:", "77:00", &format!("-1:{}", &text[3..]), &format!("{text}0"), &text.replace("77", "")]
        {
            assert!(other.parse::<MetadataChecksum>().is_err(), "{other}");
        }
        assert_ne!(MetadataChecksum::of(77, b"foot"), checksum);
    }

    #[test]
    fn flipped_bit_is_found_in_its_block() {
        let pages: Vec<u8> = (0..3 * BLOCK_BYTES + 100).map(|number| (number % 251) as u8).collect();
        let blocks = BlockChecksums::of(&pages);
        assert!(blocks.verify(0, &pages).is_ok());
        let file = |end: usize| RecordedFile { bytes: 0, records: 0, checksum: MetadataChecksum::of(end as u64, b"") };
        let footer = vec![blocks.to_key_value()];
        assert_eq!(BlockChecksums::of_footer(&file(pages.len()), Some(&footer)).unwrap(), blocks);
        for end in [0, pages.len() - 100, pages.len() + usize::try_from(BLOCK_BYTES).unwrap()] {
            assert!(BlockChecksums::of_footer(&file(end), Some(&footer)).is_err(), "{end}");
        }
        assert!(BlockChecksums::of_footer(&file(pages.len()), None).is_err());
        for at in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES - 1, 3 * BLOCK_BYTES, pages.len() as u64 - 1] {
            let mut flipped = pages.clone();
            flipped[usize::try_from(at).unwrap()] ^= 1;
            let range = blocks.block_range(&(at..at + 1)).unwrap();
            assert!(range.start <= at && at < range.end && range.end - range.start <= BLOCK_BYTES, "{range:?}");
            let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
            let damage = blocks.verify(range.start, &flipped[start..end]).unwrap_err();
            assert!(matches!(damage, PartFileDamage::Block { start } if start == range.start), "{damage}");
            assert!(blocks.verify(range.start, &pages[start..end]).is_ok());
        }
        assert!(blocks.verify(BLOCK_BYTES, &pages[..100]).is_err(), "bytes of another block");
        assert!(blocks.verify(4 * BLOCK_BYTES, &pages[..100]).is_err(), "bytes beyond the pages");
        assert_eq!(blocks.block_range(&(0..pages.len() as u64 + 1)), None);
    }
}
