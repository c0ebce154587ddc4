//! Sizes on the command line.

/// Bytes of a MiB.
const MEBIBYTE: u64 = 1 << 20;

/// Parses a size in bytes, with an optional unit K, M, G or T.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number of bytes with an optional unit K, M, G or T, such as 500M".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Parses an amount of memory in bytes, at least 64 MiB. A number without a unit is in MiB.
pub(super) fn memory(text: &str) -> Result<usize, String> {
    let bytes = match text.parse::<u64>() {
        Ok(mebibytes) => mebibytes.checked_mul(MEBIBYTE),
        Err(_) => {
            Some(size(text).map_err(|_| "expected an amount such as 512M or 4G; without a unit, in MiB".to_owned())?)
        }
    };
    match bytes.map(usize::try_from) {
        Some(Ok(bytes)) if bytes as u64 >= 64 * MEBIBYTE => Ok(bytes),
        Some(Ok(_)) => Err("expected at least 64M".to_owned()),
        _ => Err("more than this machine can address".to_owned()),
    }
}

/// Parses the size limit of an object or a record. Above 1 GiB a text column could exceed its 32-bit offsets.
pub(super) fn object_size(text: &str) -> Result<usize, String> {
    match usize::try_from(size(text)?) {
        Ok(bytes) if (1 << 20..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("expected a size from 1M to 1G".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_units_and_is_in_mebibytes_without() {
        for (text, mebibytes) in
            [("256", 256), ("64M", 64), ("512m", 512), ("4G", 4096), ("4GiB", 4096), ("1gb", 1024), ("131072K", 128)]
        {
            assert_eq!(memory(text), Ok(mebibytes << 20), "{text}");
        }
        for text in ["", "63", "63M", "1K", "G", "4 G", "4X", "4IB", "-1", "1.5G", "99999999999999999999", "99999999T"]
        {
            assert!(memory(text).is_err(), "{text}");
        }
    }
}
