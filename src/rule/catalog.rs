//! Chooses the rules of a run: shipped rules, or rules in files and folders.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::lint::Warning;
use super::panther::{self, Read};
use super::{Rule, limits, sigma, yaml};
use crate::error::Error;
use crate::statistics::number_of;
use crate::store;

/// The shipped rules, by path and text.
const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/rules.rs"));

/// The id of the shipped rule for commands that need one rule when the user names none.
pub const DEFAULT: &str = "AWS.Unsuccessful.MFA.attempt";

/// A rule and its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The rule.
    pub rule: Rule,
    /// The path of its file as the user wrote it, or a shipped rule's path within the program.
    pub file: String,
    /// Its YAML text.
    pub text: String,
    /// Warnings about the rule.
    pub warnings: Vec<Warning>,
    /// Whether the user named its file rather than a folder.
    named: bool,
}

/// The choice of rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuleChoice<'w> {
    /// Files and folders. The shipped rules if empty.
    pub paths: &'w [PathBuf],
    /// Only rules with these ids. All rules if empty.
    pub ids: &'w [String],
    /// Whether to include disabled rules.
    pub disabled: bool,
}

/// The chosen rules, and notices for the user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// The rules, ordered by id.
    pub rules: Vec<Rule>,
    /// Notices, such as that a named rule is disabled.
    pub notices: Vec<String>,
}

/// Returns the rule [`DEFAULT`].
pub fn default() -> Result<Rule, Error> {
    Ok(named(&all(&[])?, DEFAULT)?.rule.clone())
}

/// Returns the rule of `entries` with this id. If `entries` are from one named file, returns that file's rule.
pub fn named<'e>(entries: &'e [Entry], id: &str) -> Result<&'e Entry, Error> {
    if let [entry] = entries
        && entry.named
    {
        return Ok(entry);
    }
    entries.iter().find(|entry| entry.rule.id == id).ok_or_else(|| unknown(entries, id))
}

/// The most known ids in the error about an unknown id.
const NAMED: usize = 10;

fn unknown(entries: &[Entry], id: &str) -> Error {
    let ids = entries.iter().map(|entry| entry.rule.id.as_str());
    let hint = match yaml::nearest(id, ids.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if entries.len() > NAMED => {
            "`tawny rules list`, with the paths of `--rules` where they were given, shows the ids".to_owned()
        }
        None => format!("there are {}", ids.map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")),
    };
    Error::Usage { message: format!("there is no rule `{id}`"), hint: Some(hint) }
}

/// Chooses rules. A rule that is named, as a file or by id, is chosen even if it is disabled. Of a folder and of the
/// shipped rules, enabled rules are chosen.
pub fn choose(wanted: RuleChoice<'_>) -> Result<Choice, Error> {
    let found = all(wanted.paths)?;
    for id in wanted.ids {
        if !found.iter().any(|entry| entry.rule.id == *id) {
            return Err(unknown(&found, id));
        }
    }
    let mut choice = Choice::default();
    let mut disabled = 0;
    for Entry { rule, named, .. } in found {
        let by_id = wanted.ids.contains(&rule.id);
        if !wanted.ids.is_empty() && !by_id {
            continue;
        }
        if rule.enabled || wanted.disabled || by_id || named {
            if !rule.enabled && !wanted.disabled {
                choice.notices.push(format!("the rule `{}` is disabled; it runs because it was named", rule.id));
            }
            choice.rules.push(rule);
        } else {
            disabled += 1;
        }
    }
    if disabled > 0 {
        let rules = number_of(disabled, "disabled rule");
        choice.notices.push(format!(
            "{rules} skipped (use `--include-disabled`, or `include_disabled` in a configuration, to run them)"
        ));
    }
    if choice.rules.is_empty() {
        return Err(Error::Usage {
            message: "there are no rules to run".to_owned(),
            hint: Some("name a folder with enabled rules, a rule file, or leave `--rules` out".to_owned()),
        });
    }
    Ok(choice)
}

/// Returns all rules of `paths`, or the shipped rules if there are no paths, ordered by id. Disabled rules are
/// included.
pub fn all(paths: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    let mut found: Vec<Entry> = Vec::new();
    let is_named = |file: &str| paths.iter().any(|path| path.display().to_string() == file);
    let (of_sigma, of_panther): (Vec<_>, Vec<_>) =
        texts(paths)?.into_iter().partition(|(_, text)| sigma::is_sigma(text));
    for (file, text) in of_panther {
        let Read { rule, warnings } = panther::parse(&file, &text)?;
        let named = is_named(&file);
        found.push(Entry { rule, file, text, warnings, named });
    }
    let files: Vec<(&str, &str)> = of_sigma.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    for (number, rule) in sigma::read(&files)? {
        let (file, text) = of_sigma[number].clone();
        let named = is_named(&file);
        found.push(Entry { rule, file, text, warnings: Vec::new(), named });
    }
    if found.len() > limits::RULES {
        return Err(too_many("rules"));
    }
    found.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
    match found.windows(2).find(|pair| pair[0].rule.id == pair[1].rule.id) {
        Some([one, other]) => {
            let message = format!("the rule `{}` is there twice, in `{}` and `{}`", one.rule.id, one.file, other.file);
            Err(Error::usage(message))
        }
        _ => Ok(found),
    }
}

/// Returns the names and texts of the rule files in `paths`, or of the shipped rules if there are no paths.
pub fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Error> {
    if paths.is_empty() {
        return Ok(SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect());
    }
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut seen = HashSet::new();
    // Files before folders, because a named file may also be in a named folder.
    let (folders, files): (Vec<_>, Vec<_>) = paths.iter().partition(|path| path.is_dir());
    let mut all: Vec<PathBuf> = files.into_iter().cloned().collect();
    for folder in folders {
        all.extend(rule_files(folder)?);
    }
    if all.len() > limits::RULES {
        return Err(too_many("rule files"));
    }
    for file in all {
        if seen.insert(store::real_path(&file).unwrap_or_else(|_| file.clone())) {
            let text = store::read_named("rule file", &file, store::SETTINGS_BYTES)?;
            texts.push((file.display().to_string(), text));
        }
    }
    if texts.is_empty() {
        return Err(Error::usage("there are no rule files"));
    }
    Ok(texts)
}

fn too_many(what: &str) -> Error {
    Error::Usage {
        message: format!("there are more than {} {what}, the most that one run reads", limits::RULES),
        hint: Some("name fewer files or folders, and run once for each part of them".to_owned()),
    }
}

fn rule_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let found = store::find(&folder.display().to_string(), &|_| true)?;
    if let Some(fault) = found.faults.first() {
        return Err(Error::usage(format!("a rule cannot be read: {fault}")));
    }
    let is_yaml = |path: &PathBuf| {
        let end = path.extension().unwrap_or_default();
        end.eq_ignore_ascii_case("yml") || end.eq_ignore_ascii_case("yaml")
    };
    Ok(found.objects.into_iter().map(|object| object.path).filter(is_yaml).collect())
}
