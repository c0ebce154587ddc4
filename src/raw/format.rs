//! Detects the format of bytes by their first bytes, or else by the extension of the name.

use super::read_error::Packing;

/// A detected format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DetectedFormat {
    /// A supported packing.
    Packed(Packing),
    /// A known format that is not supported.
    Foreign(&'static ForeignFormat),
    /// Presumably text.
    Text,
}

/// A known format that is not supported.
#[derive(Debug, PartialEq, Eq)]
pub struct ForeignFormat {
    /// Its name.
    pub name: &'static str,
    /// A way to convert such a file.
    pub advice: &'static str,
    /// The first bytes of such files.
    magic: &'static [&'static [u8]],
    /// The extensions of such files.
    endings: &'static [&'static str],
}

const fn foreign(
    name: &'static str,
    advice: &'static str,
    magic: &'static [&'static [u8]],
    endings: &'static [&'static str],
) -> ForeignFormat {
    ForeignFormat { name, advice, magic, endings }
}

const REPACK: &str = "unpack it, or pack it with gzip or zstd";
const AS_JSON: &str = "export the records as JSON";

/// Known formats that are not supported.
static FOREIGN: [ForeignFormat; 21] = [
    foreign(
        "bzip2",
        REPACK,
        &[b"BZh1", b"BZh2", b"BZh3", b"BZh4", b"BZh5", b"BZh6", b"BZh7", b"BZh8", b"BZh9"],
        &[".bz2", ".bz", ".tbz", ".tbz2"],
    ),
    foreign("xz", REPACK, &[b"\xfd7zXZ\0"], &[".xz", ".txz", ".lzma"]),
    foreign("7z", REPACK, &[b"7z\xbc\xaf\x27\x1c"], &[".7z"]),
    foreign("RAR", REPACK, &[b"Rar!\x1a\x07"], &[".rar"]),
    foreign("LZ4", REPACK, &[b"\x04\x22\x4d\x18"], &[".lz4"]),
    foreign("Snappy", REPACK, &[b"\xff\x06\0\0sNaPpY"], &[".snappy", ".sz"]),
    foreign("lzip", REPACK, &[b"LZIP\x01"], &[".lz"]),
    foreign("Unix compress", REPACK, &[b"\x1f\x9d"], &[".z"]),
    foreign("Brotli", REPACK, &[], &[".br"]),
    foreign("Cabinet", REPACK, &[b"MSCF\0\0\0\0"], &[".cab"]),
    foreign(
        "Parquet",
        "name a lake or the folder of a table separately, without raw objects",
        &[b"PAR1", b"PARE"],
        &[".parquet"],
    ),
    foreign("Avro", "convert it to Parquet or JSON", &[b"Obj\x01"], &[".avro"]),
    foreign("ORC", "convert it to Parquet or JSON", &[b"ORC"], &[".orc"]),
    foreign("Arrow", "convert it to Parquet or JSON", &[b"ARROW1\0\0"], &[".arrow", ".feather", ".ipc"]),
    foreign("SQLite", AS_JSON, &[b"SQLite format 3\0"], &[".sqlite", ".sqlite3", ".db"]),
    foreign("a Windows event log", "it holds no CloudTrail records", &[b"ElfFile\0"], &[".evtx"]),
    foreign("UTF-16 text", "save it as UTF-8", &[b"\xff\xfe", b"\xfe\xff", b"{\0", b"[\0", b"\0{", b"\0["], &[]),
    foreign("CSV", AS_JSON, &[], &[".csv"]),
    foreign("TSV", AS_JSON, &[], &[".tsv", ".tab"]),
    foreign("a spreadsheet", AS_JSON, &[], &[".xlsx", ".xlsm", ".xls", ".ods", ".numbers"]),
    foreign("Amazon Ion", AS_JSON, &[b"\xe0\x01\x00\xea"], &[".ion", ".10n"]),
];

/// The offset of the magic number in a tar header, and the number.
const USTAR: (usize, &[u8]) = (257, b"ustar");

/// The bytes of a tar block.
pub(super) const TAR_BLOCK: usize = 512;

/// Returns the format of `bytes`.
pub(super) fn of(bytes: &[u8]) -> DetectedFormat {
    match bytes {
        [0x1f, 0x8b, ..] => return DetectedFormat::Packed(Packing::Gzip),
        // A frame, or a skippable frame without data. Some tools begin with the latter.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            return DetectedFormat::Packed(Packing::Zstd);
        }
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] | [b'P', b'K', b'0', b'0', b'P', b'K', ..] => {
            return DetectedFormat::Packed(Packing::Zip);
        }
        _ => {}
    }
    if is_tar(bytes) {
        return DetectedFormat::Packed(Packing::Tar);
    }
    let begins = |format: &&ForeignFormat| format.magic.iter().any(|magic| bytes.starts_with(magic));
    match bytes.first() {
        Some(b'{' | b'[') if bytes.get(1) != Some(&0) => DetectedFormat::Text,
        _ => FOREIGN.iter().find(begins).map_or(DetectedFormat::Text, DetectedFormat::Foreign),
    }
}

