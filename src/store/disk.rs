//! Finds files and folders and writes them durably.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, FileType};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use super::{FoundObjects, Object};
use crate::error::{Absence, Error, Fault};
use crate::text::printable;
use crate::time::Instant;

/// Finds the objects that `source` names: a file, a folder (everything below it), or a glob of either. Links are
/// followed. A folder with several paths is read once. Folders for whose path `enters` is false are not read.
pub fn find(source: &str, enters: &dyn Fn(&Path) -> bool) -> Result<FoundObjects, Error> {
    find_until(source, enters, &|_| false)
}

/// Returns the first object, by path, that [`find`] finds and `is_wanted` accepts. Objects after it are not looked at.
pub fn find_first(source: &str, is_wanted: &dyn Fn(&Object) -> bool) -> Result<Option<Object>, Error> {
    let found = find_until(source, &|_| true, is_wanted)?;
    Ok(found.objects.into_iter().find(is_wanted))
}

/// Finds objects as [`find`] does. The search may end once it has found an object that `ends_at` accepts.
fn find_until(
    source: &str,
    enters: &dyn Fn(&Path) -> bool,
    ends_at: &dyn Fn(&Object) -> bool,
) -> Result<FoundObjects, Error> {
    let source = without_rest(source);
    let named = Path::new(source);
    let is_pattern = source.contains(['*', '?', '[']);
    let mut roots = if named.exists() {
        vec![named.to_path_buf()]
    } else if is_pattern {
        glob::glob(source)
            .map_err(|error| Error::usage(format!("`{source}` is not a pattern: {error}")))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::File { action: "list", path: error.path().to_path_buf(), source: error.into() })?
    } else {
        Vec::new()
    };
    if roots.is_empty() {
        let kind = if is_pattern { Absence::UnmatchedPattern } else { Absence::MissingPath };
        return Err(Error::NotFound { kind, place: source.to_owned() });
    }
    roots.sort();
    let mut walk =
        FolderWalk { enters, ends_at, has_ended: false, found: FoundObjects::default(), folders: HashSet::new() };
    for root in roots {
        if walk.has_ended {
            break;
        }
        let failed = |source| Error::File { action: "list", path: root.clone(), source };
        if let Some(kind) = irregular(&root) {
            if root != named {
                walk.found.faults.push(fault(&root, &not_regular(kind)));
                continue;
            }
            return Err(Error::Usage {
                message: format!("`{}` is {kind}, not a regular file", printable(&root.display().to_string())),
                hint: Some("name a file or a folder; `-` is standard input".to_owned()),
            });
        }
        let real = fs::canonicalize(&root).map_err(failed)?;
        let metadata = fs::metadata(&real).map_err(failed)?;
        walk.descend(&root, &real, &metadata).map_err(failed)?;
    }
    walk.found.objects.sort();
    walk.found.objects.dedup();
    Ok(walk.found)
}

/// Returns `pattern` without `**` at its end: a folder means everything below it, and a pattern library takes a last `**` for
/// folders only.
fn without_rest(pattern: &str) -> &str {
    if pattern == "**" {
        return ".";
    }
    let mut rest = pattern;
    while let Some(folder) = rest.strip_suffix("/**").filter(|folder| !folder.is_empty()) {
        rest = folder;
    }
    rest
}

/// Returns the time of the last change of a file.
pub(super) fn modified(metadata: &fs::Metadata) -> io::Result<Instant> {
    let modified = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Instant::from_micros(i64::try_from(modified.as_micros()).unwrap_or(i64::MAX)))
}

/// Returns the entries of the folder at `path`. Empty if there is no such folder.
pub(super) fn entries(path: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let failed = |source| Error::File { action: "list", path: path.to_path_buf(), source };
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed)?.collect::<io::Result<_>>().map_err(failed),
    }
}

struct FolderWalk<'w> {
    enters: &'w dyn Fn(&Path) -> bool,
    ends_at: &'w dyn Fn(&Object) -> bool,
    has_ended: bool,
    found: FoundObjects,
    folders: HashSet<PathBuf>,
}

