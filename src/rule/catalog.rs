//! Chooses the rules of a run: shipped rules, or rules in files and folders.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::exceptions::Exceptions;
use super::lint::{Code, Warning};
use super::panther::{self, Read};
use super::placeholders::Placeholders;
use super::python::ModuleFiles;
use super::sigma::{SigmaEntry, SigmaRules};
use super::value_lists::ValueLists;
use super::yaml::YamlSource;
use super::{Rule, check_id, elastic, limits, sigma, yaml};
use crate::error::{Error, RuleError, RuleErrorKind};
use crate::statistics::number_of;
use crate::store;

mod kind;

use kind::FileKind;

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
    /// Its text.
    pub text: String,
    /// Warnings about the rule.
    pub warnings: Vec<Warning>,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether an override disables it.
    pub(super) is_switched_off: bool,
    /// The id that its file gives it, if other rules have that id too.
    shared_id: Option<String>,
}

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is a shipped rule.
    Shipped,
    /// A file in a folder that the user named.
    Folder,
    /// A file that the user named.
    NamedFile,
}

/// Which rules to read.
#[derive(Debug, Clone, Copy)]
pub struct RuleSources<'s> {
    /// Files and folders. The shipped rules if empty.
    pub paths: &'s [PathBuf],
    /// Whether to read the shipped rules beside those of `paths`.
    pub with_shipped: bool,
    /// The ids of the only rules that are needed, so that other shipped rules need not be read. All are needed if empty.
    pub needed_ids: &'s [String],
    /// The values of placeholders.
    pub placeholders: &'s Placeholders,
    /// The value lists that conditions may name.
    pub value_lists: &'s ValueLists,
}

/// The rules of some files and folders.
#[derive(Debug, Clone, Default)]
pub struct LoadedRules {
    /// The rules that can run, ordered by id. Disabled rules are included.
    pub entries: Vec<Entry>,
    /// The reasons why other rules cannot run, by the order of files and places.
    pub skipped: Vec<SkippedRule>,
    /// What else was in the files.
    pub others: OtherFiles,
    /// The exceptions that were applied to the rules.
    pub exceptions: Exceptions,
}

/// A rule that cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRule {
    /// Its file.
    pub file: String,
    /// The reasons, by their place. There is at least one. Some may be in other files, which the rule reads.
    pub errors: Vec<RuleError>,
    /// Whether the user named its file rather than a folder.
    named: bool,
}

impl SkippedRule {
    /// Returns the kind of its first error.
    pub fn kind(&self) -> RuleErrorKind {
        self.errors.first().map_or(RuleErrorKind::Invalid, |error| error.kind)
    }

    /// Returns the errors. One in another file, such as a module that several rules import, also names the rule.
    pub fn errors_with_rule(&self) -> impl Iterator<Item = RuleError> {
        self.errors.iter().cloned().map(|mut error| {
            if error.file != self.file {
                error.message = format!("{} (rule `{}`)", error.message, self.file);
            }
            error
        })
    }
}

/// Numbers of files and rules that are passed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OtherFiles {
    /// YAML and TOML files in folders that hold no rule.
    pub no_rules: usize,
    /// Rules in folders for other logs than CloudTrail's.
    pub for_other_logs: usize,
    /// Rules that are the same as another.
    pub copies: usize,
    /// Shipped rules whose id a rule of the user has.
    pub replaced: usize,
    /// Rules that are only parts of correlations.
    pub correlated: usize,
}

/// The choice of rules.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuleChoice<'w> {
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
    /// What matters only to those who look for it, such as the number of disabled rules.
    pub details: Vec<String>,
    /// Warnings about the rules, with their places. Shipped rules have none.
    pub warnings: Vec<String>,
}

impl Entry {
    /// Returns the warnings that are not about the rule's tests, each on one line.
    pub fn warnings_of_findings(&self) -> Vec<String> {
        let of_findings = self.warnings.iter().filter(|warning| !warning.code.is_about_tests());
        of_findings.map(|warning| warning.in_file(&self.file)).collect()
    }

