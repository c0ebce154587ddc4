//! The seal of a commit or checkpoint: a SHA-256 of its version, its table and its content.
//!
//! The id of the table is in the digest, so that the log of another table is noticed. Commit 0 names the id itself.
//!
//! A commit has it in its `commitInfo`, a checkpoint in the key-value metadata of its footer. Readers ignore both. Commits
//! of other programs have no seal and are not checked.

use sha2::{Digest as _, Sha256};

use crate::store::hex;

/// The begin of the line with the metadata of a commit.
const COMMIT_INFO: &str = r#"{"commitInfo":{"#;
/// The begin of the seal. A string within a commit cannot hold this text, because its quotes would be escaped.
const MARK: &str = r#""tawnySeal":""#;
/// The key of the seal in the footer of a checkpoint.
pub(super) const CHECKPOINT_KEY: &str = "tawnySeal";
/// The begin of the seal in the footer: the key, and the type and length of the value, as Thrift's compact protocol
/// encodes them.
const CHECKPOINT_MARK: &[u8] = b"tawnySeal\x18\x40";
/// What stands in place of the digest while it is computed.
pub(super) const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The begin of the name of the program that wrote a commit.
const WRITER: &str = "tawny/";

/// A commit does not fit its seal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    #[error("it is damaged: it does not begin with a whole `commitInfo`")]
    NoCommitInfo,
    #[error("it is damaged: its text does not have the SHA-256 that it names")]
    Differs,
    #[error("it is damaged: its SHA-256 is missing")]
    Missing,
    #[error("it has no SHA-256, because it is damaged or another program wrote it")]
    CheckpointWithout,
}

/// The version and the table that a seal belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed<'t> {
    /// The version of the commit or checkpoint.
    pub(super) version: u64,
    /// The id of the table. Empty for commit 0.
    pub(super) table: &'t str,
}

/// Returns the text of a commit with a seal.
pub(super) fn add(of: Sealed<'_>, commit: &[u8]) -> Result<Vec<u8>, SealError> {
    let begin = memchr::memmem::find(commit, COMMIT_INFO.as_bytes()).ok_or(SealError::NoCommitInfo)?;
    let (before, after) = commit.split_at(begin + COMMIT_INFO.len());
    let blank = [before, MARK.as_bytes(), BLANK.as_bytes(), b"\",", after].concat();
    let digest = digest(of, &blank);
    Ok([before, MARK.as_bytes(), digest.as_bytes(), b"\",", after].concat())
}

