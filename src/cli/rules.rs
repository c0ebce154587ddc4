use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::lint::LintCommand;
use super::{Context, RuleFiles, TableOrJson, loading};
use crate::error::{Error, Status};
use crate::output::Output;
use crate::report;
use crate::report::markdown;
use crate::rule::attack::{self, Covered};
use crate::rule::catalog::Entry;
use crate::rule::{AbsenceSide, Counts, FirstSeen, Rule};
use crate::rule::{panther, simple_detection};
use crate::statistics::number_of;
use crate::store;
use crate::text::{self, printable};

/// List, show and check rules
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny rules list\n  tawny rules show AWS.Unsuccessful.MFA.attempt\n  tawny rules lint my-rules/ --format json\n  tawny rules coverage --navigator layer.json"
)]
pub(super) struct RulesCommand {
    #[command(subcommand)]
    action: RulesAction,
}

#[derive(Debug, Subcommand)]
enum RulesAction {
    /// List rules and their settings, and mark disabled ones
    #[command(after_help = "Examples:\n  tawny rules list\n  tawny rules list my-rules/ --format json")]
    List {
        /// Rule files or folders [default: the shipped rules]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// YAML file with values for the placeholders of Sigma rules, by name
        #[arg(long, value_name = "FILE")]
        placeholders: Option<PathBuf>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
    },
    /// List the ATT&CK techniques that the enabled rules detect
    #[command(
        after_help = "Examples:\n  tawny rules coverage\n  tawny rules coverage my-rules/ --navigator layer.json"
    )]
    Coverage {
        /// Rule files or folders [default: the shipped rules]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// YAML file with values for the placeholders of Sigma rules, by name
        #[arg(long, value_name = "FILE")]
        placeholders: Option<PathBuf>,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: TableOrJson,
        /// Write an ATT&CK Navigator layer to this file or `s3://BUCKET/KEY`
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
        /// Rule files or folders to look for the id in [default: the shipped rules]
        #[arg(long, value_name = "PATH", num_args = 1..)]
        rules: Vec<PathBuf>,
        /// YAML file with values for the placeholders of Sigma rules, by name
        #[arg(long, value_name = "FILE")]
        placeholders: Option<PathBuf>,
        /// Output format [default: table on a terminal, else file]
        #[arg(long, value_enum)]
        format: Option<ShowFormat>,
    },
    /// Write the shipped rules to a folder, as a start for rules of your own
    ///
    /// The files are in folders by ATT&CK tactic. None of them may exist.
    #[command(after_help = "Examples:\n  tawny rules export my-rules/\n  tawny hunt trail/ --rules my-rules/")]
    Export {
        /// Folder to write; it is created if it does not exist
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Print a rule as a Simple Detection: Panther's YAML, without Python
    #[command(
        after_help = "Examples:\n  tawny rules translate my_rule.yml\n  tawny rules translate AWS.IAM.CreateUser --rules panther-analysis/rules"
    )]
    Translate {
        /// The id of a rule, or a rule file
        rule: String,
        /// Rule files or folders to look for the id in [default: the shipped rules]
        #[arg(long, value_name = "PATH", num_args = 1..)]
        rules: Vec<PathBuf>,
        /// YAML file with values for the placeholders of Sigma rules, by name
        #[arg(long, value_name = "FILE")]
        placeholders: Option<PathBuf>,
    },
    Lint(LintCommand),
}

/// Output format of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    /// Settings and notes for people, and the text of the rule
    Table,
    /// The text of the rule's file
    File,
    /// JSON
    Json,
}

/// Output format of a list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ListFormat {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
    /// Markdown tables, one per folder
    Markdown,
}

impl RulesCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        match &self.action {
            RulesAction::List { paths, placeholders, format } => list(
                context,
                RuleFiles { paths, placeholders: placeholders.as_deref(), ..RuleFiles::default() },
                *format,
            ),
            RulesAction::Coverage { paths, placeholders, format, navigator } => {
                let files = RuleFiles { paths, placeholders: placeholders.as_deref(), ..RuleFiles::default() };
                coverage(context, files, *format, navigator.as_deref()).await
            }
            RulesAction::Show { rule, rules, placeholders, format } => show(
                context,
                rule,
                RuleFiles { paths: rules, placeholders: placeholders.as_deref(), ..RuleFiles::default() },
                *format,
            ),
            RulesAction::Export { folder } => export(context, folder),
            RulesAction::Translate { rule, rules, placeholders } => translate(
                context,
                rule,
                RuleFiles { paths: rules, placeholders: placeholders.as_deref(), ..RuleFiles::default() },
            ),
            RulesAction::Lint(lint) => lint.run(context),
        }
    }
}

