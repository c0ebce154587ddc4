//! Finds the modules that rules import: files of the user, then this program's own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::program::{ModuleSource, Modules};
use crate::store;

/// Folders of modules, next to a rule's folder or to one above it.
const FOLDERS: [&str; 2] = ["global_helpers", "helpers"];

/// How many folders above a rule's may hold the folder of modules.
const ABOVE: usize = 6;

/// Panther's helpers as this program has them, for rules that come without a folder of modules.
const OWN: [(&str, &str); 3] = [
    ("panther_aws_helpers", include_str!("helpers/panther_aws_helpers.py")),
    ("panther_base_helpers", include_str!("helpers/panther_base_helpers.py")),
    ("panther_event_type_helpers", include_str!("helpers/panther_event_type_helpers.py")),
];

/// The modules of rules in one or several folders. Files are read once.
#[derive(Debug, Default)]
pub struct ModuleFiles {
    read: Mutex<HashMap<PathBuf, Option<String>>>,
}

impl ModuleFiles {
    /// Returns the text of a file, if it can be read.
    fn text(&self, path: &Path) -> Option<String> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let text = read.entry(path.to_owned()).or_insert_with(|| {
            path.is_file().then(|| store::read_named("Python file", path, store::SETTINGS_BYTES).ok()).flatten()
        });
        text.clone()
    }

    /// Returns the modules that rules in `folder` see.
    pub(super) fn seen_from<'f>(&'f self, folder: &Path) -> ModulesSeen<'f> {
        let mut folders = vec![folder.to_owned()];
        for above in folder.ancestors().take(ABOVE) {
            folders.extend(FOLDERS.map(|name| above.join(name)).into_iter().filter(|folder| folder.is_dir()));
        }
        ModulesSeen { files: self, folders }
    }
}

/// The modules that one rule sees.
pub(super) struct ModulesSeen<'f> {
    files: &'f ModuleFiles,
    folders: Vec<PathBuf>,
}

impl Modules for ModulesSeen<'_> {
    fn find(&self, name: &str) -> Option<ModuleSource> {
        // The name is of a rule: it must not lead out of the folders.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let of_user = self.folders.iter().find_map(|folder| {
            let path = folder.join(format!("{name}.py"));
            Some((path.display().to_string(), self.files.text(&path)?))
        });
        let own =
            || OWN.iter().find(|(known, _)| *known == name).map(|(_, text)| (format!("{name}.py"), (*text).to_owned()));
        let (file, text) = of_user.or_else(own)?;
        Some(ModuleSource { name: name.into(), file, text })
    }
}
