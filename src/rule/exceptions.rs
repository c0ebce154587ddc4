//! Exceptions: events that some rules ignore, with a reason and an end date.
//!
//! An exception compares its dates with the time of an event, never with the clock, so every run gives the same answer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::{self, Entry};
use super::condition::{MappingMembers, Reader, RuleErrors, Scope};
use super::value_lists::ValueLists;
use super::yaml::{Mark, YamlContent, YamlNode, YamlSource};
use super::{Predicate, check_id, limits, yaml};
use crate::error::{Error, RuleError, RuleErrorKind};
use crate::store;
use crate::text;
use crate::time::{Instant, Range};

/// The id that means all rules.
const ALL_RULES: &str = "*";

/// Events that some rules ignore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Its id, unique among the exceptions of a run.
    pub id: String,
    /// The rules.
    pub rules: ExceptedRules,
    /// The condition of the events.
    pub when: Predicate,
    /// Why the events are expected.
    pub reason: String,
    /// Who answers for the exception.
    pub owner: String,
    /// The time of the first event that it may apply to.
    pub from: Option<Instant>,
    /// The time from which on it applies to no event.
    pub until: Instant,
    /// Its file, as the user named it.
    pub file: String,
    /// The line of its start in the file, from 1.
    pub line: usize,
}

/// The rules of an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExceptedRules {
    /// All rules.
    All,
    /// The rules with these ids.
    Ids(Vec<ExceptedRule>),
}

/// The id of a rule in an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptedRule {
    /// The id.
    pub id: String,
    /// Its place in the file.
    mark: Mark,
}

impl Exception {
    /// Returns the times of the events that it may apply to.
    pub fn times(&self) -> Range {
        Range { from: self.from, to: Some(self.until) }
    }

    /// Returns the predicate of the events that it applies to.
    pub fn condition(&self) -> Predicate {
        Predicate::All(vec![Predicate::During(self.times()), self.when.clone()])
    }

    /// Returns whether it is for the rule of `entry`.
    fn is_for(&self, entry: &Entry) -> bool {
        match &self.rules {
            ExceptedRules::All => true,
            ExceptedRules::Ids(ids) => ids.iter().any(|rule| entry.is_called(&rule.id)),
        }
    }

    /// Returns the ids of its rules, as the file has them.
    pub fn rule_ids(&self) -> Vec<&str> {
        match &self.rules {
            ExceptedRules::All => vec![ALL_RULES],
            ExceptedRules::Ids(ids) => ids.iter().map(|rule| rule.id.as_str()).collect(),
        }
    }
}

/// The exceptions and value lists of some files.
#[derive(Default)]
pub struct ExceptionFiles {
    files: Vec<ExceptionFile>,
    /// The value lists that conditions may name.
    pub value_lists: ValueLists,
}

/// A file and its text.
struct ExceptionFile {
    name: String,
    text: String,
    document: YamlNode,
}

/// The exceptions of some files, and warnings about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exceptions {
    /// The exceptions, in the order of the files.
    pub exceptions: Vec<Arc<Exception>>,
    /// Warnings, each on one line with its place.
    pub warnings: Vec<String>,
}

impl ExceptionFiles {
    /// Reads files and their value lists. Conditions are read by [`ExceptionFiles::exceptions`].
    ///
    /// # Errors
    /// A file cannot be read or is invalid, or two lists have one name.
    pub fn read(paths: &[PathBuf]) -> Result<ExceptionFiles, Error> {
        let mut files = ExceptionFiles::default();
        for path in paths {
            files.add(path, store::read_named("exceptions file", path, store::SETTINGS_BYTES)?)?;
        }
        Ok(files)
    }

    /// Reads the text of one file, which need not exist at `path`.
    ///
    /// # Errors
    /// As for [`ExceptionFiles::read`].
    pub fn of_text(path: &Path, text: String) -> Result<ExceptionFiles, Error> {
        let mut files = ExceptionFiles::default();
        files.add(path, text)?;
        Ok(files)
    }

    fn add(&mut self, path: &Path, text: String) -> Result<(), Error> {
        let name = path.display().to_string();
        let document = YamlSource { name: &name, text: &text }.read()?;
        let file = ExceptionFile { name, text, document };
        self.value_lists = file.read_lists(path, std::mem::take(&mut self.value_lists))?;
        self.files.push(file);
        Ok(())
    }