fn list(context: &Context, files: RuleFiles<'_>, format: ListFormat) -> Result<Status, Error> {
    let entries = loading::load(context.output, files)?.entries;
    let text = match format {
        ListFormat::Json => json_text(&entries.iter().map(summary).collect()),
        ListFormat::Markdown => markdown::list(&entries),
        ListFormat::Table => {
            let header = ["rule", "severity", "ATT&CK", "threshold", "period", "window", "tests", "title"];
            report::rows_dropping(
                &header,
                &["tests", "window", "period", "ATT&CK", "title"],
                entries.iter().map(|Entry { rule, .. }| {
                    let counted = rule.counts.distinct().or(rule.counts.summed());
                    let counted = match (counted, rule.counts.statistic()) {
                        // The last name of a path says enough in a narrow column.
                        (Some(field), _) => format!(" {}", field.to_string().rsplit('.').next().unwrap_or_default()),
                        (None, Some((field, condition))) => format!(" window whose {}", condition.of(field)),
                        (None, None) => String::new(),
                    };
                    let new = if rule.first_seen.is_some() { " new" } else { "" };
                    vec![
                        rule.id.clone(),
                        format!("{}{}", rule.severity, marks(rule)),
                        rule.mitre().join(" "),
                        format!("{}{new}{counted}{}", rule.window.threshold, rule.peak_limits),
                        rule.window.period.to_string(),
                        rule.window.kind.to_string(),
                        (rule.tests.len() + rule.hunt_tests.len()).to_string(),
                        rule.display_name.clone(),
                    ]
                }),
            )
        }
    };
    context.output.result(&text, None)?;
    let disabled = entries.iter().filter(|entry| !entry.rule.enabled).count();
    if format == ListFormat::Table && disabled > 0 {
        let rules = number_of(entries.len(), "rule");
        context.output.talk(&format!("{rules}, {disabled} disabled: `--include-disabled` or `--rule ID` hunts them"));
    }
    Ok(Status::Done)
}

/// Returns the marks of a rule that does not alert in every hunt: ` (signal)`, ` (disabled)`.
fn marks(rule: &Rule) -> &'static str {
    match (rule.alert, rule.enabled) {
        (true, true) => "",
        (false, true) => " (signal)",
        (true, false) => " (disabled)",
        (false, false) => " (signal, disabled)",
    }
}

