//! Python's bytes: `b64decode` and `decode`.

use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::interpreter::Arguments;
use super::super::value::Value;

/// Calls `base64.b64decode`. Characters that are not in the alphabet are skipped, as in Python.
pub(super) fn b64decode(value: &Value) -> Outcome<Value> {
    let bytes = match value {
        Value::Text(text) if text.is_ascii() => text.as_bytes(),
        Value::Text(_) => return Err(Fault::value_error("string argument should contain only ASCII characters")),
        Value::Bytes(bytes) => bytes,
        other => {
            let kind = other.type_name();
            return Err(Fault::type_error(format!(
                "argument should be a bytes-like object or ASCII string, not '{kind}'"
            )));
        }
    };
    let mut decoded = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut quad, mut pads, mut left) = (0, 0, 0_u8);
    for byte in bytes {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                if quad >= 2 {
                    pads += 1;
                    if quad + pads >= 4 {
                        return Ok(Value::Bytes(decoded.into()));
                    }
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        match quad {
            0 => left = value,
            1 => {
                decoded.push(left << 2 | value >> 4);
                left = value & 0x0f;
            }
            2 => {
                decoded.push(left << 4 | value >> 2);
                left = value & 0x03;
            }
            _ => decoded.push(left << 6 | value),
        }
        quad = (quad + 1) % 4;
    }
    match quad {
        0 => Ok(Value::Bytes(decoded.into())),
        1 => Err(Fault::value_error(
            "Invalid base64-encoded string: number of data characters cannot be 1 more than a multiple of 4",
        )),
        _ => Err(Fault::value_error("Incorrect padding")),
    }
}

/// An encoding that `decode` knows.
#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Ascii,
    Latin1,
    Utf16,
}

fn encoding(name: &str) -> Option<Encoding> {
    Some(match name.to_ascii_lowercase().replace(['_', ' '], "-").as_str() {
        "utf-8" | "utf8" | "u8" => Encoding::Utf8,
        "ascii" | "us-ascii" => Encoding::Ascii,
        "latin-1" | "latin1" | "iso-8859-1" => Encoding::Latin1,
        "utf-16-le" | "utf-16le" => Encoding::Utf16,
        _ => return None,
    })
}

/// Returns whether `decode` knows an encoding.
pub(in super::super) fn has_encoding(name: &str) -> bool {
    encoding(name).is_some()
}

/// Returns whether `decode` knows a way to treat errors.
pub(in super::super) fn has_errors(name: &str) -> bool {
    matches!(name, "strict" | "ignore" | "replace")
}

/// Calls `bytes.decode(…)`.
pub(in super::super) fn decode(bytes: &[u8], arguments: &Arguments) -> Outcome<Value> {
    let text = |position, name, otherwise: &str| match arguments.get(position, name) {
        None => Ok(otherwise.to_owned()),
        Some(Value::Text(text)) => Ok(text.to_string()),
        Some(other) => {
            let kind = other.type_name();
            Err(Fault::type_error(format!("decode() argument '{name}' must be str, not {kind}")))
        }
    };
    let (name, errors) = (text(0, "encoding", "utf-8")?, text(1, "errors", "strict")?);
    let Some(encoding) = encoding(&name) else { return Err(Fault::Refused(format!("the encoding `{name}`"))) };
    if !has_errors(&errors) {
        return Err(Fault::Refused(format!("`decode` with `{errors}`")));
    }
    let mut decoded = String::with_capacity(bytes.len());
    let mut is_valid = true;
    let mut add = |c: Option<char>| {
        is_valid &= c.is_some();
        decoded.extend(c.or(Some(char::REPLACEMENT_CHARACTER).filter(|_| errors == "replace")));
    };
    match encoding {
        Encoding::Utf8 => {
            for chunk in bytes.utf8_chunks() {
                chunk.valid().chars().for_each(|c| add(Some(c)));
                if !chunk.invalid().is_empty() {
                    add(None);
                }
            }
        }
        Encoding::Ascii => bytes.iter().for_each(|byte| add(byte.is_ascii().then(|| char::from(*byte)))),
        Encoding::Latin1 => bytes.iter().for_each(|byte| add(Some(char::from(*byte)))),
        Encoding::Utf16 => {
            let units = bytes.chunks_exact(2);
            let has_rest = !units.remainder().is_empty();
            let units = units.filter_map(|pair| <[u8; 2]>::try_from(pair).ok()).map(u16::from_le_bytes);
            char::decode_utf16(units).for_each(|c| add(c.ok()));
            if has_rest {
                add(None);
            }
        }
    }
    if !is_valid && errors == "strict" {
        return Err(Fault::raise(ExceptionKind::UnicodeDecodeError, format!("'{name}' codec can't decode bytes")));
    }
    Ok(Value::text(decoded))
}