    /// Reads the exceptions.
    ///
    /// # Errors
    /// An exception is invalid, or two have one id.
    pub fn exceptions(&self) -> Result<Exceptions, Error> {
        let (mut read, mut errors) = (Exceptions::default(), RuleErrors::default());
        let mut ids = BTreeSet::new();
        for file in &self.files {
            let mut reader = Reader::new(file.source(), &self.value_lists);
            let members = file.members(&reader)?;
            for node in reader.optional_list(&members, "Exceptions")? {
                reader.conditions = limits::ConditionCount::default();
                let Some(exception) = errors.keep(reader.exception(node))? else { continue };
                if ids.insert(exception.id.clone()) {
                    read.exceptions.push(Arc::new(exception));
                } else {
                    let message = format!("another exception has the ID `{}`", exception.id);
                    errors.keep(reader.error::<()>(node.mark, &message))?;
                }
            }
            let mut warnings = reader.warnings;
            warnings.sort_by_key(|warning| (warning.line, warning.column));
            read.warnings.extend(warnings.iter().map(|warning| warning.in_file(&file.name)));
        }
        errors.none()?;
        Ok(read)
    }
}

impl ExceptionFile {
    fn source(&self) -> YamlSource<'_> {
        YamlSource { name: &self.name, text: &self.text }
    }

    fn members(&self, reader: &Reader<'_>) -> Result<MappingMembers<'_>, Error> {
        let members = reader.members(&self.document, "an exceptions file", &["Exceptions", "Lists"])?;
        if members.given("Exceptions").is_none() && members.given("Lists").is_none() {
            return reader.error(self.document.mark, "an exceptions file has `Exceptions`, `Lists` or both");
        }
        Ok(members)
    }

    /// Returns `lists` and the lists of this file, whose path is `path`.
    fn read_lists(&self, path: &Path, mut lists: ValueLists) -> Result<ValueLists, Error> {
        let no_lists = ValueLists::default();
        let reader = Reader::new(self.source(), &no_lists);
        let Some(node) = self.members(&reader)?.get("Lists") else { return Ok(lists) };
        let YamlContent::Map(members) = &node.content else {
            return reader.error(node.mark, "`Lists` must be a mapping of names to files");
        };
        for (key, list) in members {
            let name = reader.text(key, "the name of a list")?;
            if text::has_hidden(&name) {
                return reader.error(key.mark, "the name of a list must have no control or invisible characters");
            }
            let of_list = reader.members(list, "a list", &["File", "Column"])?;
            let file = reader.text(reader.required(&of_list, "File")?, "`File`")?;
            let column = of_list.get("Column").map(|column| reader.text(column, "`Column`")).transpose()?;
            if lists.has(&name) {
                return reader.error(key.mark, &format!("another list has the name `{name}`"));
            }
            let folder = path.parent().unwrap_or(Path::new(""));
            lists.read(&name, &folder.join(file), column.as_deref())?;
        }
        Ok(lists)
    }
}

const EXCEPTION: &[&str] = &["ID", "Rules", "When", "Reason", "Owner", "From", "Until"];

