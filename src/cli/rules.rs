use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Context;
use crate::error::{Error, Status};
use crate::report;
use crate::report::markdown;
use crate::rule::attack::{self, Covered};
use crate::rule::catalog::{self, Entry};
use crate::rule::lint::Warning;
use crate::rule::{Counts, panther, sigma};
use crate::statistics::number_of;
use crate::text::{self, printable};

/// List, show and check rules
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny rules list\n  tawny rules show AWS.Unsuccessful.MFA.attempt\n  tawny rules lint my-rules/ --format json\n  tawny rules coverage --navigator layer.json"
)]
pub(super) struct Rules {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List rules with what they are set to
    #[command(after_help = "Examples:\n  tawny rules list\n  tawny rules list my-rules/ --format json")]
    List {
        /// Rule files or folders [default: the rules that come with tawny]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// How the list is written
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
    },
    /// Tell which techniques of ATT&CK the enabled rules look for
    #[command(
        after_help = "Examples:\n  tawny rules coverage\n  tawny rules coverage my-rules/ --navigator layer.json"
    )]
    Coverage {
        /// Rule files or folders [default: the rules that come with tawny]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Write a layer for the ATT&CK Navigator to this file, or `s3://BUCKET/KEY`
        #[arg(long, value_name = "FILE")]
        navigator: Option<String>,
    },
    /// Show one rule
    #[command(
        after_help = "Examples:\n  tawny rules show AWS.Unsuccessful.MFA.attempt\n  tawny rules show my_rule.yml --format json"
    )]
    Show {
        /// The id of a rule, or a rule file
        rule: String,
        /// Where to look for the id: rule files or folders [default: the rules that come with tawny]
        #[arg(long, value_name = "PATH", num_args = 1..)]
        rules: Vec<PathBuf>,
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Check rules for what is wrong, and for what is probably not meant
    #[command(
        after_help = "Examples:\n  tawny rules lint my-rules/\n  tawny rules lint my-rules/ --strict --format json"
    )]
    Lint {
        /// Rule files or folders
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// How remarks are written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// End with exit code 1 where there are warnings
        #[arg(long)]
        strict: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
}

/// How a list of rules is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ListFormat {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
    /// Tables in Markdown, one for each folder
    Markdown,
}

impl Rules {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        match &self.action {
            Action::List { paths, format } => list(context, paths, *format),
            Action::Coverage { paths, format, navigator } => {
                coverage(context, paths, *format, navigator.as_deref()).await
            }
            Action::Show { rule, rules, format } => show(context, rule, rules, *format),
            Action::Lint { paths, format, strict } => lint(context, paths, *format, *strict),
        }
    }
}

fn list(context: &Context, paths: &[PathBuf], format: ListFormat) -> Result<Status, Error> {
    let entries = catalog::all(paths)?;
    let text = match format {
        ListFormat::Json => json_text(&entries.iter().map(summary).collect()),
        ListFormat::Markdown => markdown::list(&entries),
        ListFormat::Table => {
            let header = ["rule", "severity", "ATT&CK", "threshold", "period", "window", "enabled", "tests", "title"];
            report::rows(
                &header,
                entries.iter().map(|Entry { rule, .. }| {
                    let counted = rule.counts.distinct().map_or_else(String::new, |field| format!(" {field}"));
                    vec![
                        rule.id.clone(),
                        rule.severity.to_string() + if rule.alert { "" } else { " (signal)" },
                        rule.mitre().join(" "),
                        format!("{}{counted}", rule.window.threshold),
                        rule.window.period.to_string(),
                        rule.window.kind.to_string(),
                        if rule.enabled { "yes" } else { "no" }.to_owned(),
                        rule.tests.len().to_string(),
                        rule.display_name.clone(),
                    ]
                }),
            )
        }
    };
    context.output.result(&text, None)?;
    Ok(Status::Done)
}

