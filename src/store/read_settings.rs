//! How raw objects are read, and the most that they may hold.

use crate::path::Path;

/// How raw objects are read, and the most that they may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// The most bytes that an object may hold once unpacked, all members of an archive together. AWS writes objects of a
    /// few megabytes; the bound keeps a small hostile file from taking the machine's memory.
    pub max_object: usize,
    /// The most bytes that one record may hold. AWS cuts records at 256 KiB.
    pub max_record: usize,
    /// Where the record lies in JSON that wraps it in a way that is not known. The first path that leads to a value
    /// counts.
    pub unwrap: Vec<Path>,
}

impl Default for ReadSettings {
    fn default() -> ReadSettings {
        ReadSettings { max_object: 512 << 20, max_record: 16 << 20, unwrap: Vec::new() }
    }
}