impl FolderWalk<'_> {
    fn descend(&mut self, path: &Path, real: &Path, metadata: &fs::Metadata) -> io::Result<()> {
        if let Some(kind) = irregular_kind(metadata.file_type()) {
            return Err(not_regular(kind));
        }
        if !metadata.is_dir() {
            let object = Object {
                path: path.to_path_buf(),
                real: real.to_path_buf(),
                size: metadata.len(),
                modified: modified(metadata)?,
                tag: None,
            };
            self.has_ended = (self.ends_at)(&object);
            self.found.objects.push(object);
            return Ok(());
        }
        if !(self.enters)(path) || !self.folders.insert(real.to_path_buf()) {
            return Ok(());
        }
        let (mut entries, mut failed) = (Vec::new(), Ok(()));
        for entry in fs::read_dir(real)? {
            match entry {
                Ok(entry) => entries.push((entry.file_name(), entry)),
                Err(error) => failed = Err(error),
            }
            if failed.is_err() {
                break;
            }
        }
        // In the order of paths, which is much faster than to sort all paths in the end.
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, entry) in entries {
            if self.has_ended {
                break;
            }
            let (path, mut real) = (path.join(&name), real.join(&name));
            // Found from the open folder, without its path.
            let below = entry.metadata().and_then(|mut metadata| {
                if metadata.is_symlink() {
                    real = fs::canonicalize(&real)?;
                    metadata = fs::metadata(&real)?;
                }
                self.descend(&path, &real, &metadata)
            });
            if let Err(error) = below {
                self.found.faults.push(fault(&path, &error));
            }
        }
        failed
    }
}

fn fault(path: &Path, error: &io::Error) -> Fault {
    Fault { object: path.display().to_string(), position: None, reason: error.to_string() }
}

/// Returns the kind of a file that is neither a regular file nor a folder. Opening it may block, and reading it may
/// never end.
fn irregular_kind(kind: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        for (is, name) in [
            (kind.is_fifo(), "a named pipe (FIFO)"),
            (kind.is_socket(), "a socket"),
            (kind.is_char_device(), "a device"),
            (kind.is_block_device(), "a device"),
        ] {
            if is {
                return Some(name);
            }
        }
    }
    (!kind.is_file() && !kind.is_dir()).then_some("a special file")
}

/// Returns the [`irregular_kind`] of the file at `path`, following links. `None` if there is no file.
fn irregular(path: &Path) -> Option<&'static str> {
    fs::metadata(path).ok().and_then(|metadata| irregular_kind(metadata.file_type()))
}

fn not_regular(kind: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("not a regular file: it is {kind}"))
}

/// Folders with the open files that this process inherited.
const GIVEN_FILES: [&str; 2] = ["/dev/fd", "/proc/self/fd"];

/// Returns whether `path` names a pipe that this process inherited open, such as `/dev/stdin` or `<(command)`. It has
/// a writer, so opening it does not block.
pub(super) fn is_given_pipe(path: &Path) -> bool {
    is_given(path) && is_pipe(path)
}

fn is_given(path: &Path) -> bool {
    let is_standard = ["/dev/stdin", "/dev/stdout", "/dev/stderr"].iter().any(|given| path == Path::new(given));
    is_standard || path.parent().is_some_and(|folder| GIVEN_FILES.iter().any(|given| folder == Path::new(given)))
}

fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// Opens a regular file or an inherited pipe for reading, and returns its size. Anything else, such as a FIFO without a
/// writer, is refused before it is opened.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let metadata = fs::metadata(path)?;
    match irregular_kind(metadata.file_type()) {
        Some(kind) if !is_given_pipe(path) => Err(not_regular(kind)),
        _ => Ok((File::open(path)?, metadata.len())),
    }
}

/// Reads all bytes of a regular file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, u64::MAX)
}

/// Reads the first bytes of a file, at most `most`.
fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, size) = open(path)?;
    let mut bytes = Vec::new();
    // One byte more, so that the end is found without growing. The size is known, so `File` need not ask for it again.
    bytes.try_reserve_exact(usize::try_from(size.min(most)).unwrap_or(usize::MAX).saturating_add(1))?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a text file.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    read_text_within(path, u64::MAX)
}

/// The most bytes in a configuration or rule file.
pub const SETTINGS_BYTES: u64 = 4 << 20;

/// Reads a text file that the user names, of at most `most` bytes. `what` is the kind of file.
///
/// # Errors
/// The file cannot be read. That is a usage error.
pub fn read_named(what: &str, path: &Path, most: u64) -> Result<String, Error> {
    read_text_within(path, most).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::usage(format!("the {what} `{}` cannot be read{cause}", printable(&path.display().to_string())))
    })
}

