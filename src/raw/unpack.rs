//! Unpacks gzip, zstd and archives to text, up to a limit.

use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memmem;

use super::archive;
use super::format::{self, DetectedFormat};
use super::read_error::{Packing, ReadError};

/// The text of an object.
#[derive(Debug, Clone, Copy)]
pub struct UnpackedText<'a> {
    /// The unpacked text without a byte-order mark.
    pub text: &'a str,
    /// How many invalid UTF-8 sequences were replaced by U+FFFD.
    pub replaced: usize,
}

/// A plain object, or one member of an archive.
#[derive(Debug)]
pub struct ObjectPart<'a> {
    /// The member's name. Absent for a plain object.
    pub member: Option<&'a str>,
    /// Its content.
    pub content: PartContent<'a>,
}

/// The content of an object or a member.
#[derive(Debug)]
pub enum PartContent<'a> {
    /// Text.
    Text(UnpackedText<'a>),
    /// Something that cannot hold records. The text names the kind.
    Skipped(String),
    /// A member that cannot be read. For a plain object [`read`] returns the error.
    Rejected(ReadError),
}

/// Memory into which objects are unpacked one after another. The system clears new memory each time, which takes
/// longer than inflating. It is shared, because many threads take turns.
static UNPACKED: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Decoders of gzip that wait for an object.
static INFLATERS: Mutex<Vec<libdeflater::Decompressor>> = Mutex::new(Vec::new());

/// The most memory to keep for the next object, in bytes.
const KEPT: usize = 32 << 20;

