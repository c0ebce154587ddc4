//! Reads the Python of a rule with `Filename` as what a `Detection` and its companions say.

use std::path::Path;
use std::sync::Arc;

use super::super::condition::{MappingMembers, Reader};
use super::super::lint::Code;
use super::super::python::event::Json;
use super::super::python::{
    EntryPoint, FunctionResult, MATCHED, ModuleFiles, PythonError, PythonFunction, PythonModule, translate,
};
use super::super::yaml::{YamlContent, YamlNode};
use super::super::{Counts, Field, Operand, Predicate, RuleTest, Severity, Test, TitlePart, Value};
use crate::error::{Error, RuleError, RuleErrorKind};
use crate::store;

/// The log type of CloudTrail.
const CLOUDTRAIL: &str = "AWS.CloudTrail";

/// The tag of rules that the user must change before they run.
const NEEDS_CONFIGURATION: &str = "Configuration Required";

/// The parts of a rule that its Python gives.
pub(super) struct PythonLogic {
    pub(super) counts: Counts,
    pub(super) detection: Predicate,
    pub(super) title: Option<Vec<TitlePart>>,
    pub(super) severities: Vec<(Severity, Predicate)>,
    pub(super) group_by: Vec<Field>,
    pub(super) context: Vec<(String, Field)>,
    pub(super) tests: Vec<RuleTest>,
    /// Whether the rule must be changed before it runs.
    pub(super) needs_configuration: bool,
}

impl Reader<'_> {
    /// Reads the Python file of a rule, and runs the rule's tests.
    ///
    /// # Errors
    /// The rule cannot run, or fails a test.
    pub(super) fn python(
        &mut self,
        members: &MappingMembers<'_>,
        filename: &YamlNode,
        id: &str,
        files: &ModuleFiles,
    ) -> Result<PythonLogic, Error> {
        if let Some(detection) = members.get("Detection") {
            return self.error(detection.mark, "a rule has either `Detection` or `Filename`");
        }
        let name = self.text(filename, "`Filename`")?;
        if !store::stays_within(&name) {
            return self.error(filename.mark, "`Filename` must name a file in the folder of the rule");
        }
        let path = Path::new(self.source.name).parent().unwrap_or(Path::new("")).join(&name);
        let file = path.display().to_string();
        let text = match store::read_named("Python file", &path, store::SETTINGS_BYTES) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("`Filename`: {error}");
                return Err(self.source.rule_error(RuleErrorKind::Python, filename.mark, &message).into());
            }
        };
        let refused = |error: PythonError| python_error(error, &file, &text);
        let module = PythonModule::read(&file, &text, files).map_err(refused)?;
        let rule = module.function(EntryPoint::Rule).map_err(refused)?;
        let mut notices = rule.notices();
        let tests = self.python_tests(members, filename, &rule)?;

        let translation = translate::predicate(&rule);
        let guard = translation.predicate.clone();
        let detection = if translation.is_exact {
            translation.predicate
        } else {
            let holds = equals(Field::Python(Arc::new(rule)), MATCHED);
            Predicate::All(vec![translation.predicate, holds])
        };
        let mut read = |entry: EntryPoint, default: Option<String>| -> Option<Result<Field, PythonError>> {
            module.has(entry).then(|| {
                let function = module.function(entry)?;
                notices.extend(function.notices());
                Ok(Field::Python(Arc::new(function.with_default(default).with_guard(guard.clone()))))
            })
        };
        let title = read(EntryPoint::Title, Some(id.to_owned()));
        let default_group = format!("defaultDedupString:{id}");
        let dedup = read(EntryPoint::Dedup, Some(default_group));
        let group_by = match (dedup, &title) {
            (Some(dedup), _) => group(&dedup.map_err(refused)?),
            (None, Some(Ok(title))) => group(title),
            (None, Some(Err(error))) => return Err(refused(error.clone())),
            (None, None) => Vec::new(),
        };
        let mut left_out = Vec::new();
        let mut kept = |entry: EntryPoint, field: Option<Result<Field, PythonError>>| match field? {
            Ok(field) => Some(field),
            Err(error) => {
                left_out.push((entry, error));
                None
            }
        };
        let title = kept(EntryPoint::Title, title).map(|field| vec![TitlePart::Field(field)]);
        let severities = match kept(EntryPoint::Severity, read(EntryPoint::Severity, None)) {
            Some(field) => severities(&field),
            None => Vec::new(),
        };
        let context =
            [EntryPoint::Context, EntryPoint::Description, EntryPoint::Runbook, EntryPoint::Reference].into_iter();
        let context = context.filter_map(|entry| Some((entry.function().to_owned(), kept(entry, read(entry, None))?)));
        let context = context.collect();
        let counts = match read(EntryPoint::Unique, None) {
            Some(unique) => Counts::Distinct(unique.map_err(refused)?),
            None => Counts::Matches,
        };
        for (entry, error) in left_out {
            let PythonError { file, line, column, message } = error;
            let function = entry.function();
            let message = format!("`{function}` is left out: {file}:{line}:{column}: {message}");
            self.warn(filename.mark, Code::NoEffect, message);
        }
        notices.sort_unstable();
        notices.dedup();
        for notice in notices {
            self.warn(filename.mark, Code::NoEffect, notice.to_owned());
        }
        let tags = members.get("Tags").and_then(|tags| match &tags.content {
            YamlContent::List(tags) => Some(tags.iter().any(|tag| tag.as_text() == Some(NEEDS_CONFIGURATION))),
            _ => None,
        });
        Ok(PythonLogic {
            counts,
            detection,
            title,
            severities,
            group_by,
            context,
            tests,
            needs_configuration: tags.unwrap_or(false),
        })
    }

    /// Runs the tests of a rule. Returns the tests without mocks, which can also run as a hunt.
    fn python_tests(
        &mut self,
        members: &MappingMembers<'_>,
        filename: &YamlNode,
        rule: &PythonFunction,
    ) -> Result<Vec<RuleTest>, Error> {
        let mut plain = Vec::new();
        let mut failed: Vec<String> = Vec::new();
        let mut other_logs = 0;
        for (node, test, mocks) in self.tests_with_mocks(members)? {
            let Some(log) = Json::parse(&test.log) else { continue };
            if is_of_other_log(&log) {
                other_logs += 1;
                continue;
            }
            if has_enrichment(&log) {
                let message = format!("the test `{}` is left out: it has data that other services add", test.name);
                self.warn(node, Code::UnrunTest, message);
                continue;
            }
            let evaluator = match rule.evaluator(&mocks) {
                Ok(evaluator) => evaluator,
                Err(message) => {
                    failed.push(format!("`{}`: {message}", test.name));
                    continue;
                }
            };
            let outcome = evaluator.evaluate(&log);
            let matches = outcome == FunctionResult::Text(MATCHED.to_owned());
            let why = match outcome {
                FunctionResult::Raised(reason) | FunctionResult::Stopped(reason) => format!(" ({reason})"),
                _ => String::new(),
            };
            if matches != test.expected {
                failed.push(format!("`{}`{why}", test.name));
            } else if mocks.is_empty() {
                plain.push(test);
            }
        }
        if other_logs > 0 {
            let message = format!("{other_logs} tests of other logs are left out");
            self.warn(filename.mark, Code::UnrunTest, message);
        }
        if failed.is_empty() {
            return Ok(plain);
        }
        let message = format!("the rule fails its own tests: {}", failed.join(", "));
        Err(self.source.rule_error(RuleErrorKind::FailedTests, filename.mark, &message).into())
    }
}

