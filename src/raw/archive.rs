//! Reads the members of tar and zip archives in memory. Nothing is written to disk, and no link is followed.

use std::io::{self, Cursor, Read as _};
use std::path::Path;

use memchr::memmem;
use zip::ZipArchive;
use zip::result::ZipError;

use super::format::TAR_BLOCK;
use super::read_error::{Packing, ReadError};
use super::skipped_by_path;
use super::unpack::{ObjectPart, PartContent, read_member, with_memory};

/// The most members that an archive may hold. Each takes some hundred bytes of memory.
pub(super) const MAX_MEMBERS: usize = 100_000;

/// The signature of a member in a zip archive's central directory.
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";

/// The signature of the end of a zip archive's central directory, and its size without the comment.
const DIRECTORY_END: (&[u8], usize) = (b"PK\x05\x06", 22);

/// The highest compression ratio at which the size in a zip member's header is trusted.
const TRUSTED_RATIO: u64 = 256;

/// Passes the members of an archive to `sink`, up to a limit.
struct ArchiveMembers<'s> {
    sink: &'s mut dyn FnMut(ObjectPart<'_>),
    max_bytes: usize,
    /// The bytes that the remaining members may hold.
    remaining: usize,
    seen: usize,
}

impl ArchiveMembers<'_> {
    fn new(max_bytes: usize, sink: &mut dyn FnMut(ObjectPart<'_>)) -> ArchiveMembers<'_> {
        ArchiveMembers { sink, max_bytes, remaining: max_bytes, seen: 0 }
    }

    fn too_large(&self) -> ReadError {
        ReadError::TooLarge { max_bytes: self.max_bytes }
    }

    /// Counts a member and returns whether to read it. A member whose name shows that it holds no records is not
    /// read.
    fn admit(&mut self, name: &str) -> Result<bool, ReadError> {
        self.seen += 1;
        if self.seen > MAX_MEMBERS {
            return Err(ReadError::TooManyMembers);
        }
        let path = Path::new(name);
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let of_finder = file == ".DS_Store" || file.starts_with("._");
        let kind = if of_finder { Some("macOS metadata".to_owned()) } else { skipped_by_path(path) };
        let is_read = kind.is_none();
        if let Some(kind) = kind {
            self.skip(name, kind);
        }
        Ok(is_read)
    }

    fn skip(&mut self, name: &str, kind: String) {
        (self.sink)(ObjectPart { member: Some(name), content: PartContent::Skipped(kind) });
    }

    fn reject(&mut self, name: &str, error: ReadError) {
        (self.sink)(ObjectPart { member: Some(name), content: PartContent::Rejected(error) });
    }

    /// Passes the text of a member to the sink.
    fn give(&mut self, name: &str, bytes: &[u8]) -> Result<(), ReadError> {
        if bytes.is_empty() {
            self.skip(name, "empty".to_owned());
            return Ok(());
        }
        let sink = &mut *self.sink;
        let read = read_member(bytes, self.remaining, |text| {
            sink(ObjectPart { member: Some(name), content: PartContent::Text(text) });
        });
        match read {
            Ok(size) => self.remaining = self.remaining.saturating_sub(size),
            Err(ReadError::TooLarge { .. }) => return Err(self.too_large()),
            Err(error) => self.reject(name, error),
        }
        Ok(())
    }
}

/// Passes the files of a tar archive to `sink`. Concatenated archives are all read.
pub(super) fn tar(bytes: &[u8], max_bytes: usize, sink: &mut dyn FnMut(ObjectPart<'_>)) -> Result<(), ReadError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::CutOff(Packing::Tar),
        _ => ReadError::Damaged { packing: Packing::Tar, cause: error.to_string() },
    };
    // An archive ends with blocks of zeros. Without this check an archive that is cut after a member would look
    // complete.
    if !bytes.last_chunk::<TAR_BLOCK>().is_some_and(|block| block.iter().all(|byte| *byte == 0)) {
        return Err(ReadError::CutOff(Packing::Tar));
    }
    let mut members = ArchiveMembers::new(max_bytes, sink);
    let mut archive = tar::Archive::new(bytes);
    archive.set_ignore_zeros(true);
    for entry in archive.entries().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let start = usize::try_from(entry.raw_file_position()).ok();
        let end = start.zip(usize::try_from(entry.size()).ok()).and_then(|(start, size)| start.checked_add(size));
        if !members.admit(&name)? {
            continue;
        }
        if kind.is_hard_link() || kind.is_symlink() {
            members.skip(&name, "link".to_owned());
        } else if kind.is_gnu_sparse() {
            members.reject(&name, ReadError::Sparse);
        } else if kind.is_file() || kind.is_contiguous() {
            let content = start.zip(end).and_then(|(start, end)| bytes.get(start..end));
            members.give(&name, content.ok_or(ReadError::CutOff(Packing::Tar))?)?;
        } else {
            members.skip(&name, "device or other special file".to_owned());
        }
    }
    Ok(())
}

