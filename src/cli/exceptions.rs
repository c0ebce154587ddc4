use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::loading::{self, RuleFiles};
use super::{Context, TableOrJson};
use crate::error::{Error, Status};
use crate::report;
use crate::rule::exceptions::{Exception, ExceptionFiles};
use crate::statistics::number_of;
use crate::time::Instant;

/// List and check the exceptions of rules
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny exceptions list exceptions.yml\n  tawny exceptions check exceptions.yml --rules my-rules/ --with-shipped\n  tawny exceptions expired exceptions.yml --at 2027-01-01"
)]
pub(super) struct ExceptionsCommand {
    #[command(subcommand)]
    action: ExceptionsAction,
}

#[derive(Debug, Subcommand)]
enum ExceptionsAction {
    /// List exceptions and value lists
    #[command(
        after_help = "Examples:\n  tawny exceptions list exceptions.yml\n  tawny exceptions list exceptions.yml --format json"
    )]
    List {
        /// YAML files with exceptions and value lists
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: TableOrJson,
    },
    /// Check that exceptions are valid and that the rules that they name exist
    #[command(
        after_help = "Examples:\n  tawny exceptions check exceptions.yml\n  tawny exceptions check exceptions.yml --rules my-rules/"
    )]
    Check {
        /// YAML files with exceptions and value lists
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Rule files, or folders of rules [default: the shipped rules]
        #[arg(long, value_name = "PATH", num_args = 1..)]
        rules: Vec<PathBuf>,
        /// Also read the shipped rules; a rule of `--rules` replaces the shipped one with its id
        #[arg(long, requires = "rules")]
        with_shipped: bool,
        /// YAML file with values for the placeholders of Sigma rules, by name
        #[arg(long, value_name = "FILE")]
        placeholders: Option<PathBuf>,
    },
    /// List the exceptions that have expired, and exit with code 1 if there are any
    #[command(
        after_help = "Examples:\n  tawny exceptions expired exceptions.yml\n  tawny exceptions expired exceptions.yml --at 2027-01-01"
    )]
    Expired {
        /// YAML files with exceptions and value lists
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Time to use instead of the clock: a date or an RFC 3339 time
        #[arg(long, value_name = "TIME")]
        at: Option<Instant>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: TableOrJson,
    },
}

impl ExceptionsCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        match &self.action {
            ExceptionsAction::List { files, format } => list(context, files, *format),
            ExceptionsAction::Check { files, rules, with_shipped, placeholders } => {
                let files = RuleFiles {
                    paths: rules,
                    with_shipped: *with_shipped,
                    exceptions: files,
                    placeholders: placeholders.as_deref(),
                    ..RuleFiles::default()
                };
                let loaded = loading::load(context.output, files)?;
                let counts = [(loaded.exceptions.exceptions.len(), "exception"), (loaded.entries.len(), "rule")];
                let [exceptions, rules] = counts.map(|(count, what)| number_of(count, what));
                context.output.talk(&format!("{exceptions} of {rules}: no errors"));
                Ok(if loaded.skipped.is_empty() { Status::Done } else { Status::Usage })
            }
            ExceptionsAction::Expired { files, at, format } => {
                let at = at.unwrap_or_else(super::now);
                let read = ExceptionFiles::read(files)?.exceptions()?.exceptions;
                let expired: Vec<&Exception> =
                    read.iter().map(AsRef::as_ref).filter(|exception| exception.until <= at).collect();
                let text = match format {
                    TableOrJson::Table if expired.is_empty() => String::new(),
                    TableOrJson::Table => table(&expired),
                    TableOrJson::Json => json_text(&expired.iter().map(|exception| as_json(exception)).collect()),
                };
                context.output.result(&text, None)?;
                let all = number_of(read.len(), "exception");
                context.output.talk(&format!("{} of {all} expired by {at}", expired.len()));
                Ok(if expired.is_empty() { Status::Done } else { Status::Findings })
            }
        }
    }
}

fn list(context: &Context, files: &[PathBuf], format: TableOrJson) -> Result<Status, Error> {
    let files = ExceptionFiles::read(files)?;
    let read = files.exceptions()?;
    read.warnings.iter().for_each(|warning| context.output.warn(&format!("warning: {warning}")));
    let exceptions: Vec<&Exception> = read.exceptions.iter().map(AsRef::as_ref).collect();
    let lists: Vec<_> = files.value_lists.iter().collect();
    let text = match format {
        TableOrJson::Json => json_text(&json!({
            "exceptions": exceptions.iter().map(|exception| as_json(exception)).collect::<Vec<_>>(),
            "lists": lists.iter().map(|(name, file, values)| {
                json!({ "name": name, "file": file.display().to_string(), "values": values })
            }).collect::<Vec<_>>(),
        })),
        TableOrJson::Table => {
            let mut text = if exceptions.is_empty() { String::new() } else { table(&exceptions) };
            if !lists.is_empty() {
                let row = |(name, file, values): &(&str, &std::path::Path, usize)| {
                    vec![(*name).to_owned(), file.display().to_string(), values.to_string()]
                };
                text += &report::rows(&["list", "file", "values"], lists.iter().map(row));
            }
            text
        }
    };
    context.output.result(&text, None)?;
    Ok(Status::Done)
}

fn table(exceptions: &[&Exception]) -> String {
    let row = |exception: &&Exception| {
        vec![
            exception.id.clone(),
            exception.rule_ids().join(", "),
            exception.from.map_or_else(String::new, String::from),
            exception.until.to_string(),
            exception.owner.clone(),
            exception.reason.clone(),
        ]
    };
    report::rows(&["exception", "rules", "from", "until", "owner", "reason"], exceptions.iter().map(row))
}

fn as_json(exception: &Exception) -> Value {
    json!({
        "id": exception.id,
        "rules": exception.rule_ids(),
        "reason": exception.reason,
        "owner": exception.owner,
        "from": exception.from,
        "until": exception.until,
        "file": exception.file,
        "line": exception.line,
    })
}

/// Returns JSON with hidden characters escaped.
fn json_text(value: &Value) -> String {
    crate::text::json::escaped(&format!("{value:#}")).into_owned() + "\n"
}