fn is_of_other_log(log: &Json) -> bool {
    let Json::Object(log) = log else { return false };
    matches!(log.get("p_log_type"), Some(Json::Text(kind)) if **kind != *CLOUDTRAIL)
}

fn has_enrichment(log: &Json) -> bool {
    let Json::Object(log) = log else { return false };
    matches!(log.get("p_enrichment"), Some(Json::Object(data)) if !data.members.is_empty())
}

fn equals(field: Field, text: &str) -> Predicate {
    let value = Value { text: text.to_owned(), shortest: None };
    Predicate::Test { field, test: Test::Equals(Operand::Value(value)), negated: false }
}

/// The group of a text: the fields that it is made from, if it is always made of the same, else the text itself.
fn group(text: &Field) -> Vec<Field> {
    let fields = match text {
        Field::Python(function) => translate::fields(function),
        _ => None,
    };
    fields.unwrap_or_else(|| vec![text.clone()])
}

/// The severities that a function gives, each with the condition that it does.
fn severities(field: &Field) -> Vec<(Severity, Predicate)> {
    let given = |severity: Severity| (severity, equals(field.clone(), &severity.to_string()));
    Severity::ALL.map(given).into()
}

fn python_error(error: PythonError, file: &str, text: &str) -> Error {
    let PythonError { file: named, line, column, message } = error;
    let is_rule = named.is_empty() || named == file;
    let line_text = if is_rule { text.lines().nth(line.saturating_sub(1)) } else { None };
    RuleError {
        kind: RuleErrorKind::Python,
        file: if named.is_empty() { file.to_owned() } else { named },
        line: line.max(1),
        column: column.max(1),
        text: line_text.filter(|_| line > 0).map(str::to_owned),
        message,
    }
    .into()
}
