//! Settings for reading raw objects.

use crate::path::Path;

/// Settings for reading raw objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// The most bytes of an object once unpacked, all members of an archive together. AWS writes objects of a few
    /// megabytes. The limit keeps a small hostile file from taking the machine's memory.
    pub max_object: usize,
    /// The most bytes of one record. AWS cuts records at 256 KiB.
    pub max_record: usize,
    /// Paths to the record in an unknown JSON envelope. The first path that leads to a value counts.
    pub unwrap: Vec<Path>,
}

impl Default for ReadSettings {
    fn default() -> ReadSettings {
        ReadSettings { max_object: 512 << 20, max_record: 16 << 20, unwrap: Vec::new() }
    }
}