/// Returns whether `bytes` begin with a tar header. Headers from before POSIX have no magic number, but all have a
/// checksum.
fn is_tar(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..TAR_BLOCK) else {
        return false;
    };
    if header[USTAR.0..].starts_with(USTAR.1) {
        return true;
    }
    // JSON has no zeros; a header ends with them.
    if header[TAR_BLOCK - 1] != 0 || header[0] == 0 {
        return false;
    }
    let sum: u32 = header[..148].iter().chain(&header[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    let field = String::from_utf8_lossy(&header[148..156]);
    u32::from_str_radix(field.trim_matches(['\0', ' ']), 8) == Ok(sum)
}

/// Returns the format of a name's extension, also if a packing's extension follows it.
pub(crate) fn by_ending(name: &str) -> Option<&'static ForeignFormat> {
    let name = name.to_ascii_lowercase();
    let packed = [".gz", ".zst", ".zstd"].iter().find_map(|ending| name.strip_suffix(ending));
    let ends = |format: &&ForeignFormat| format.endings.iter().any(|ending| packed.unwrap_or(&name).ends_with(ending));
    FOREIGN.iter().find(ends)
}

/// Returns the kind of a known text that is not JSON. It holds no CloudTrail records.
pub(super) fn other_log(text: &str) -> Option<&'static str> {
    let line = text.trim_ascii_start().lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let owner = words.next().unwrap_or_default();
    if owner.len() == 64 && owner.bytes().all(|byte| byte.is_ascii_hexdigit()) && line.contains(" [") {
        return Some("S3 access log");
    }
    match line.trim() {
        "CloudTrail validation message." => Some("CloudTrail validation message"),
        // CloudWatch Logs writes this to a bucket before an export.
        "Permission Check Successful" => Some("CloudWatch Logs write test"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_by_how_they_begin() {
        for (bytes, expected) in [
            (&b"\x1f\x8b\x08"[..], DetectedFormat::Packed(Packing::Gzip)),
            (b"\x28\xb5\x2f\xfd", DetectedFormat::Packed(Packing::Zstd)),
            (b"\x50\x2a\x4d\x18\0\0\0\0", DetectedFormat::Packed(Packing::Zstd)),
            (b"PK\x03\x04", DetectedFormat::Packed(Packing::Zip)),
            (b"PK\x05\x06", DetectedFormat::Packed(Packing::Zip)),
            (b"{\"Records\":[]}", DetectedFormat::Text),
            (b"README", DetectedFormat::Text),
            (b"", DetectedFormat::Text),
        ] {
            assert_eq!(of(bytes), expected, "{bytes:?}");
        }
        for (bytes, name) in [
            (&b"BZh91AY&SY"[..], "bzip2"),
            (b"\xfd7zXZ\0\0", "xz"),
            (b"7z\xbc\xaf\x27\x1c\0", "7z"),
            (b"PAR1....", "Parquet"),
            (b"Obj\x01\x02", "Avro"),
            (b"ORC\x08", "ORC"),
            (b"\xff\xfe{\0", "UTF-16 text"),
            (b"{\0\"\0", "UTF-16 text"),
        ] {
            assert!(
                matches!(of(bytes), DetectedFormat::Foreign(format) if format.name == name),
                "{name}: {:?}",
                of(bytes)
            );
        }
    }

    #[test]
    fn names_tell_where_bytes_do_not() {
        for (name, expected) in [
            ("a/b.csv", Some("CSV")),
            ("a/B.CSV.gz", Some("CSV")),
            ("a.xlsx", Some("a spreadsheet")),
            ("a.json.br", Some("Brotli")),
            ("a.json.gz", None),
            ("README.md", None),
        ] {
            assert_eq!(by_ending(name).map(|format| format.name), expected, "{name}");
        }
    }

    #[test]
    fn tar_is_told_by_its_name_or_its_checksum() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_size(2);
        header.set_cksum();
        archive.append_data(&mut header, "a.json", &b"{}"[..]).unwrap();
        let old = archive.into_inner().unwrap();
        assert_eq!(of(&old), DetectedFormat::Packed(Packing::Tar));
        let mut damaged = old;
        damaged[0] ^= 1;
        assert_eq!(of(&damaged), DetectedFormat::Text);
        assert_eq!(of(&[b'0'; 1_024]), DetectedFormat::Text);
    }
}