/// Passes the text of an object, or of each member of an archive, to `sink`. Together they may hold `max_bytes`.
///
/// # Errors
/// The object as a whole is rejected. The caller must then discard the earlier texts.
pub fn read(bytes: &[u8], max_bytes: usize, sink: &mut dyn FnMut(ObjectPart<'_>)) -> Result<(), ReadError> {
    unpacked(bytes, max_bytes, |bytes, packing| match (format::of(bytes), packing) {
        (DetectedFormat::Text, _) => {
            decode(bytes, max_bytes, |text| sink(ObjectPart { member: None, content: PartContent::Text(text) }))
        }
        (DetectedFormat::Packed(Packing::Tar), _) => archive::tar(bytes, max_bytes, sink),
        (DetectedFormat::Packed(Packing::Zip), _) => archive::zip(bytes, max_bytes, sink),
        (DetectedFormat::Packed(inner), packing) => {
            Err(ReadError::PackedTwice { outer: packing.unwrap_or(inner), inner })
        }
        (DetectedFormat::Foreign(format), _) => Err(ReadError::Foreign(format)),
    })?
}

/// Passes the content of an object to `work`: without compression, all gzip members or zstd frames of it. It may hold
/// `max_bytes`.
///
/// # Errors
/// The object is damaged, cut off or followed by other bytes, or its content is too large.
pub fn content<T>(bytes: &[u8], max_bytes: usize, work: impl FnOnce(&[u8]) -> T) -> Result<T, ReadError> {
    unpacked(bytes, max_bytes, |content, _| work(content))
}

/// Returns the content of the first gzip member of an object. `None` if it has no complete one, or a larger one than
/// `max_bytes`.
pub fn first_member(bytes: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let limit = (max_bytes as u64).saturating_add(1);
    let read = flate2::bufread::GzDecoder::new(bytes).take(limit).read_to_end(&mut content).ok()?;
    (read <= max_bytes).then_some(content)
}

/// Passes the text of an archive's member, which may hold `max_bytes`, to `sink`. Returns its size in bytes.
pub(super) fn read_member(
    bytes: &[u8],
    max_bytes: usize,
    sink: impl FnOnce(UnpackedText<'_>),
) -> Result<usize, ReadError> {
    unpacked(bytes, max_bytes, |bytes, packing| match (format::of(bytes), packing) {
        (DetectedFormat::Text, _) => decode(bytes, max_bytes, sink).map(|()| bytes.len()),
        (DetectedFormat::Packed(Packing::Tar | Packing::Zip), _) => Err(ReadError::NestedArchive),
        (DetectedFormat::Packed(inner), packing) => {
            Err(ReadError::PackedTwice { outer: packing.unwrap_or(inner), inner })
        }
        (DetectedFormat::Foreign(format), _) => Err(ReadError::Foreign(format)),
    })?
}

/// Passes `bytes` to `read`, unpacked if they are a packed stream, `max_bytes` at most.
fn unpacked<T>(bytes: &[u8], max_bytes: usize, read: impl FnOnce(&[u8], Option<Packing>) -> T) -> Result<T, ReadError> {
    let DetectedFormat::Packed(packing @ (Packing::Gzip | Packing::Zstd)) = format::of(bytes) else {
        return Ok(read(bytes, None));
    };
    with_memory(|memory| {
        let size = match packing {
            Packing::Zstd => decompress(bytes, max_bytes, memory)?,
            _ => inflate(bytes, max_bytes, memory)?,
        };
        Ok(read(&memory[..size], Some(packing)))
    })
}

/// Passes reused memory to `work`. Its content has no meaning.
pub(super) fn with_memory<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut memory = lock(&UNPACKED).pop().unwrap_or_default();
    let result = work(&mut memory);
    if memory.capacity() <= KEPT {
        lock(&UNPACKED).push(memory);
    }
    result
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decode<T>(bytes: &[u8], max_bytes: usize, read: impl FnOnce(UnpackedText<'_>) -> T) -> Result<T, ReadError> {
    let (text, replaced) = if let Ok(text) = simdutf8::basic::from_utf8(bytes) {
        (Cow::Borrowed(text), 0)
    } else {
        let replaced = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
        // Each invalid byte may become three bytes.
        if bytes.len() + 2 * replaced > max_bytes {
            return Err(ReadError::NotUtf8);
        }
        (String::from_utf8_lossy(bytes), replaced)
    };
    Ok(read(UnpackedText { text: text.strip_prefix('\u{feff}').unwrap_or(&text), replaced }))
}

/// Inflates all members to the start of `memory` and returns their size in bytes. The fast decoder reads one member
/// and ignores the bytes after it. So its result counts only if no bytes follow: the trailer of the result, checksum
/// and length, must be at the end of the object and nowhere before.
///
/// Members and trailers: <https://www.rfc-editor.org/rfc/rfc1952#page-5>
fn inflate(bytes: &[u8], max_bytes: usize, memory: &mut Vec<u8>) -> Result<usize, ReadError> {
    if let Some(length) = bytes.last_chunk::<4>() {
        let size = u32::from_le_bytes(*length) as usize;
        if size <= max_bytes && size / 1_032 <= bytes.len() {
            if memory.len() < size {
                memory.resize(size, 0);
            }
            let text = &mut memory[..size];
            let mut inflater = lock(&INFLATERS).pop().unwrap_or_default();
            let result = inflater.gzip_decompress(bytes, text);
            lock(&INFLATERS).push(inflater);
            if result == Ok(size) {
                let trailer = [libdeflater::crc32(text).to_le_bytes(), *length].concat();
                if memmem::find(bytes, &trailer) == Some(bytes.len() - trailer.len()) {
                    return Ok(size);
                }
            }
        }
    }
    let failed = |error: io::Error| match error.kind() {
        _ if is_followed(bytes) => ReadError::Followed(Packing::Gzip),
        io::ErrorKind::UnexpectedEof => ReadError::CutOff(Packing::Gzip),
        _ => ReadError::Damaged { packing: Packing::Gzip, cause: error.to_string() },
    };
    read_measured(&|| Ok(flate2::read::MultiGzDecoder::new(bytes)), max_bytes, memory, &failed)
}

/// Returns whether bytes other than gzip follow complete members.
fn is_followed(mut bytes: &[u8]) -> bool {
    while let [0x1f, 0x8b, ..] = bytes {
        let mut member = flate2::bufread::GzDecoder::new(bytes);
        if io::copy(&mut member, &mut io::sink()).is_err() {
            return false;
        }
        bytes = member.into_inner();
    }
    !bytes.is_empty()
}

/// The highest compression ratio at which the size in a zstd frame's header is trusted. Trails are packed thirty to
/// one at best.
const TRUSTED_RATIO: usize = 256;

/// Decompresses all frames of a zstd stream, as [`inflate`] does for gzip.
fn decompress(bytes: &[u8], max_bytes: usize, memory: &mut Vec<u8>) -> Result<usize, ReadError> {
    let told = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
    if let Some(size) = told.and_then(|size| usize::try_from(size).ok())
        && size <= max_bytes
        && size / TRUSTED_RATIO <= bytes.len()
    {
        if memory.len() < size {
            memory.resize(size, 0);
        }
        // It fails if more frames follow the frame whose size is known.
        let unpacked = zstd::bulk::decompress_to_buffer(bytes, &mut memory[..size]);
        if unpacked.is_ok_and(|unpacked| unpacked == size) {
            return Ok(size);
        }
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::CutOff(Packing::Zstd),
        _ if needs_large_window(bytes) => ReadError::LargeWindow,
        _ => ReadError::Damaged { packing: Packing::Zstd, cause: error.to_string() },
    };
    read_measured(&|| zstd::stream::read::Decoder::with_buffer(bytes), max_bytes, memory, &failed)
}

/// Returns whether the first frame's window is larger than the decoder's default limit of 128 MiB.
///
/// Frame headers: <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1>
fn needs_large_window(bytes: &[u8]) -> bool {
    const ALLOWED_LOG: u8 = 27;
    match bytes {
        [_, _, _, _, descriptor, window, ..] if descriptor & 0x20 == 0 => {
            let (log, mantissa) = (10 + (window >> 3), window & 7);
            log > ALLOWED_LOG || log == ALLOWED_LOG && mantissa > 0
        }
        _ => false,
    }
}

/// Reads a stream to the start of `memory`. It is measured first, so a stream that is too large takes no memory.
pub(super) fn read_measured<R: Read>(
    open: &dyn Fn() -> io::Result<R>,
    max_bytes: usize,
    memory: &mut Vec<u8>,
    failed: &dyn Fn(io::Error) -> ReadError,
) -> Result<usize, ReadError> {
    let limited = || open().map(|stream| stream.take((max_bytes as u64).saturating_add(1)));
    let size = io::copy(&mut limited().map_err(failed)?, &mut io::sink()).map_err(failed)?;
    if size > max_bytes as u64 {
        return Err(ReadError::TooLarge { max_bytes });
    }
    memory.clear();
    limited().and_then(|mut stream| stream.read_to_end(memory)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Returns the texts of an object, each after its member's name, and how many bytes were replaced.
    fn within(bytes: &[u8], max_bytes: usize) -> Result<(String, usize), ReadError> {
        let (mut seen, mut replaced) = (String::new(), 0);
        read(bytes, max_bytes, &mut |part| {
            let content = match part.content {
                PartContent::Text(text) => {
                    replaced += text.replaced;
                    text.text.to_owned()
                }
                PartContent::Skipped(kind) => format!("skipped ({kind})"),
                PartContent::Rejected(error) => format!("rejected ({error})"),
            };
            seen += &part.member.map_or(content.clone(), |name| format!("{name}: {content}; "));
        })?;
        Ok((seen, replaced))
    }

    fn text(bytes: &[u8]) -> Result<(String, usize), ReadError> {
        within(bytes, 2 << 20)
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(text, 1).unwrap()
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_member_is_read_and_a_cut_one_is_named() {
        let both = [gzip(b"{\"Records\":["), gzip(b"]}")].concat();
        assert_eq!(text(&both).unwrap().0, "{\"Records\":[]}");
        let twice = [gzip(b"{}"), gzip(b"{}")].concat();
        assert_eq!(text(&twice).unwrap().0, "{}{}");
        for cut in 2..both.len() - 1 {
            if cut != gzip(b"{\"Records\":[").len() {
                assert!(text(&both[..cut]).is_err(), "cut at {cut}");
            }
        }
        let trailing = [gzip(b"{}"), b"garbage".to_vec()].concat();
        assert_eq!(text(&trailing).unwrap_err(), ReadError::Followed(Packing::Gzip));
        // The second is not a member any more, and its trailer equals the first one's or has its length.
        for second in [&b"{}"[..], b"[]"] {
            let mut damaged = [gzip(b"{}"), gzip(second)].concat();
            damaged[gzip(b"{}").len()] ^= 1;
            assert!(text(&damaged).is_err());
        }
        let twice = ReadError::PackedTwice { outer: Packing::Gzip, inner: Packing::Gzip };
        assert_eq!(text(&gzip(&gzip(b"{}"))).unwrap_err(), twice);
        assert_eq!(text(&gzip(b"")).unwrap().0, "");
    }

    #[test]
    fn a_bomb_is_refused() {
        let too_large = Err(ReadError::TooLarge { max_bytes: 2 << 20 });
        for pack in [gzip, zstd] {
            let bomb = pack(&vec![b'a'; (2 << 20) + 1]);
            assert_eq!(text(&bomb), too_large);
            assert_eq!(text(&[bomb.clone(), pack(b"")].concat()), too_large);
            assert_eq!(text(&[pack(&vec![b'a'; 1 << 20]), bomb.clone()].concat()), too_large);
            assert_eq!(within(&bomb, 3 << 20).unwrap().0.len(), (2 << 20) + 1);
            assert_eq!(text(&pack(&vec![0xff; 1 << 20])), Err(ReadError::NotUtf8));
        }
    }

    #[test]
    fn every_frame_of_zstd_is_read_and_a_cut_one_is_named() {
        let both = [zstd(b"{\"Records\":["), zstd(b"]}")].concat();
        assert_eq!(text(&both).unwrap().0, "{\"Records\":[]}");
        let skippable = [&b"\x50\x2a\x4d\x18\x04\0\0\0data"[..], &zstd(b"{}"), &zstd(b"")].concat();
        assert_eq!(text(&skippable).unwrap().0, "{}");
        for cut in 4..both.len() {
            if cut != zstd(b"{\"Records\":[").len() {
                assert!(text(&both[..cut]).is_err(), "cut at {cut}");
            }
        }
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&b"{}".repeat(500)).unwrap();
        let mut damaged = encoder.finish().unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(text(&damaged), Err(ReadError::Damaged { packing: Packing::Zstd, .. })));
        assert!(text(&[zstd(b"{}"), b"garbage".to_vec()].concat()).is_err());
        assert!(matches!(text(&zstd(&gzip(b"{}"))), Err(ReadError::PackedTwice { .. })));
        // A frame whose header asks for a window of a gibibyte.
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(30).unwrap();
        encoder.write_all(b"{}").unwrap();
        assert_eq!(text(&encoder.finish().unwrap()), Err(ReadError::LargeWindow));
    }

    #[test]
    fn marks_and_bad_bytes_cost_nothing_else() {
        assert_eq!(text(b"\xef\xbb\xbf{}").unwrap(), ("{}".to_owned(), 0));
        let bad = text(b"{\"a\":\"\xff\",\"b\":\"\xfe\"}").unwrap();
        assert_eq!(bad, ("{\"a\":\"\u{fffd}\",\"b\":\"\u{fffd}\"}".to_owned(), 2));
    }

    fn tarred(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in members {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn members_of_archives_are_read_by_name() {
        let packed = [gzip(b"[1]"), zstd(b"[2]"), tarred(&[("x", b"{}")]), zipped(&[("x", b"{}")])];
        let members: Vec<(&str, &[u8])> = vec![
            ("a.json", b"{}"),
            ("a/b.json.gz", &packed[0]),
            ("c.zst", &packed[1]),
            ("d.tar", &packed[2]),
            ("e.zip", &packed[3]),
            ("f.bz2", b"BZh91AY&SY"),
            ("AWSLogs/111122223333/CloudTrail-Digest/g.json.gz", &packed[0]),
            ("__MACOSX/._a.json", b"\0\x05\x16\x07"),
            ("h", b""),
        ];
        let nested = "rejected (an archive within an archive: unpack the outer one to a folder, and name that)";
        let expected = format!(
            "a.json: {{}}; a/b.json.gz: [1]; c.zst: [2]; d.tar: {nested}; e.zip: {nested}; f.bz2: rejected (bzip2, which is \
             not read: unpack it, or pack it with gzip or zstd); AWSLogs/111122223333/CloudTrail-Digest/g.json.gz: skipped \
             (CloudTrail-Digest); __MACOSX/._a.json: skipped (macOS metadata); h: skipped (empty); "
        );
        let (tar, zip) = (tarred(&members), zipped(&members));
        for (archive, name) in [(&tar, "tar"), (&zip, "zip"), (&gzip(&tar), "tar.gz"), (&zstd(&tar), "tar.zst")] {
            assert_eq!(text(archive).unwrap().0, expected, "{name}");
        }
        // Of two concatenated archives nothing is lost.
        let two = [tarred(&[("a", b"[1]")]), tarred(&[("b", b"[2]")])].concat();
        assert_eq!(text(&two).unwrap().0, "a: [1]; b: [2]; ");
        let two = [zipped(&[("a", b"[1]")]), zipped(&[("b", b"[2]")])].concat();
        assert_eq!(text(&two), Err(ReadError::SeveralArchives));
    }

    #[test]
    fn archives_that_are_cut_or_damaged_are_rejected_whole() {
        let members: &[(&str, &[u8])] = &[("a.json", &[b' '; 700]), ("b.json", b"{}")];
        let (tar, zip) = (tarred(members), zipped(members));
        for cut in (512..tar.len() - 1).step_by(128) {
            // The last two blocks mark the end. One of them suffices.
            let is_whole = cut >= tar.len() - 512 && cut % 512 == 0;
            assert_eq!(text(&tar[..cut]).is_ok(), is_whole, "tar cut at {cut} of {}", tar.len());
        }
        for cut in 4..zip.len() {
            assert!(text(&zip[..cut]).is_err(), "zip cut at {cut}");
        }
        assert_eq!(text(&[zip.clone(), b"more".to_vec()].concat()), Err(ReadError::Followed(Packing::Zip)));
        let mut damaged = tar.clone();
        damaged[512 + 1_024 + 3] ^= 1;
        assert!(matches!(text(&damaged), Err(ReadError::Damaged { packing: Packing::Tar, .. })));
        // PartContent that does not match its checksum loses only that member.
        let at = memmem::find(&zip, b"a.json").unwrap() + 8;
        let mut damaged = zip.clone();
        damaged[at] ^= 0xff;
        let seen = text(&damaged).unwrap().0;
        assert!(
            seen.starts_with("a.json: rejected (the zip archive is damaged") && seen.ends_with("b.json: {}; "),
            "{seen}"
        );
    }

    #[test]
    fn the_bound_holds_for_all_members_together() {
        let half = vec![b' '; 1 << 20];
        let too_large = Err(ReadError::TooLarge { max_bytes: 2 << 20 });
        let packed = gzip(&half);
        let three: &[(&str, &[u8])] = &[("a", &half), ("b", &half), ("c", &half)];
        assert_eq!(text(&zipped(three)), too_large);
        let three: &[(&str, &[u8])] = &[("a", &packed), ("b", &packed), ("c", &packed)];
        for archive in [zipped(three), tarred(three), gzip(&tarred(three))] {
            assert_eq!(text(&archive), too_large);
            assert!(within(&archive, 4 << 20).is_ok());
        }
        // A member that says it is small, and one that says it is huge.
        let zip = zipped(&[("a", &half)]);
        let sizes: Vec<usize> = memmem::find_iter(&zip, &(1_u32 << 20).to_le_bytes()).collect();
        for told in [10_u32, 3 << 20] {
            let mut lying = zip.clone();
            for at in &sizes {
                lying[*at..*at + 4].copy_from_slice(&told.to_le_bytes());
            }
            let seen = text(&lying);
            assert!(seen.as_ref().map_or(true, |(seen, _)| seen.starts_with("a: rejected")), "{told}: {seen:?}");
        }
        let many = "x".repeat(46);
        let directory = [
            b"PK\x03\x04",
            [b"PK\x01\x02".as_slice(), many.as_bytes()].concat().repeat(archive_members() + 1).as_slice(),
        ]
        .concat();
        assert_eq!(text(&directory), Err(ReadError::TooManyMembers));
    }

    fn archive_members() -> usize {
        super::super::archive::MAX_MEMBERS
    }

    #[test]
    fn what_is_no_file_in_an_archive_is_skipped_by_kind() {
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name) in [
            (tar::EntryType::Symlink, "link"),
            (tar::EntryType::Link, "hard"),
            (tar::EntryType::Char, "zero"),
            (tar::EntryType::Fifo, "fifo"),
            (tar::EntryType::Directory, "folder"),
            (tar::EntryType::GNUSparse, "sparse"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.as_gnu_mut().unwrap().set_real_size(0);
            if kind.is_symlink() || kind.is_hard_link() {
                archive.append_link(&mut header, name, "/etc/passwd").unwrap();
            } else {
                archive.append_data(&mut header, name, &b""[..]).unwrap();
            }
        }
        let long = format!("{}/../../x.json", "long".repeat(60));
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        archive.append_data(&mut header, long.replace("../../", ""), &b"{}"[..]).unwrap();
        let seen = text(&archive.into_inner().unwrap()).unwrap().0;
        let special = "skipped (device or other special file)";
        assert!(
            seen.starts_with(&format!(
                "link: skipped (link); hard: skipped (link); zero: {special}; fifo: {special}; sparse: rejected"
            )),
            "{seen}"
        );
        assert!(seen.ends_with("/x.json: {}; "), "{seen}");
    }
}