/// Reads the first bytes of a file, at most `most`. A pipe can be read once, but a command may read a file twice, so
/// the bytes of a pipe are kept.
fn read_start(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    static GIVEN: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());
    if !is_given_pipe(path) {
        return read_at_most(path, most);
    }
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = given.get(path) {
        return Ok(bytes.clone());
    }
    let bytes = read_at_most(path, most)?;
    given.insert(path.to_path_buf(), bytes.clone());
    Ok(bytes)
}

fn read_text_within(path: &Path, most: u64) -> Result<String, Error> {
    let failed = |source| Error::File { action: "read", path: path.to_path_buf(), source };
    let bytes = read_start(path, most.saturating_add(1)).map_err(failed)?;
    if bytes.len() as u64 > most {
        let reason = format!("it holds more than {} MiB", most >> 20);
        return Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason)));
    }
    String::from_utf8(bytes)
        .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error())))
}

/// Returns the file to write for `path`, following links.
///
/// # Errors
/// The folder does not exist, or the file exists and is not writable. Its folder might still allow to replace it.
pub fn destination(path: &Path) -> Result<PathBuf, Error> {
    let Ok(real) = fs::canonicalize(path) else {
        let folder = folder_of(path);
        if !folder.is_dir() {
            let [path, folder] = [path, folder].map(|path| printable(&path.display().to_string()));
            return Err(Error::Usage {
                message: format!("`{path}` cannot be written: `{folder}` is not a folder"),
                hint: Some("create the folder, or name another file".to_owned()),
            });
        }
        return Ok(path.to_path_buf());
    };
    match fs::metadata(&real) {
        Ok(metadata) if metadata.is_dir() => Err(Error::Usage {
            message: format!("`{}` cannot be written: it is a folder", printable(&path.display().to_string())),
            hint: Some("name a file in it".to_owned()),
        }),
        Ok(metadata) if irregular_kind(metadata.file_type()).is_some() && !is_writable_device(path) => {
            let kind = irregular(&real).unwrap_or("a special file");
            Err(Error::Usage {
                message: format!(
                    "`{}` cannot be written: it is {kind}, not a regular file",
                    printable(&path.display().to_string())
                ),
                hint: Some("name a file; leave the option out for standard output".to_owned()),
            })
        }
        Ok(metadata) if metadata.permissions().readonly() => Err(Error::Usage {
            message: format!("`{}` cannot be written: it is read-only", printable(&path.display().to_string())),
            hint: Some("allow it to be written, or name another file".to_owned()),
        }),
        _ => Ok(real),
    }
}

/// Returns whether a result may be written to the device or pipe at `path`: it is a device for output, or was
/// inherited open.
pub fn is_writable_device(path: &Path) -> bool {
    is_given(path) || ["/dev/null", "/dev/full", "/dev/tty"].iter().any(|device| path == Path::new(device))
}

/// Returns the folder of the file at `path`.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that is complete on disk, but not yet at its final path.
#[derive(Debug)]
pub struct Staged {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

/// Writes the future content of `path` to a file in `staging`, on the same file system, and syncs it.
pub(super) fn stage(path: &Path, staging: &Path, bytes: &[u8]) -> Result<Staged, Error> {
    let staged = StagedWriter::create(path, staging).and_then(|mut file| {
        file.write_all(bytes)?;
        file.finish()
    });
    staged.map_err(|source| Error::File { action: "write", path: path.to_path_buf(), source })
}

/// Writes the future content of a file.
#[derive(Debug)]
pub struct StagedWriter {
    to: io::BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

impl StagedWriter {
    /// Returns a writer for `path` with an unfinished file in `staging`, on the same file system.
    ///
    /// # Errors
    /// The file cannot be created, or have the permissions of the one that it replaces.
    pub fn create(path: &Path, staging: &Path) -> io::Result<StagedWriter> {
        let mut builder = tempfile::Builder::new();
        // The permissions of a file that is written in place: as the user's umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(staging)?;
        if let Ok(replaced) = std::fs::metadata(path) {
            file.as_file().set_permissions(replaced.permissions())?;
        }
        Ok(StagedWriter { to: io::BufWriter::new(file), path: path.to_path_buf() })
    }

    /// Syncs the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> io::Result<Staged> {
        let file = self.to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        Ok(Staged { file, path: self.path })
    }
}

impl io::Write for StagedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Staged {
    /// Moves the file to its final path, atomically.
    pub fn publish(self) -> Result<(), Error> {
        let failed = |source| Error::File { action: "write", path: self.path.clone(), source };
        let folder = folder_of(&self.path);
        create_folder(folder)?;
        self.file.persist(&self.path).map_err(|error| failed(error.error))?;
        sync_folder(folder).map_err(failed)
    }