async fn coverage(
    context: &Context,
    files: RuleFiles<'_>,
    format: TableOrJson,
    navigator: Option<&str>,
) -> Result<Status, Error> {
    let entries = loading::load(context.output, files)?.entries;
    let rules = || entries.iter().map(|entry| &entry.rule).filter(|rule| rule.enabled);
    let (covered, unmapped) = attack::coverage(rules());
    if let Some(file) = navigator {
        context.write(json_text(&attack::layer(&covered)).into_bytes(), Some(file)).await?;
    }
    let text = match format {
        TableOrJson::Json => {
            let one = |covered: &Covered| json!({ "tactic": covered.tactic, "technique": covered.technique, "rules": covered.rules });
            json_text(&json!({ "techniques": covered.iter().map(one).collect::<Vec<_>>(), "without": unmapped }))
        }
        TableOrJson::Table => report::rows(
            &["tactic", "technique", "rules", ""],
            covered.iter().map(|covered| {
                let count = covered.rules.len().to_string();
                vec![covered.tactic.to_owned(), covered.technique.to_owned(), count, covered.rules.join(", ")]
            }),
        ),
    };
    context.output.result(&text, None)?;
    if !unmapped.is_empty() {
        context.output.talk(&format!("rules without a technique: {}", unmapped.join(", ")));
    }
    let distinct = |of: fn(&Covered<'_>) -> String| covered.iter().map(of).collect::<BTreeSet<_>>().len();
    let [rules, techniques, tactics] = [
        (rules().count(), "rule"),
        (distinct(|covered| covered.technique.to_owned()), "technique"),
        (distinct(|covered| covered.tactic.to_owned()), "tactic"),
    ]
    .map(|(count, what)| number_of(count, what));
    context.output.talk(&format!("{rules} detect {techniques} of {tactics}"));
    Ok(Status::Done)
}

fn show(
    context: &Context,
    id_or_file: &str,
    files: RuleFiles<'_>,
    format: Option<ShowFormat>,
) -> Result<Status, Error> {
    let entry = loading::load_one(context.output, id_or_file, files)?;
    let default = if Output::is_terminal() { ShowFormat::Table } else { ShowFormat::File };
    let text = match format.unwrap_or(default) {
        ShowFormat::File => shown_file(&entry.text),
        ShowFormat::Json => {
            let mut shown = summary(&entry);
            shown["text"] = Value::from(entry.text.as_str());
            json_text(&shown)
        }
        ShowFormat::Table => {
            let Entry { rule, file, text, .. } = &entry;
            let mut facts =
                vec![("rule", rule.id.clone()), ("title", rule.display_name.clone()), ("file", file.clone())];
            facts.push(("severity", rule.severity.to_string()));
            facts.push(("ATT&CK", rule.mitre().join(" ")));
            let what = match &rule.counts {
                Counts::Distinct(field) => format!("distinct `{field}`"),
                Counts::Sum(field) => format!("in the sum of `{field}`"),
                Counts::Statistic(field, condition) => format!("window whose {}", condition.of(field)),
                _ => "matches".to_owned(),
            };
            let window = rule.window;
            let then = match &rule.absence {
                Some(absence) => format!(", {}", absence.side.key()),
                None if matches!(rule.counts, Counts::Followed { .. }) => ", then FollowedBy".to_owned(),
                None => String::new(),
            };
            let finds = format!(
                "{} {what}{} within {} ({}){}{then}",
                window.threshold,
                newness(rule),
                window.period,
                window.kind,
                rule.peak_limits
            );
            facts.push(("finds", finds));
            facts.push(("grouped by", rule.group_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")));
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

/// Returns the text of a file with hidden characters escaped. It ends with a line break.
fn shown_file(text: &str) -> String {
    text.lines().map(|line| printable(line) + "\n").collect()
}

/// Writes the shipped rules to `folder`.
fn export(context: &Context, folder: &Path) -> Result<Status, Error> {
    let entries = loading::load(context.output, RuleFiles::default())?.entries;
    // The paths of shipped rules begin with the name of their folder.
    let target = |entry: &Entry| {
        let file = Path::new(&entry.file);
        folder.join(file.strip_prefix("rules").unwrap_or(file))
    };
    if let Some(existing) = entries.iter().map(target).find(|file| file.exists()) {
        return Err(Error::Usage {
            message: format!("`{}` already exists", existing.display()),
            hint: Some("name a new folder".to_owned()),
        });
    }
    for entry in &entries {
        let file = target(entry);
        store::create_folder(store::folder_of(&file))?;
        context.output.result(&entry.text, Some(&file))?;
    }
    context.output.talk(&format!("wrote {} to `{}`", number_of(entries.len(), "rule"), folder.display()));
    Ok(Status::Done)
}

fn translate(context: &Context, id_or_file: &str, files: RuleFiles<'_>) -> Result<Status, Error> {
    let rule = loading::load_one(context.output, id_or_file, files)?.rule;
    let yaml = simple_detection::yaml(&rule).map_err(|reason| Error::Usage {
        message: format!("the rule `{}`: {reason}", rule.id),
        hint: Some("it runs as it is; `tawny sql` prints its query".to_owned()),
    })?;
    // What cannot be read again would be no rule of the user's.
    let unreadable = |error: Error| Error::Usage {
        message: format!("the rule `{}` has no translation that is a valid rule: {error}", rule.id),
        hint: Some("it runs as it is; `tawny sql` prints its query".to_owned()),
    };
    panther::parse("the translation", &yaml).map_err(unreadable)?;
    context.output.result(&text::json::escaped(&yaml), None)?;
    Ok(Status::Done)
}

/// Says which matches are new: ` with awsRegion not seen for 30d`. Empty for rules that count all matches.
fn newness(rule: &Rule) -> String {
    rule.first_seen.as_ref().map_or_else(String::new, |FirstSeen { fields, periods }| {
        let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
        format!(" with {} not seen for {}", fields.join(", "), periods.history)
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
        "summed": rule.counts.summed().map(ToString::to_string),
        "statistic": rule.counts.statistic().map(|(field, condition)| condition.of(field)),
        "new": rule.first_seen.as_ref().map(|first_seen| fields(&first_seen.fields)),
        "history": rule.first_seen.as_ref().map(|first_seen| first_seen.periods.history.to_string()),
        "learning": rule.first_seen.as_ref().and_then(|it| it.periods.learning).map(|learning| learning.to_string()),
        "not_followed_by": rule.absence.as_ref().is_some_and(|absence| absence.side == AbsenceSide::After),
        "not_preceded_by": rule.absence.as_ref().is_some_and(|absence| absence.side == AbsenceSide::Before),
        "min_events": rule.min_events,
        "at_most": rule.peak_limits.at_most,
        "not": rule.peak_limits.not,
        "group_by": fields(&rule.group_by),
        "enabled": rule.enabled,
        "alert": rule.alert,
        "tests": rule.tests.len() + rule.hunt_tests.len(),
        "notes": rule.notes,
        "warnings": warnings,
    })
}

fn json_text(value: &Value) -> String {
    text::json::escaped(&format!("{value:#}\n")).into_owned()
}
