//! Bytes that are written once and then read: in memory up to a limit, and beyond that in a temporary file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::{exec_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::spill_file::{SpillFile, SpillWriter};

use super::Engine;
use super::match_buffer::reservation;

/// Initial buffer capacity.
const INITIAL_CAPACITY: usize = 64 << 10;

/// Writes [`SpooledBytes`].
pub(super) struct ByteSpool {
    limit: usize,
    memory: Vec<u8>,
    reservation: MemoryReservation,
    disk: Arc<DiskManager>,
    file: Option<(SpoolFile, BufWriter<Box<dyn SpillWriter>>)>,
    written: u64,
}

/// The bytes that a [`ByteSpool`] wrote. Dropping them frees the memory and deletes the file.
pub(super) struct SpooledBytes {
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    _reservation: MemoryReservation,
}

struct SpoolFile {
    path: PathBuf,
    /// Deletes the file on drop.
    _file: Arc<dyn SpillFile>,
}

impl ByteSpool {
    /// Returns a spool that holds at most `limit` bytes in memory. Errors of the pool name it `name`.
    pub(super) fn new(engine: &Engine, name: &str, limit: usize) -> ByteSpool {
        ByteSpool {
            limit,
            memory: Vec::new(),
            reservation: reservation(name, &engine.runtime),
            disk: Arc::clone(&engine.runtime.disk_manager),
            file: None,
            written: 0,
        }
    }

    /// Adds a piece, and returns its start. A piece is wholly in memory or wholly in the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<u64> {
        let start = self.written;
        self.written += piece.len() as u64;
        if self.file.is_none() && self.has_room_for(piece.len()) {
            self.memory.extend_from_slice(piece);
            return Ok(start);
        }
        if self.file.is_none() {
            let file = self.disk.create_tmp_file("findings")?;
            let Some(path) = file.path().map(PathBuf::from) else {
                return internal_err!("a temporary file without a path");
            };
            let writer = BufWriter::new(file.open_writer()?);
            self.file = Some((SpoolFile { path, _file: file }, writer));
        }
        if let Some((_, writer)) = &mut self.file {
            writer.write_all(piece)?;
        }
        Ok(start)
    }

    /// Makes room in memory for `more` bytes, if the limit and the budget allow it.
    fn has_room_for(&mut self, more: usize) -> bool {
        let needed = self.memory.len().saturating_add(more);
        if needed <= self.memory.capacity() {
            return true;
        }
        let doubled = needed.max(2 * self.memory.capacity()).max(INITIAL_CAPACITY);
        let capacity = if doubled > self.limit { needed } else { doubled };
        if capacity > self.limit || self.reservation.try_resize(capacity).is_err() {
            return false;
        }
        self.memory.reserve_exact(capacity - self.memory.len());
        true
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn finish(self) -> Result<SpooledBytes> {
        let file = match self.file {
            None => None,
            Some((file, mut writer)) => {
                writer.flush()?;
                writer.get_mut().finish()?;
                Some(file)
            }
        };
        Ok(SpooledBytes { memory: self.memory, file, _reservation: self.reservation })
    }
}

impl SpooledBytes {
    /// Returns whether some bytes are in a file.
    pub(super) fn is_spilled(&self) -> bool {
        self.file.is_some()
    }

    /// Returns a reader of pieces.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(&self) -> Result<SpoolReader<'_>> {
        let file = self.file.as_ref().map(|file| File::open(&file.path).map(BufReader::new)).transpose()?;
        Ok(SpoolReader { memory: &self.memory, file, position: 0 })
    }
}

/// Reads pieces of [`SpooledBytes`].
pub(super) struct SpoolReader<'s> {
    memory: &'s [u8],
    file: Option<BufReader<File>>,
    /// The next byte of the file to read. Pieces that follow one another share a read.
    position: u64,
}

impl SpoolReader<'_> {
    /// Appends `length` bytes from `start` on to `bytes`. All of them are in memory or all in the file.
    ///
    /// # Errors
    /// The file cannot be read, or there are fewer bytes.
    pub(super) fn read(&mut self, start: u64, length: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let in_memory = self.memory.len() as u64;
        if start < in_memory {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            let Some(piece) = start.checked_add(length).and_then(|end| self.memory.get(start..end)) else {
                return internal_err!("bytes beyond the memory of a spool");
            };
            bytes.extend_from_slice(piece);
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            return internal_err!("bytes beyond the end of a spool");
        };
        let start = start - in_memory;
        file.seek_relative(start.wrapping_sub(self.position).cast_signed())?;
        self.position = start + length as u64;
        if file.take(length as u64).read_to_end(bytes)? < length {
            return Err(exec_datafusion_err!("a temporary file is shorter than what was written to it"));
        }
        Ok(())
    }
}