impl Reader<'_> {
    fn exception(&mut self, node: &YamlNode) -> Result<Exception, Error> {
        let members = self.members(node, "an exception", EXCEPTION)?;
        let mut errors = RuleErrors::default();
        let id = errors.keep(self.exception_id(&members))?;
        let rules = errors.keep(self.excepted_rules(&members))?;
        let when = errors.keep(self.exception_condition(&members))?;
        let reason = errors.keep(self.required_text(&members, "Reason"))?;
        let owner = errors.keep(self.required_text(&members, "Owner"))?;
        let from = errors.keep(members.get("From").map(|from| self.date(from, "`From`")).transpose())?;
        let until = errors.keep(self.required(&members, "Until").and_then(|until| self.date(until, "`Until`")))?;
        if let (Some(Some(from)), Some(until), Some(node)) = (from, until, members.get("Until"))
            && until <= from
        {
            errors.keep(self.error::<()>(node.mark, "`Until` must be later than `From`"))?;
        }
        errors.none()?;
        let (file, line) = (self.source.name.to_owned(), node.mark.line);
        let exception = || {
            let (id, rules, when, reason, owner) = (id?, rules?, when?, reason?, owner?);
            Some(Exception { id, rules, when, reason, owner, from: from?, until: until?, file, line })
        };
        exception().ok_or_else(|| Error::Internal("a part of an exception is missing without an error".to_owned()))
    }

    fn exception_id(&self, members: &MappingMembers<'_>) -> Result<String, Error> {
        let node = self.required(members, "ID")?;
        let id = self.text(node, "`ID`")?;
        match check_id(&id) {
            Ok(()) => Ok(id),
            Err(reason) => self.error(node.mark, &format!("`ID` {reason}")),
        }
    }

    fn excepted_rules(&self, members: &MappingMembers<'_>) -> Result<ExceptedRules, Error> {
        let node = self.required(members, "Rules")?;
        let nodes = match &node.content {
            YamlContent::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let rule = |node: &YamlNode| Ok(ExceptedRule { id: self.text(node, "an id in `Rules`")?, mark: node.mark });
        let rules = nodes.iter().map(rule).collect::<Result<Vec<_>, Error>>()?;
        match rules.as_slice() {
            [] => self.error(node.mark, "`Rules` must name at least one rule, or be \"*\" for all rules"),
            [only] if only.id == ALL_RULES => Ok(ExceptedRules::All),
            several => match several.iter().find(|rule| rule.id == ALL_RULES) {
                Some(all) => self.error(all.mark, "\"*\" means all rules, so it is the only one in `Rules`"),
                None => Ok(ExceptedRules::Ids(rules)),
            },
        }
    }

    fn exception_condition(&mut self, members: &MappingMembers<'_>) -> Result<Predicate, Error> {
        let node = self.required(members, "When")?;
        if matches!(&node.content, YamlContent::List(expressions) if expressions.is_empty()) {
            return self.error(node.mark, "`When` must hold at least one expression");
        }
        self.conjunction(node, "`When`", Scope::Record)
    }

    fn required_text(&self, members: &MappingMembers<'_>, key: &str) -> Result<String, Error> {
        let node = self.required(members, key)?;
        let given = self.text(node, &format!("`{key}`"))?;
        if given.trim().is_empty() {
            return self.error(node.mark, &format!("`{key}` must not be empty"));
        }
        Ok(given)
    }

    fn date(&self, node: &YamlNode, what: &str) -> Result<Instant, Error> {
        match self.text(node, what)?.parse() {
            Ok(instant) => Ok(instant),
            Err(_) => {
                self.error(node.mark, &format!("{what} must be a date, such as 2027-01-01 (its midnight in UTC)"))
            }
        }
    }
}

/// Applies exceptions to the rules that they name. Returns warnings about rules that are not among `entries`, each on one
/// line. `is_part` says that `entries` may be a part of the rules that the exceptions are for.
///
/// # Errors
/// An exception names a rule that does not exist, or rules and exceptions have too many conditions.
pub fn apply(exceptions: &[Arc<Exception>], entries: &mut [Entry], is_part: bool) -> Result<Vec<String>, Error> {
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for exception in exceptions {
        let ExceptedRules::Ids(ids) = &exception.rules else { continue };
        for ExceptedRule { id, mark } in ids {
            if entries.iter().any(|entry| entry.is_called(id)) {
                continue;
            }
            let (file, Mark { line, column }) = (exception.file.clone(), *mark);
            let kind = RuleErrorKind::Invalid;
            let mut error = RuleError { kind, file, line, column, message: String::new(), text: None };
            if is_part || catalog::is_shipped(id)? {
                error.message =
                    format!("the exception `{}` does not apply to `{id}`, which is not loaded", exception.id);
                warnings.push(error.one_line());
            } else {
                let near = yaml::nearest(id, entries.iter().map(|entry| entry.rule.id.as_str()));
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                error.message = format!("there is no rule `{id}`{near}");
                errors.push(error);
            }
        }
    }
    if !errors.is_empty() {
        return Err(Error::Rules(errors));
    }
    for entry in entries {
        let of_rule: Vec<Arc<Exception>> =
            exceptions.iter().filter(|exception| exception.is_for(entry)).map(Arc::clone).collect();
        if !of_rule.is_empty() {
            let matches = Box::new(entry.rule.detection.clone());
            entry.rule.detection = Predicate::Except { matches, exceptions: of_rule };
            limits::check(&entry.rule.detection).map_err(|reason| {
                Error::usage(format!("the rule `{}` with its exceptions: {reason}", entry.rule.id))
            })?;
        }
    }
    Ok(warnings)
}
