//! Standard input and pipes, spooled to a file. A raw trail may be read more than once, but a pipe only once.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::disk::{self, Scratch};
use super::{Object, hex, most_told};
use crate::error::Error;
use crate::time::Instant;

/// The name of standard input on a command line.
const STANDARD_INPUT: &str = "-";

/// The bytes of a stream, in a file that is removed when this value is dropped.
#[derive(Debug)]
pub struct Spooled {
    folder: TempDir,
    /// The stream as an object, under the user's name. Its real path is a hash of its content, so the same content is
    /// the same object in every run.
    pub(super) object: Object,
}

/// The name of a stream's file.
const FILE: &str = "stream";

/// A writer that hashes the bytes that it writes to a file.
struct Hashed {
    file: File,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Spooled {
    /// Returns whether `source` names standard input or an inherited pipe, such as `<(command)`.
    pub fn is_stream(source: &str) -> bool {
        source == STANDARD_INPUT || disk::is_given_pipe(Path::new(source))
    }

    /// Reads the stream that `source` names to its end, `max_bytes` at most.
    ///
    /// # Errors
    /// The stream cannot be read, or holds more.
    pub fn read(source: &str, max_bytes: usize, scratch: &Scratch) -> Result<Spooled, Error> {
        let path = Path::new(source);
        let failed = |source| Error::File { action: "read", path: path.to_path_buf(), source };
        let stream: Box<dyn Read> = match source {
            STANDARD_INPUT if io::stdin().is_terminal() => {
                return Err(Error::Usage {
                    message: "standard input is a terminal".to_owned(),
                    hint: Some("pipe data into it: `zcat trail/*.gz | tawny hunt -`".to_owned()),
                });
            }
            STANDARD_INPUT => Box::new(io::stdin().lock()),
            _ => Box::new(File::open(path).map_err(failed)?),
        };
        let folder = scratch.folder_in(&std::env::temp_dir())?;
        let file = File::create(folder.path().join(FILE)).map_err(failed)?;
        let mut to = Hashed { file, hash: Sha256::new() };
        let size = io::copy(&mut stream.take(max_bytes as u64 + 1), &mut to).map_err(failed)?;
        if size > max_bytes as u64 {
            return Err(Error::Usage {
                message: format!("`{source}` holds more than {}", most_told(max_bytes)),
                hint: Some("write it to files, and name their folder".to_owned()),
            });
        }
        let real = PathBuf::from(format!("stream:{}", hex(&to.hash.finalize()[..16])));
        Ok(Spooled {
            folder,
            object: Object { path: path.to_path_buf(), real, size, modified: Instant::EPOCH, tag: None },
        })
    }

    /// Returns the path of the stream's bytes.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }
}
