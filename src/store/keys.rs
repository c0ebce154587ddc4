//! An encoding for S3 keys that `object_store` cannot hold.
//! S3 accepts any text as a key. `object_store` refuses keys with an empty part, with the parts `.` and `..`, and
//! with control characters. One such key makes it refuse the whole page of a listing (developmentseed/obstore#429).
//! It also drops a slash or blanks at the end of a key, and then reads another object. So such parts are encoded
//! before `object_store` sees them, and decoded in the requests that it sends.

use std::fmt::Write as _;

use super::hex;

/// The first character of an encoded part. The part's bytes follow as hexadecimal text. A part that begins with this
/// character is encoded too, so each key has one encoding and each encoding one key.
const MARK: char = '\u{f8ff}';
/// The same in a URL.
const MARK_IN_URL: &str = "%EF%A3%BF";

/// A key that cannot be requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its key has a part `.` or `..`, which HTTP clients take out of an address: copy the object to another key, or delete it"
)]
pub(super) struct Unrequestable;

/// Returns the encoding of a key.
pub(super) fn encode(key: &str) -> String {
    if key.is_empty() { String::new() } else { encode_parts(key) }
}

/// Returns the encoding of a prefix: a folder with a slash at its end, or the beginning of a name.
pub(super) fn encode_prefix(prefix: &str) -> String {
    match prefix.strip_suffix('/') {
        Some(folder) => encode_parts(folder) + "/",
        None => encode(prefix),
    }
}

fn encode_parts(key: &str) -> String {
    let part = |part: &str| if is_plain(part) { part.to_owned() } else { format!("{MARK}{}", hex(part.as_bytes())) };
    key.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Returns whether `object_store` keeps this part of a key unchanged.
fn is_plain(part: &str) -> bool {
    // Its XML parser drops blanks at the ends of a text.
    !matches!(part, "" | "." | "..")
        && !part.starts_with(MARK)
        && part.trim() == part
        && !part.contains(char::is_control)
}

/// Returns whether `object_store` keeps a key unchanged. Only such keys are written.
pub(super) fn is_writable(key: &str) -> bool {
    key.is_empty() || key.split('/').all(is_plain)
}

/// Checks that the object with this key can be requested.
pub(super) fn check(key: &str) -> Result<(), Unrequestable> {
    if key.split('/').any(|part| matches!(part, "." | "..")) { Err(Unrequestable) } else { Ok(()) }
}

/// Returns the key of an encoding by [`encode`].
pub(super) fn decode(encoded: &str) -> String {
    let part = |part: &str| decode_part(part, MARK.encode_utf8(&mut [0; 4])).unwrap_or_else(|| part.to_owned());
    encoded.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn decode_part(part: &str, mark: &str) -> Option<String> {
    let digits = part.strip_prefix(mark)?;
    let bytes = digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

/// Returns the URL of a request with decoded keys, in its path and in the prefix of a listing. `None` if it has no
/// encoded keys.
pub(super) fn decode_address(address: &str) -> Result<Option<String>, Unrequestable> {
    if !address.contains(MARK_IN_URL) {
        return Ok(None);
    }
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let mut decoded = Vec::new();
    for part in path.split('/') {
        decoded.push(match decode_part(part, MARK_IN_URL) {
            Some(key) => {
                check(&key)?;
                percent_encode(&key)
            }
            None => part.to_owned(),
        });
    }
    let mut decoded = decoded.join("/");
    for (place, (name, value)) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()).enumerate() {
        decoded.push(if place == 0 { '?' } else { '&' });
        // Writing to a string does not fail.
        write!(decoded, "{}={}", percent_encode(&name), percent_encode(&decode(&value))).ok();
    }
    Ok(Some(decoded))
}

/// Encodes a part of a URL as AWS does before it is signed.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(encoded, "%{byte:02X}").ok();
        }
        encoded
    })
}

/// Returns the response to a listing with encoded keys.
pub(super) fn encode_listing(xml: &str) -> String {
    let keys = encode_elements(xml, "Key", &encode);
    encode_elements(&keys, "Prefix", &encode_prefix)
}

fn encode_elements(xml: &str, name: &str, encode: &dyn Fn(&str) -> String) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut pieces = xml.split(&open);
    let mut encoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        encoded += &open;
        let Some((text, after)) = piece.split_once(&close) else {
            encoded += piece;
            continue;
        };
        let key = unescape(text);
        let key_encoded = encode(&key);
        encoded += &if key_encoded == key { text.to_owned() } else { escape(&key_encoded) };
        encoded += &close;
        encoded += after;
    }
    encoded
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns the text of an XML element.
fn unescape(xml: &str) -> String {
    let mut pieces = xml.split('&');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let reference = piece.split_once(';').and_then(|(name, after)| Some((referenced(name)?, after)));
        if let Some((c, after)) = reference {
            text.push(c);
            text += after;
        } else {
            text.push('&');
            text += piece;
        }
    }
    text
}