/// Passes the files of a zip archive to `sink`, in the order of its directory.
pub(super) fn zip(bytes: &[u8], max_bytes: usize, sink: &mut dyn FnMut(ObjectPart<'_>)) -> Result<(), ReadError> {
    // The number of members is checked before they take memory.
    if memmem::find_iter(bytes, DIRECTORY_ENTRY).nth(MAX_MEMBERS).is_some() {
        return Err(ReadError::TooManyMembers);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(zip_error)?;
    let end = bytes.len().checked_sub(DIRECTORY_END.1 + archive.comment().len());
    if !end.is_some_and(|end| bytes[end..].starts_with(DIRECTORY_END.0)) {
        return Err(ReadError::Followed(Packing::Zip));
    }
    if archive.offset() > 0 {
        return Err(ReadError::SeveralArchives);
    }
    let damaged = |cause: &str| ReadError::Damaged { packing: Packing::Zip, cause: cause.to_owned() };
    if archive.has_duplicate_names() {
        return Err(damaged("two members have one name"));
    }
    if archive.has_overlapping_entries().map_err(zip_error)? {
        return Err(damaged("members overlap"));
    }
    let mut members = ArchiveMembers::new(max_bytes, sink);
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(zip_error)?;
        let name = entry.name().map_or_else(|_| String::from_utf8_lossy(entry.name_raw()).into_owned(), Into::into);
        let (is_folder, is_link, is_encrypted) = (entry.is_dir(), entry.is_symlink(), entry.encrypted());
        if is_folder || !members.admit(&name)? {
            continue;
        }
        if is_link {
            members.skip(&name, "link".to_owned());
        } else if is_encrypted {
            members.reject(&name, ReadError::Encrypted);
        } else {
            with_memory(|memory| match unzip(&mut archive, index, members.remaining, memory) {
                Ok(size) => members.give(&name, &memory[..size]),
                Err(ReadError::TooLarge { .. }) => Err(members.too_large()),
                Err(error) => {
                    members.reject(&name, error);
                    Ok(())
                }
            })?;
        }
    }
    Ok(())
}

/// Unpacks a member to the start of `memory` and returns its size in bytes. The size in its header neither reserves
/// memory nor ends the reading early.
fn unzip(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    max_bytes: usize,
    memory: &mut Vec<u8>,
) -> Result<usize, ReadError> {
    let failed = |error: io::Error| match error.downcast::<ZipError>() {
        Ok(error) => zip_error(error),
        Err(error) => zip_error(ZipError::Io(error)),
    };
    let file = archive.by_index(index).map_err(zip_error)?;
    let size = file.size();
    if size > max_bytes as u64 {
        return Err(ReadError::TooLarge { max_bytes });
    }
    let longer = || ReadError::Damaged { packing: Packing::Zip, cause: "a member is longer than it says".to_owned() };
    if size / TRUSTED_RATIO > file.compressed_size() {
        let measured = io::copy(&mut file.take(size + 1), &mut io::sink()).map_err(failed)?;
        if measured > size {
            return Err(longer());
        }
    } else {
        drop(file);
    }
    memory.clear();
    let file = archive.by_index(index).map_err(zip_error)?;
    let unpacked = file.take(size + 1).read_to_end(memory).map_err(failed)?;
    match u64::try_from(unpacked) {
        Ok(unpacked) if unpacked > size => Err(longer()),
        Ok(unpacked) if unpacked == size => Ok(memory.len()),
        _ => Err(ReadError::CutOff(Packing::Zip)),
    }
}

fn zip_error(error: ZipError) -> ReadError {
    match error {
        ZipError::CompressionMethodNotSupported(number) => ReadError::Method(method(number)),
        ZipError::InvalidPassword => ReadError::Encrypted,
        ZipError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => ReadError::CutOff(Packing::Zip),
        error => ReadError::Damaged { packing: Packing::Zip, cause: error.to_string() },
    }
}

/// Returns the name of a compression method: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, 4.4.5.
fn method(number: u16) -> String {
    match number {
        9 => "deflate64".to_owned(),
        12 => "bzip2".to_owned(),
        14 => "LZMA".to_owned(),
        93 => "zstd".to_owned(),
        95 => "xz".to_owned(),
        98 => "PPMd".to_owned(),
        number => format!("method {number}"),
    }
}
