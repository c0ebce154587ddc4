//! Public keys for the signatures of digests.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::digest::from_hex;

/// Public keys by fingerprint, as `aws cloudtrail list-public-keys` prints them.
///
/// Each region has its own keys. Their fingerprints differ, so one set may hold the keys of several regions.
#[derive(Clone, Default)]
pub struct PublicKeys {
    by_fingerprint: HashMap<String, ParsedPublicKey>,
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_fingerprint.keys()).finish()
    }
}

/// Why a text holds no public keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It is not JSON of this form.
    #[error("expected the output of `aws cloudtrail list-public-keys`, in JSON: {0}")]
    Form(String),
    /// The list is empty.
    #[error(
        "it holds no keys: `aws cloudtrail list-public-keys` lists those of one region, and of the time since `--start-time`"
    )]
    Empty,
    /// A value is not an RSA key of 2,048 to 8,192 bits.
    #[error("the key with the fingerprint `{0}` is not an RSA public key in PKCS #1 format, encoded as Base64")]
    Value(String),
}

#[derive(Deserialize)]
struct KeyList {
    // The user guide's example begins with a small letter.
    #[serde(rename = "PublicKeyList", alias = "publicKeyList")]
    keys: Vec<ListedKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedKey {
    value: String,
    fingerprint: String,
}

impl PublicKeys {
    /// Adds the keys in `json`.
    ///
    /// # Errors
    /// The text is not a list of keys, or one of them is not a key.
    pub fn add(&mut self, json: &str) -> Result<(), PublicKeyError> {
        let list: KeyList = serde_json::from_str(json).map_err(|error| PublicKeyError::Form(error.to_string()))?;
        if list.keys.is_empty() {
            return Err(PublicKeyError::Empty);
        }
        for ListedKey { value, fingerprint } in list.keys {
            let der = STANDARD.decode(value.trim()).ok();
            let key = der.and_then(|der| ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).ok());
            let key = key.ok_or_else(|| PublicKeyError::Value(fingerprint.clone()))?;
            self.by_fingerprint.insert(fingerprint.to_ascii_lowercase(), key);
        }
        Ok(())
    }

    /// Returns the key with this fingerprint.
    pub(super) fn get(&self, fingerprint: &str) -> Option<&ParsedPublicKey> {
        self.by_fingerprint.get(&fingerprint.to_ascii_lowercase())
    }
}

/// Returns whether `signature`, in hexadecimal digits, is the signature of `text` by `key`.
pub(super) fn is_signed(key: &ParsedPublicKey, text: &str, signature: &str) -> bool {
    from_hex(signature).is_some_and(|signature| key.verify_sig(text.as_bytes(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_without_usable_keys_are_refused() {
        let refused = |json: &str| PublicKeys::default().add(json).unwrap_err();
        assert!(matches!(refused("x"), PublicKeyError::Form(_)));
        assert!(matches!(refused("[]"), PublicKeyError::Form(_)));
        assert!(matches!(refused(r#"{"PublicKeyList": [{"Value": "AA=="}]}"#), PublicKeyError::Form(_)));
        assert_eq!(refused(r#"{"PublicKeyList": []}"#), PublicKeyError::Empty);
        for value in ["", "AA==", "not base64"] {
            let json = format!(r#"{{"PublicKeyList": [{{"Value": "{value}", "Fingerprint": "ab"}}]}}"#);
            assert_eq!(refused(&json), PublicKeyError::Value("ab".to_owned()), "{value}");
        }
    }

    /// The first key of the user guide's example.
    #[test]
    fn keys_are_found_by_fingerprint() {
        const KEY: &str = "MIIBCgKCAQEAn11L2YZ9h7onug2ILi1MWyHiMRsTQjfWE+pHVRLk1QjfWhirG+lpOa8NrwQ/r7Ah5bNL6HepznOU9XTDSfmmnP97mqyc7z/upfZdS/AHhYcGaz7n6Wc/RRBU6VmiPCrAUojuSk6/GjvA8iOPFsYDuBtviXarvuLPlrT9kAd4Lb+rFfR5peEgBEkhlzc5HuWO7S0y+KunqxX6jQBnXGMtxmPBPP0FylgWGNdFtks/4YSKcgqwH0YDcawP9GGGDAeCIqPWIXDLG1jOjRRzWfCmD0iJUkz8vTsn4hq/5ZxRFE7UBAUiVcGbdnDdvVfhF9C3dQiDq3k7adQIziLT0cShgQIDAQAB";
        let json = format!(
            r#"{{"PublicKeyList": [{{"Value": "{KEY}", "ValidityStartTime": 1436317441.0, "Fingerprint": "8eba5db5"}}]}}"#
        );
        let mut keys = PublicKeys::default();
        keys.add(&json).unwrap();
        keys.add(&json.replace("PublicKeyList", "publicKeyList").replace("8eba5db5", "8933b39d")).unwrap();
        assert!(keys.get("8EBA5DB5").is_some() && keys.get("8933b39d").is_some() && keys.get("31e8b543").is_none());
        assert!(!is_signed(keys.get("8eba5db5").unwrap(), "text", "00"));
        assert!(!is_signed(keys.get("8eba5db5").unwrap(), "text", "not hexadecimal"));
    }
}
