//! Sigma's modifiers that transform a value before it is compared: `windash`, `wide`, `utf16`, `base64` and the like.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsigma_parser::{Modifier, StringPart};

use super::Refusal;

/// The characters that `windash` takes for one another.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// The most texts that `windash` may make of one value.
const MAX_TEXTS: usize = 625;

/// Returns whether a modifier transforms values.
pub(super) fn transforms(modifier: Modifier) -> bool {
    matches!(
        modifier,
        Modifier::WindAsh
            | Modifier::Wide
            | Modifier::Utf16
            | Modifier::Utf16be
            | Modifier::Base64
            | Modifier::Base64Offset
    )
}

/// Checks that modifiers, in their order, end in a text: `windash`, then UTF-16, then Base64, each at most once.
pub(super) fn check(modifiers: &[Modifier]) -> Result<(), Refusal> {
    let stage = |modifier: &Modifier| match modifier {
        Modifier::WindAsh => 0,
        Modifier::Wide | Modifier::Utf16 | Modifier::Utf16be => 1,
        _ => 2,
    };
    if !modifiers.is_sorted_by(|one, next| stage(one) < stage(next)) {
        let order = "`windash`, then `wide` or another UTF-16, then `base64` or `base64offset`";
        return Err(Refusal::new(format!("values are transformed in this order only, each once: {order}")));
    }
    if modifiers.last().is_some_and(|last| stage(last) == 1) {
        let reason = "UTF-16 is bytes, and CloudTrail's records have none: add `base64` or `base64offset` after it";
        return Err(Refusal::new(reason));
    }
    Ok(())
}

/// Returns the texts that modifiers make of a value. One of them must be found.
pub(super) fn transformed(parts: &[StringPart], modifiers: &[Modifier]) -> Result<Vec<Vec<StringPart>>, Refusal> {
    let mut texts = vec![parts.to_vec()];
    if modifiers.contains(&Modifier::WindAsh) {
        texts = with_dashes(parts)?;
    }
    if modifiers.iter().all(|modifier| *modifier == Modifier::WindAsh) {
        return Ok(texts);
    }
    let mut encoded = Vec::new();
    for text in texts {
        let [StringPart::Plain(plain)] = text.as_slice() else {
            return Err(Refusal::new("it is empty or has wildcards, and is not encoded"));
        };
        let mut bytes = plain.as_bytes().to_vec();
        for modifier in modifiers {
            let units = || plain.encode_utf16();
            bytes = match modifier {
                Modifier::Wide => units().flat_map(u16::to_le_bytes).collect(),
                Modifier::Utf16 => std::iter::once(0xfeff).chain(units()).flat_map(u16::to_le_bytes).collect(),
                Modifier::Utf16be => units().flat_map(u16::to_be_bytes).collect(),
                _ => continue,
            };
        }
        let found = if modifiers.contains(&Modifier::Base64) { vec![STANDARD.encode(&bytes)] } else { offsets(&bytes) };
        encoded.extend(found.into_iter().map(|text| vec![StringPart::Plain(text)]));
    }
    Ok(encoded)
}

/// Returns the Base64 of data that hold `bytes` at each offset. Characters that also depend on the bytes before and after
/// are left out.
fn offsets(bytes: &[u8]) -> Vec<String> {
    let at = |offset: usize| {
        let encoded = STANDARD.encode([vec![b' '; offset], bytes.to_vec()].concat());
        let end = encoded.len() - [0, 3, 2][(bytes.len() + offset) % 3];
        encoded[[0, 2, 3][offset].min(end)..end].to_owned()
    };
    (0..3).map(at).collect()
}

/// Returns a value with every dash in front of a word replaced by each of [`DASHES`], in all combinations.
fn with_dashes(parts: &[StringPart]) -> Result<Vec<Vec<StringPart>>, Refusal> {
    let mut texts: Vec<Vec<StringPart>> = vec![Vec::new()];
    for part in parts {
        let pieces = match part {
            StringPart::Plain(text) => dashed(text)?,
            StringPart::Special(_) => vec![part.clone()].into_iter().map(|part| vec![part]).collect(),
        };
        if texts.len().saturating_mul(pieces.len()) > MAX_TEXTS {
            return Err(too_many_dashes());
        }
        texts = texts.iter().flat_map(|text| pieces.iter().map(|piece| [text.as_slice(), piece].concat())).collect();
    }
    Ok(texts)
}

/// As [`with_dashes`], for a text without wildcards.
fn dashed(text: &str) -> Result<Vec<Vec<StringPart>>, Refusal> {
    let is_word = |letter: Option<&char>| letter.is_some_and(|letter| letter.is_alphanumeric() || *letter == '_');
    let letters: Vec<char> = text.chars().collect();
    let mut texts = vec![String::new()];
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| letters.get(before));
        let begins_option = matches!(letter, '-' | '/') && !is_word(before) && is_word(letters.get(index + 1));
        let choices: &[char] = if begins_option { &DASHES } else { std::slice::from_ref(letter) };
        if texts.len() * choices.len() > MAX_TEXTS {
            return Err(too_many_dashes());
        }
        texts = texts.iter().flat_map(|text| choices.iter().map(move |choice| format!("{text}{choice}"))).collect();
    }
    Ok(texts.into_iter().map(|text| vec![StringPart::Plain(text)]).collect())
}

fn too_many_dashes() -> Refusal {
    Refusal::new(format!("`windash` makes more than {MAX_TEXTS} texts of this value: write fewer options in one value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &str, modifiers: &[Modifier]) -> Vec<String> {
        check(modifiers).unwrap();
        let plain = |parts: Vec<StringPart>| match parts.as_slice() {
            [StringPart::Plain(text)] => text.clone(),
            other => panic!("{other:?}"),
        };
        transformed(&[StringPart::Plain(value.to_owned())], modifiers).unwrap().into_iter().map(plain).collect()
    }

    #[test]
    fn values_are_encoded_as_sigma_specifies() {
        assert_eq!(texts("cmd", &[Modifier::Base64]), ["Y21k"]);
        assert_eq!(texts("cmd", &[Modifier::Wide, Modifier::Base64]), ["YwBtAGQA"]);
        assert_eq!(texts("cmd", &[Modifier::Utf16be, Modifier::Base64]), ["AGMAbQBk"]);
        assert_eq!(texts("cmd", &[Modifier::Utf16, Modifier::Base64]), ["//5jAG0AZAA="]);
        assert_eq!(texts("foobar", &[Modifier::Base64Offset]), ["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]);
        assert!(check(&[Modifier::Base64, Modifier::Wide]).is_err());
        assert!(check(&[Modifier::Base64, Modifier::Base64Offset]).is_err());
        assert!(check(&[Modifier::Wide]).is_err(), "bytes are no text");
    }

    #[test]
    fn dashes_in_front_of_words_are_exchanged() {
        let all = texts("a-b -x", &[Modifier::WindAsh]);
        assert_eq!(all, ["a-b -x", "a-b /x", "a-b \u{2013}x", "a-b \u{2014}x", "a-b \u{2015}x"]);
        assert_eq!(texts("/x -y", &[Modifier::WindAsh]).len(), 25);
        let five = [StringPart::Plain("-a -b -c -d -e".to_owned())];
        assert!(transformed(&five, &[Modifier::WindAsh]).is_err());
    }
}