async fn coverage(
    context: &Context,
    paths: &[PathBuf],
    format: Format,
    navigator: Option<&str>,
) -> Result<Status, Error> {
    let entries = catalog::all(paths)?;
    let rules = || entries.iter().map(|entry| &entry.rule).filter(|rule| rule.enabled);
    let (covered, silent) = attack::coverage(rules());
    if let Some(file) = navigator {
        context.write(json_text(&attack::layer(&covered)).into_bytes(), Some(file)).await?;
    }
    let text = match format {
        Format::Json => {
            let one = |covered: &Covered| json!({ "tactic": covered.tactic, "technique": covered.technique, "rules": covered.rules });
            json_text(&json!({ "techniques": covered.iter().map(one).collect::<Vec<_>>(), "without": silent }))
        }
        Format::Table => report::rows(
            &["tactic", "technique", "rules", ""],
            covered.iter().map(|covered| {
                let count = covered.rules.len().to_string();
                vec![covered.tactic.to_owned(), covered.technique.to_owned(), count, covered.rules.join(", ")]
            }),
        ),
    };
    context.output.result(&text, None)?;
    if !silent.is_empty() {
        context.output.talk(&format!("without a technique: {}", silent.join(", ")));
    }
    let distinct = |of: fn(&Covered<'_>) -> String| covered.iter().map(of).collect::<BTreeSet<_>>().len();
    let [rules, techniques, tactics] = [
        (rules().count(), "rule"),
        (distinct(|covered| covered.technique.to_owned()), "technique"),
        (distinct(|covered| covered.tactic.to_owned()), "tactic"),
    ]
    .map(|(count, what)| number_of(count, what));
    context.output.talk(&format!("{rules}, {techniques} of {tactics}"));
    Ok(Status::Done)
}

fn show(context: &Context, named: &str, paths: &[PathBuf], format: Format) -> Result<Status, Error> {
    let file = PathBuf::from(named);
    let entries = if file.is_file() { catalog::all(&[file])? } else { catalog::all(paths)? };
    let entry = catalog::named(&entries, named)?;
    let text = match format {
        Format::Json => {
            let mut shown = summary(entry);
            shown["text"] = Value::from(entry.text.as_str());
            json_text(&shown)
        }
        Format::Table => {
            let Entry { rule, file, text, .. } = entry;
            let mut facts =
                vec![("rule", rule.id.clone()), ("title", rule.display_name.clone()), ("file", file.clone())];
            facts.push(("severity", rule.severity.to_string()));
            facts.push(("ATT&CK", rule.mitre().join(" ")));
            let what =
                rule.counts.distinct().map_or_else(|| "matches".to_owned(), |field| format!("distinct `{field}`"));
            let window = rule.window;
            let then = if matches!(rule.counts, Counts::Followed { .. }) { ", then what follows" } else { "" };
            let finds = format!("{} {what} within {} ({}){then}", window.threshold, window.period, window.kind);
            facts.push(("finds", finds));
            facts.push(("for each", rule.group_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
            facts.push(("enabled", if rule.enabled { "yes" } else { "no" }.to_owned()));
            let notes = [("description", &rule.notes.description), ("runbook", &rule.notes.runbook)];
            facts.extend(notes.into_iter().filter_map(|(name, note)| Some((name, note.clone()?))));
            let facts = facts.iter().map(|(name, fact)| format!("{name:<13}{}", printable(fact)));
            let lines: Vec<String> = facts.chain([String::new()]).chain(text.lines().map(printable)).collect();
            lines.join("\n") + "\n"
        }
    };
    context.output.result(&text, None)?;
    Ok(Status::Done)
}

/// Every file is looked at, also where one before it is no rule.
fn lint(context: &Context, paths: &[PathBuf], format: Format, strict: bool) -> Result<Status, Error> {
    let texts = catalog::texts(paths)?;
    let (mut errors, mut remarks) = (Vec::new(), Vec::new());
    let (of_sigma, of_panther): (Vec<_>, Vec<_>) = texts.iter().partition(|(_, text)| sigma::is_sigma(text));
    let files: Vec<(&str, &str)> = of_sigma.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    if let Err(error) = sigma::read(&files) {
        context.output.error(&error);
        errors.push((Some(&of_sigma[0].0), error.to_string()));
    }
    for (file, text) in of_panther {
        match panther::parse(file, text) {
            Ok(read) => remarks.extend(read.warnings.into_iter().map(|warning| (file, read.rule.id.clone(), warning))),
            Err(error) => {
                context.output.error(&error);
                errors.push((Some(file), error.to_string()));
            }
        }
    }
    let together = if errors.is_empty() { catalog::all(paths).err() } else { None };
    if let Some(error) = together {
        context.output.error(&error);
        errors.push((None, error.to_string()));
    }
    let text = match format {
        Format::Json => {
            let errors =
                errors.iter().map(|(file, message)| json!({"file": file, "code": "error", "message": message}));
            let remarks = remarks.iter().map(|(file, id, warning)| {
                json!({
                    "file": file,
                    "rule_id": id,
                    "line": warning.line,
                    "column": warning.column,
                    "code": warning.code,
                    "message": warning.message,
                })
            });
            json_text(&errors.chain(remarks).collect())
        }
        Format::Table => {
            let line = |(file, _, warning): &(&String, String, Warning)| {
                let Warning { code, line, column, message } = warning;
                printable(&format!("{file}:{line}:{column}: {message} [{code}]")) + "\n"
            };
            remarks.iter().map(line).collect()
        }
    };
    context.output.result(&text, None)?;
    context.output.talk(&format!("{} rules, {} errors, {} warnings", texts.len(), errors.len(), remarks.len()));
    Ok(match (errors.len(), remarks.len()) {
        (0, 0) => Status::Done,
        (0, _) if strict => Status::Findings,
        (0, _) => Status::Done,
        _ => Status::Usage,
    })
}

fn summary(Entry { rule, file, warnings, .. }: &Entry) -> Value {
    let fields = |fields: &[crate::rule::Field]| fields.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "rule_id": rule.id,
        "display_name": rule.display_name,
        "file": file,
        "severity": rule.severity,
        "mitre": rule.mitre(),
        "threshold": rule.window.threshold,
        "period_minutes": rule.window.period.minutes(),
        "window": rule.window.kind.to_string(),
        "followed_by": matches!(rule.counts, Counts::Followed { .. }),
        "unique": rule.counts.distinct().map(ToString::to_string),
        "group_by": fields(&rule.group_by),
        "enabled": rule.enabled,
        "alert": rule.alert,
        "tests": rule.tests.len(),
        "notes": rule.notes,
        "warnings": warnings,
    })
}

fn json_text(value: &Value) -> String {
    text::json::escaped(&format!("{value:#}\n")).into_owned()
}