    /// Moves the file to its final path, atomically. If a file is there already, leaves it and returns false.
    fn publish_new(self) -> Result<bool, Error> {
        let failed = |source| Error::File { action: "write", path: self.path.clone(), source };
        match self.file.persist_noclobber(&self.path) {
            Ok(_) => sync_folder(folder_of(&self.path)).map(|()| true).map_err(failed),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed(error.error)),
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Writes the file at `path` atomically, through a hidden file in the same folder. Replaces an existing file.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = folder_of(path);
    create_folder(folder)?;
    stage(path, folder, bytes)?.publish()
}

/// Creates the file at `path` atomically. Returns false if it exists.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<bool, Error> {
    let folder = folder_of(path);
    create_folder(folder)?;
    stage(path, folder, bytes)?.publish_new()
}

/// Folders for unfinished work. They are removed when the run ends, also when it is interrupted.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    folders: Arc<Mutex<Vec<PathBuf>>>,
}

impl Scratch {
    /// Creates a folder in `parent` that is removed when the result is dropped.
    pub fn folder_in(&self, parent: &Path) -> Result<TempDir, Error> {
        create_folder(parent)?;
        let folder = tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(parent)
            .map_err(|source| Error::File { action: "create", path: parent.to_path_buf(), source })?;
        if let Ok(mut folders) = self.folders.lock() {
            folders.push(folder.path().to_path_buf());
        }
        Ok(folder)
    }

    /// Removes all folders at once, when a run is interrupted.
    pub fn remove_all(&self) {
        if let Ok(folders) = self.folders.lock() {
            for folder in folders.iter() {
                // A failure loses nothing: no reader reads scratch folders.
                fs::remove_dir_all(folder).ok();
            }
        }
    }
}

/// Removes scratch folders that a killed run left in `parent`. The caller must hold the lock on it.
pub(super) fn remove_stale_scratch(parent: &Path) -> Result<(), Error> {
    let failed = |source| Error::File { action: "clean", path: parent.to_path_buf(), source };
    for entry in fs::read_dir(parent).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX) {
            fs::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

const SCRATCH_PREFIX: &str = "scratch-";

/// Returns the absolute path of `path`, without links and dots.
pub fn real_path(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(|source| Error::File { action: "find", path: path.to_path_buf(), source })
}

/// Creates a folder and its parents.
pub fn create_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::File { action: "create", path: path.to_path_buf(), source })
}

/// A lock that this process holds.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file frees the lock only if no process that is being started shares the file at that moment. An
        // error does not matter: the lock ends with the file.
        self.0.unlock().ok();
    }
}

/// Locks the file at `path` until the result is dropped. `None` if another process holds the lock. The system frees
/// the lock when its holder ends, even if it is killed.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, Error> {
    let file = lock_file(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(source)) => Err(lock_error(path, source)),
    }
}

/// Locks the file at `path` together with other runs that do so. `None` if a run holds it alone for long.
pub(super) fn try_lock_shared(path: &Path) -> Result<Option<Lock>, Error> {
    let file = lock_file(path)?;
    for _ in 0..SHARED_LOCK_ATTEMPTS {
        match file.try_lock_shared() {
            Ok(()) => return Ok(Some(Lock(file))),
            // Another run that starts cleans up.
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(SHARED_LOCK_PAUSE),
            Err(fs::TryLockError::Error(source)) => return Err(lock_error(path, source)),
        }
    }
    Ok(None)
}

fn lock_file(path: &Path) -> Result<File, Error> {
    if let Some(kind) = irregular(path) {
        return Err(lock_error(path, not_regular(kind)));
    }
    File::options().create(true).truncate(false).write(true).open(path).map_err(|source| lock_error(path, source))
}

fn lock_error(path: &Path, source: io::Error) -> Error {
    Error::File { action: "lock", path: path.to_path_buf(), source }
}

const SHARED_LOCK_ATTEMPTS: usize = 20;
const SHARED_LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_once_it_is_given_back_even_where_another_shares_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = try_lock(&path).unwrap().unwrap();
        let shared = lock.0.try_clone().unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        drop(lock);
        assert!(try_lock(&path).unwrap().is_some());
        drop(shared);
    }
}