/// Checks the seal of a commit. Each commit of a log that this program writes, `is_ours`, begins with its
/// `commitInfo`, because it has a time in it.
pub(super) fn check(of: Sealed<'_>, commit: &[u8], is_ours: bool) -> Result<(), SealError> {
    if is_ours && !(commit.starts_with(COMMIT_INFO.as_bytes()) && commit.trim_ascii_end().ends_with(b"}")) {
        return Err(SealError::NoCommitInfo);
    }
    let Some(mark) = memchr::memmem::find(commit, MARK.as_bytes()) else {
        let writer = format!(r#""engineInfo":"{WRITER}"#);
        let is_sealed = memchr::memmem::find(commit, writer.as_bytes()).is_some();
        return if is_sealed { Err(SealError::Missing) } else { Ok(()) };
    };
    let (before, rest) = commit.split_at(mark + MARK.len());
    let (named, after) = rest.split_at_checked(BLANK.len()).ok_or(SealError::Missing)?;
    let blank = [before, BLANK.as_bytes(), after].concat();
    // The id of the table is not known for other logs.
    if !is_ours || digest(of, &blank).as_bytes() == named { Ok(()) } else { Err(SealError::Differs) }
}

/// Returns a checkpoint with a seal. The value of its [`CHECKPOINT_KEY`] is [`BLANK`].
pub(super) fn add_to_checkpoint(of: Sealed<'_>, mut checkpoint: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let digest = digest(of, &checkpoint);
    checkpoint_digest(&mut checkpoint)?.copy_from_slice(digest.as_bytes());
    Ok(checkpoint)
}

/// Checks the seal of a checkpoint.
pub(super) fn check_checkpoint(of: Sealed<'_>, checkpoint: &[u8]) -> Result<(), SealError> {
    let mut blank = checkpoint.to_vec();
    let sealed = checkpoint_digest(&mut blank)?;
    let named = sealed.to_vec();
    sealed.copy_from_slice(BLANK.as_bytes());
    if digest(of, &blank).as_bytes() == named { Ok(()) } else { Err(SealError::Differs) }
}

/// Returns the digest in the footer of a checkpoint.
fn checkpoint_digest(checkpoint: &mut [u8]) -> Result<&mut [u8], SealError> {
    let mark = memchr::memmem::rfind(checkpoint, CHECKPOINT_MARK).ok_or(SealError::CheckpointWithout)?;
    let begin = mark + CHECKPOINT_MARK.len();
    checkpoint.get_mut(begin..begin + BLANK.len()).ok_or(SealError::CheckpointWithout)
}

fn digest(of: Sealed<'_>, text: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(of.version.to_le_bytes());
    digest.update(of.table.as_bytes());
    digest.update(text);
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEVENTH: Sealed<'static> = Sealed { version: 7, table: "a" };
    const TENTH: Sealed<'static> = Sealed { version: 10, table: "a" };

    const COMMIT: &[u8] = b"{\"commitInfo\":{\"engineInfo\":\"tawny/1\"}}\n{\"add\":{\"path\":\"a\",\"size\":12}}\n";

    #[test]
    fn every_changed_byte_of_a_sealed_commit_is_noticed() {
        let sealed = add(SEVENTH, COMMIT).unwrap();
        assert_eq!(check(SEVENTH, &sealed, true), Ok(()));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 4;
            assert!(check(SEVENTH, &changed, true).is_err(), "byte {index}");
        }
        assert_eq!(
            check(Sealed { version: 8, ..SEVENTH }, &sealed, true),
            Err(SealError::Differs),
            "of another version"
        );
        assert_eq!(check(Sealed { table: "b", ..SEVENTH }, &sealed, true), Err(SealError::Differs), "of another table");
        assert!((0..sealed.len()).all(|length| check(SEVENTH, &sealed[..length], true).is_err()), "a shortened commit");
    }

    #[test]
    fn every_changed_byte_of_a_sealed_checkpoint_is_noticed() {
        let checkpoint = [b"PAR1 pages tawnySeal\x18\x40".as_slice(), BLANK.as_bytes(), b" PAR1"].concat();
        let sealed = add_to_checkpoint(TENTH, checkpoint).unwrap();
        assert_eq!(check_checkpoint(TENTH, &sealed), Ok(()));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 4;
            assert!(check_checkpoint(TENTH, &changed).is_err(), "byte {index}");
        }
        assert_eq!(
            check_checkpoint(Sealed { version: 20, ..TENTH }, &sealed),
            Err(SealError::Differs),
            "of another version"
        );
        assert_eq!(
            check_checkpoint(Sealed { table: "b", ..TENTH }, &sealed),
            Err(SealError::Differs),
            "of another table"
        );
        assert!((0..sealed.len()).all(|length| check_checkpoint(TENTH, &sealed[..length]).is_err()), "a shortened one");
        assert_eq!(check_checkpoint(TENTH, b"PAR1 of another program PAR1"), Err(SealError::CheckpointWithout));
    }

    #[test]
    fn commits_of_other_programs_have_no_seal() {
        for is_ours in [true, false] {
            assert_eq!(check(SEVENTH, b"{\"commitInfo\":{\"engineInfo\":\"spark\"}}\n", is_ours), Ok(()));
            assert_eq!(check(SEVENTH, COMMIT, is_ours), Err(SealError::Missing));
        }
        assert_eq!(check(SEVENTH, b"{\"add\":{}}\n", false), Ok(()));
        assert_eq!(add(SEVENTH, b"{\"add\":{}}\n"), Err(SealError::NoCommitInfo));
    }
}