    /// Returns whether this is its id, or the id that its file gives it.
    pub(super) fn is_called(&self, id: &str) -> bool {
        self.rule.id == id || self.shared_id.as_deref() == Some(id)
    }
}

/// Returns the rule [`DEFAULT`].
pub fn default() -> Result<Rule, Error> {
    Ok(named(&all(&[])?, DEFAULT)?.rule.clone())
}

/// Returns the rule of `entries` with this id. If `entries` are from one named file, returns that file's rule.
pub fn named<'e>(entries: &'e [Entry], id: &str) -> Result<&'e Entry, Error> {
    if let [entry] = entries
        && entry.origin == Origin::NamedFile
    {
        return Ok(entry);
    }
    entries.iter().find(|entry| entry.is_called(id)).ok_or_else(|| unknown(entries, id))
}

/// The most known ids in the error about an unknown id.
const NAMED: usize = 10;

/// Returns whether a shipped rule has this id.
pub(super) fn is_shipped(id: &str) -> Result<bool, Error> {
    for (name, text) in SHIPPED {
        if panther::parse(name, text)?.rule.id == id {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the error that no rule has this id.
pub(super) fn unknown(entries: &[Entry], id: &str) -> Error {
    let ids = entries.iter().map(|entry| entry.rule.id.as_str());
    let contains = |known: &str| !id.is_empty() && known.to_lowercase().contains(&id.to_lowercase());
    let containing: Vec<String> =
        ids.clone().filter(|known| contains(known)).take(NAMED).map(|known| format!("`{known}`")).collect();
    let hint = match yaml::nearest(id, ids.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if !containing.is_empty() => format!("ids that contain it: {}", containing.join(", ")),
        None if entries.len() > NAMED => {
            "`tawny rules list` shows the ids of the shipped rules; `--rules FOLDER` reads rules of your own".to_owned()
        }
        None if entries.is_empty() => "no rule was read".to_owned(),
        None => format!("there are {}", ids.map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ")),
    };
    Error::Usage { message: format!("there is no rule `{id}`"), hint: Some(hint) }
}

/// Chooses rules. A rule that is named, as a file or by id, is chosen even if its file disables it. Of a folder and of the
/// shipped rules, enabled rules are chosen. A rule that an override disables is not.
pub fn choose(entries: Vec<Entry>, wanted: RuleChoice<'_>) -> Result<Choice, Error> {
    for id in wanted.ids {
        if !entries.iter().any(|entry| entry.is_called(id)) {
            return Err(unknown(&entries, id));
        }
    }
    let mut choice = Choice::default();
    let mut disabled = 0;
    for entry in entries {
        let by_id = wanted.ids.iter().any(|id| entry.is_called(id));
        let warnings = entry.warnings_of_findings();
        let Entry { rule, origin, is_switched_off, .. } = entry;
        if !wanted.ids.is_empty() && !by_id {
            continue;
        }
        if is_switched_off && !wanted.disabled {
            choice.notices.push(format!("the rule `{}` does not run: an override disables it", rule.id));
        } else if rule.enabled || wanted.disabled || by_id || origin == Origin::NamedFile {
            if !rule.enabled && !wanted.disabled {
                choice.notices.push(format!("the rule `{}` is disabled; it runs because it was named", rule.id));
            }
            choice.warnings.extend(warnings);
            choice.rules.push(rule);
        } else {
            disabled += 1;
        }
    }
    if disabled > 0 {
        let rules = number_of(disabled, "disabled rule");
        choice.details.push(format!(
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
///
/// # Errors
/// A rule cannot run.
pub fn all(paths: &[PathBuf]) -> Result<Vec<Entry>, Error> {
    let (placeholders, value_lists) = (&Placeholders::default(), &ValueLists::default());
    let sources = RuleSources { paths, with_shipped: false, needed_ids: &[], placeholders, value_lists };
    Ok(load(sources)?.checked(true)?.entries)
}

/// Reads the rules of `sources`.
///
/// # Errors
/// A file or folder cannot be read, or there are too many rules. A rule that cannot run is not an error.
pub fn load(sources: RuleSources<'_>) -> Result<LoadedRules, Error> {
    let RuleSources { paths, with_shipped, needed_ids, placeholders, value_lists } = sources;
    let mut loaded = LoadedRules::default();
    if paths.is_empty() {
        loaded.add_shipped(needed_ids)?;
        if needed_ids.iter().any(|id| !loaded.entries.iter().any(|entry| entry.is_called(id))) {
            // The error about an unknown id names others.
            loaded = LoadedRules::default();
            loaded.add_shipped(&[])?;
        }
        loaded.entries.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
        return Ok(loaded);
    }
    let origin = |file: &str| {
        let is_named = paths.iter().any(|path| path.display().to_string() == file);
        if is_named { Origin::NamedFile } else { Origin::Folder }
    };
    let is_named = |file: &str| origin(file) == Origin::NamedFile;
    let texts = texts(paths)?;
    let (mut of_sigma, mut refused) = (Vec::new(), Vec::new());
    let python = ModuleFiles::default();
    for (file, text) in &texts {
        let source = YamlSource { name: file, text };
        match FileKind::of(source) {
            FileKind::Sigma => of_sigma.push(source),
            FileKind::NoRule if !is_named(file) => loaded.others.no_rules += 1,
            kind => match read(kind, source, &python, value_lists) {
                Ok(Read { rule, warnings }) => loaded.add(source, rule, warnings, origin(file)),
                Err(Error::Rules(errors)) => refused.push((file.clone(), errors)),
                Err(other) => return Err(other),
            },
        }
    }
    let SigmaRules { rules, correlated, refused: of_sigma_rules } = sigma::load(&of_sigma, placeholders);
    loaded.others.correlated = correlated;
    for SigmaEntry { file, rule, warnings } in rules {
        loaded.add(of_sigma[file], rule, warnings, origin(of_sigma[file].name));
    }
    let of_sigma_rules = of_sigma_rules.into_iter().map(|errors| {
        let file = errors.first().map(|error| error.file.clone()).unwrap_or_default();
        (file, errors)
    });
    for (file, errors) in refused.into_iter().chain(of_sigma_rules) {
        let named = is_named(&file) || errors.iter().any(|error| is_named(&error.file));
        let skipped = SkippedRule { file, errors, named };
        if skipped.kind() == RuleErrorKind::OtherLogs && !named {
            loaded.others.for_other_logs += 1;
        } else {
            loaded.skipped.push(skipped);
        }
    }
    if with_shipped {
        loaded.add_shipped(&[])?;
    }
    if loaded.entries.len() > limits::RULES {
        return Err(too_many("rules"));
    }
    let order: HashMap<&str, usize> =
        texts.iter().enumerate().map(|(index, (file, _))| (file.as_str(), index)).collect();
    let place = |file: &str| order.get(file).copied();
    loaded.skipped.sort_by_cached_key(|skipped| {
        skipped.errors.first().map(|error| (place(&error.file), error.line, error.column))
    });
    loaded.entries.sort_by_cached_key(|entry| (entry.rule.id.clone(), place(&entry.file)));
    loaded.name_apart();
    Ok(loaded)
}

impl LoadedRules {
    fn add(&mut self, source: YamlSource<'_>, rule: Rule, warnings: Vec<Warning>, origin: Origin) {
        let (file, text) = (source.name.to_owned(), source.text.to_owned());
        self.entries.push(Entry { rule, file, text, warnings, origin, is_switched_off: false, shared_id: None });
    }

    /// Adds the shipped rules whose ids no rule has yet. If there are `needed_ids`, skips files that contain none of them.
    fn add_shipped(&mut self, needed_ids: &[String]) -> Result<(), Error> {
        let own: HashSet<String> = self.entries.iter().map(|entry| entry.rule.id.clone()).collect();
        let may_be_needed =
            |text: &str| needed_ids.is_empty() || needed_ids.iter().any(|id| text.contains(id.as_str()));
        for (name, text) in SHIPPED.iter().filter(|(_, text)| may_be_needed(text)) {
            let Read { rule, warnings } = panther::parse(name, text)?;
            if own.contains(&rule.id) {
                self.others.replaced += 1;
            } else {
                self.add(YamlSource { name, text }, rule, warnings, Origin::Shipped);
            }
        }
        Ok(())
    }

    /// Returns the rules.
    ///
    /// # Errors
    /// A rule of a file that the user named cannot run; with `strict`, any rule cannot.
    pub fn checked(self, strict: bool) -> Result<LoadedRules, Error> {
        let is_error = |skipped: &&SkippedRule| strict || skipped.named;
        let errors: Vec<RuleError> =
            self.skipped.iter().filter(is_error).flat_map(|skipped| skipped.errors.clone()).collect();
        if errors.is_empty() { Ok(self) } else { Err(Error::Rules(errors)) }
    }

    /// Keeps one of rules that are the same, and gives different rules with one id different ids.
    fn name_apart(&mut self) {
        let mut kept: Vec<Entry> = Vec::with_capacity(self.entries.len());
        let mut rest = std::mem::take(&mut self.entries).into_iter().peekable();
        while let Some(first) = rest.next() {
            let id = first.rule.id.clone();
            let mut same_id = vec![first];
            while let Some(other) = rest.next_if(|other| other.rule.id == id) {
                match same_id.iter_mut().find(|entry| entry.rule == other.rule) {
                    Some(entry) => {
                        entry.origin = entry.origin.max(other.origin);
                        self.others.copies += 1;
                    }
                    None => same_id.push(other),
                }
            }
            if same_id.len() > 1 {
                rename(&mut same_id);
            }
            kept.extend(same_id);
        }
        kept.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
        self.entries = kept;
    }
}

/// Appends the name of its file to the id of each rule, and a number where that is not enough.
fn rename(entries: &mut [Entry]) {
    let mut used = HashSet::new();
    let count = entries.len();
    for entry in entries {
        let id = entry.rule.id.clone();
        let stem = Path::new(&entry.file).file_stem().unwrap_or_default().to_string_lossy();
        let stem: String =
            stem.chars().map(|c| if check_id(c.encode_utf8(&mut [0; 4])).is_ok() { c } else { '_' }).collect();
        let mut name = format!("{id}#{stem}");
        let mut number = 2;
        while !used.insert(name.clone()) {
            name = format!("{id}#{stem}#{number}");
            number += 1;
        }
        let message = format!("{count} different rules have the id `{id}`; this one runs as `{name}`");
        entry.warnings.push(Warning { code: Code::SharedId, line: 1, column: 1, message });
        entry.rule.id = name;
        entry.shared_id = Some(id);
    }
}

/// Returns the names and texts of the rule files in `paths`.
fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Error> {
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

/// Reads the rule of a file.
fn read(kind: FileKind, source: YamlSource<'_>, python: &ModuleFiles, value_lists: &ValueLists) -> Result<Read, Error> {
    match kind {
        FileKind::Elastic => elastic::parse(source.name, source.text),
        FileKind::NoRule if kind::is_toml(source.name) => elastic::parse(source.name, source.text),
        FileKind::Panther | FileKind::Sigma | FileKind::NoRule => {
            panther::parse_with(source.name, source.text, python, value_lists)
        }
    }
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
    let is_rule_file = |path: &PathBuf| {
        let end = path.extension().unwrap_or_default();
        ["yml", "yaml", "toml"].iter().any(|known| end.eq_ignore_ascii_case(known))
    };
    Ok(found.objects.into_iter().map(|object| object.path).filter(is_rule_file).collect())
}