fn referenced(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::path::Path;
    use proptest::prelude::*;

    use super::*;

    const ODD: [&str; 14] = [
        "/AWSLogs/a.json",
        "//",
        "x//a.json",
        "x/",
        "x//",
        "a/./b",
        "a/../b",
        "..",
        "a\u{0}b",
        "a\n/b\u{7f}",
        " a/b ",
        "\u{f8ff}",
        "a/\u{f8ff}2e/b",
        "a/\u{85}/b",
    ];

    #[test]
    fn any_key_is_carried_unchanged() {
        for key in ODD {
            let path = Path::parse(encode(key)).unwrap();
            assert_eq!(decode(path.as_ref()), key, "{key:?}");
            assert!(!is_writable(key), "{key:?}");
        }
        for key in ["", "a", "AWSLogs/1/a b+c%2Fd=#e\\é.json", "...", "a/.b/..c", "a\u{f8ff}b"] {
            assert!(is_writable(key), "{key:?}");
            assert_eq!(encode(key), key);
            assert_eq!(decode(key), key);
        }
        assert_eq!(encode_prefix(""), "");
        assert_eq!(encode_prefix("a/b/"), "a/b/");
        assert_eq!(encode_prefix("a/b"), "a/b");
        for (folder, listed) in [("/", "\u{f8ff}/"), ("x//", "x/\u{f8ff}/")] {
            assert_eq!(encode_prefix(folder), listed);
            assert_eq!(decode(Path::parse(encode_prefix(folder)).unwrap().as_ref()) + "/", folder);
        }
    }

    proptest! {
        #[test]
        fn no_key_is_refused_and_none_is_taken_for_another(a in "[ab./ \u{f8ff}0-9\n%é]{0,12}", b in "[ab./ \u{f8ff}0-9\n%é]{0,12}") {
            let [first, second] = [&a, &b].map(|key| Path::parse(encode(key)).unwrap());
            prop_assert_eq!(decode(first.as_ref()), a.clone());
            prop_assert_eq!(first == second, a == b);
        }
    }

    #[test]
    fn addresses_have_the_keys_themselves() {
        let encoded = |key: &str| percent_encode(&encode(key)).replace("%2F", "/");
        for (key, path) in [
            ("x//AWSLogs/a b.json", "x//AWSLogs/a%20b.json"),
            ("/a", "/a"),
            ("a/", "a/"),
            ("a\n/b%2Fc", "a%0A/b%252Fc"),
            ("\u{f8ff}41", "%EF%A3%BF41"),
        ] {
            let address = format!("https://s3.example.com/bucket/{}?versionId=1", encoded(key));
            let expected = format!("https://s3.example.com/bucket/{path}?versionId=1");
            assert_eq!(decode_address(&address), Ok(Some(expected)), "{key:?}");
        }
        let listing = format!("https://h/b?delimiter=%2F&list-type=2&prefix={}", percent_encode("a+b/\u{f8ff}/c/"));
        let expected = "https://h/b?delimiter=%2F&list-type=2&prefix=a%2Bb%2F%2Fc%2F".to_owned();
        assert_eq!(decode_address(&listing), Ok(Some(expected)));
        assert_eq!(decode_address("https://h/b/a%20b?prefix=a"), Ok(None));
        // As sent, these would name other objects.
        for key in ["a/../b", "./a", ".."] {
            assert_eq!(decode_address(&format!("https://h/b/{}", encoded(key))), Err(Unrequestable), "{key}");
        }
    }

    #[test]
    fn listings_are_encoded_and_nothing_else_in_them() {
        let xml = "<R><Prefix>x/</Prefix><Contents><Key>x//a&amp;b</Key><Size>1</Size></Contents><Contents>\
                   <Key>x/a&amp;b&lt;</Key></Contents><Contents><Key>x/&#x1;&#10;</Key></Contents>\
                   <CommonPrefixes><Prefix>x//</Prefix></CommonPrefixes></R>";
        let encoded = encode_listing(xml);
        assert!(encoded.contains("<Key>x/\u{f8ff}/a&amp;b</Key><Size>1</Size>"), "{encoded}");
        assert!(encoded.contains("<Key>x/a&amp;b&lt;</Key>"), "{encoded}");
        assert!(encoded.contains("<Key>x/\u{f8ff}010a</Key>"), "{encoded}");
        assert!(encoded.contains("<CommonPrefixes><Prefix>x/\u{f8ff}/</Prefix>"), "{encoded}");
        assert!(encoded.starts_with("<R><Prefix>x/</Prefix>"), "{encoded}");
        for broken in ["", "<Key>", "<Key>a", "<Key>&#xffffffff;&;&</Key>"] {
            assert_eq!(encode_listing(broken), broken);
        }
    }
}
