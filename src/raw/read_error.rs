//! The reasons why an object or a member of an archive is not read.

use super::format::ForeignFormat;
use super::json::MAX_PARTS;
use crate::store::{ObjectError, most_told};

/// The reason why an object or a member of an archive is not read. The text says what to do, if there is something to
/// do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store did not give the object's bytes.
    #[error("{0}")]
    Store(ObjectError),
    /// The text does not begin like JSON, and no known format begins like it.
    #[error("neither JSON nor packed JSON (gzip, zstd, zip, tar)")]
    NotJson,
    /// A known kind of log that holds no CloudTrail records.
    #[error("{0}: it holds no CloudTrail records")]
    OtherLog(&'static str),
    /// A known format that is not supported.
    #[error("{}, which is not read: {}", .0.name, .0.advice)]
    Foreign(&'static ForeignFormat),
    /// Bytes that are not text.
    #[error("not UTF-8 text")]
    NotUtf8,
    /// More bytes than an object may hold, once unpacked.
    #[error("unpacks to more than {}", most_told(*max_bytes))]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// More records than an object may hold.
    #[error("holds more than {MAX_PARTS} records: split it")]
    TooManyRecords,
    /// More members than an archive may hold.
    #[error("holds more than {} members: unpack it to a folder, and name that", super::archive::MAX_MEMBERS)]
    TooManyMembers,
    /// A packing within another.
    #[error("{inner} within {outer}: unpack it once")]
    PackedTwice {
        /// The outer packing.
        outer: Packing,
        /// The inner packing.
        inner: Packing,
    },
    /// An archive within an archive.
    #[error("an archive within an archive: unpack the outer one to a folder, and name that")]
    NestedArchive,
    /// The bytes end too early.
    #[error("the {0} is cut off: copy the object again")]
    CutOff(Packing),
    /// Other bytes follow the packed data.
    #[error("something else follows the {0}: copy the object again")]
    Followed(Packing),
    /// The packed data are wrong.
    #[error("the {packing} is damaged ({cause}): copy the object again")]
    Damaged {
        /// The damaged packing.
        packing: Packing,
        /// The decoder's reason.
        cause: String,
    },
    /// A zstd frame with a larger window than is allowed.
    #[error("the zstd frame needs a window of more than 128 MiB: pack it without `--long` or `--ultra`")]
    LargeWindow,
    /// More than one archive in an object.
    #[error("several zip archives, one after the other: unpack them to a folder, and name that")]
    SeveralArchives,
    /// A member of an archive that is encrypted.
    #[error("encrypted: unpack the archive with its password, and name the folder")]
    Encrypted,
    /// A member of an archive with an unsupported compression method.
    #[error(
        "packed by a method of zip that is not read ({0}): pack the archive with deflate, or unpack it to a folder"
    )]
    Method(String),
    /// A sparse file in an archive.
    #[error("a sparse file: pack the archive without sparse files (`tar` without `--sparse`)")]
    Sparse,
    /// JSON that is broken, or breaks off.
    #[error("broken JSON at line {line}, column {column}: {cause}")]
    BrokenJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The parser's reason.
        cause: String,
    },
    /// Something that is not JSON follows JSON.
    #[error("what follows at line {line} is not JSON")]
    FollowedByText {
        /// The line, from 1.
        line: usize,
    },
}

/// A packing of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A gzip stream of one or more members.
    Gzip,
    /// A zstd stream of one or more frames.
    Zstd,
    /// A zip archive.
    Zip,
    /// A tar archive.
    Tar,
}

impl std::fmt::Display for Packing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Packing::Gzip => "gzip stream",
            Packing::Zstd => "zstd stream",
            Packing::Zip => "zip archive",
            Packing::Tar => "tar archive",
        })
    }
}
