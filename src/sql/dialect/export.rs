//! One query that gives a rule's findings on another engine.

use askama::Template as _;

use super::Dialect;
use super::predicate::Refused;
use crate::error::Error;
use crate::event::{CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::rule::{Counts, Rule, Window, WindowKind};
use crate::sql::columns::RuleColumns;
use crate::store::Location;
use crate::text::{has_hidden, printable};
use crate::time::Range;

/// The layouts for which SQL of other engines can be printed: tawny's own lake, and the table of Athena's documentation.
pub const LAYOUTS: [&str; 2] = ["lake", "athena"];

/// The engine and the data of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The engine's SQL.
    pub dialect: Dialect,
    /// One of [`LAYOUTS`].
    pub layout: String,
    /// A table, or the place of files.
    pub data: Option<String>,
    /// The files of the folder `data` that count: paths below it, without characters of patterns. `None` if all count.
    pub live_files: Option<Vec<String>>,
}

/// What holds one of CloudTrail's top-level fields in a table.
pub(super) enum FieldSource {
    /// A column: text, a boolean, or JSON as text.
    Column(String),
    /// A struct, all of whose members are text.
    Struct(String),
}

impl FieldSource {
    pub(super) fn whole(self) -> String {
        match self {
            FieldSource::Column(column) | FieldSource::Struct(column) => column,
        }
    }
}

/// The columns of a layout, in a dialect.
pub(super) struct DialectColumns {
    pub(super) dialect: Dialect,
    pub(super) is_lake: bool,
}

/// The columns of Athena's table with JSON, and its struct's members.
const ATHENA_JSON: [&str; 4] = ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"];
const ATHENA_TEXT: [&str; 19] = [
    "eventVersion",
    "eventSource",
    "eventName",
    "awsRegion",
    "sourceIPAddress",
    "userAgent",
    "errorCode",
    "errorMessage",
    "requestID",
    "eventID",
    "readOnly",
    "eventType",
    "apiVersion",
    "recipientAccountId",
    "sharedEventID",
    "vpcEndpointId",
    "vpcEndpointAccountId",
    "eventCategory",
    "eventTime",
];
const ATHENA_IDENTITY: [&[&str]; 14] = [
    &["type"],
    &["principalId"],
    &["arn"],
    &["accountId"],
    &["invokedBy"],
    &["accessKeyId"],
    &["userName"],
    &["onBehalfOf", "userId"],
    &["sessionContext", "attributes", "mfaAuthenticated"],
    &["sessionContext", "sessionIssuer", "type"],
    &["sessionContext", "sessionIssuer", "principalId"],
    &["sessionContext", "sessionIssuer", "arn"],
    &["sessionContext", "sessionIssuer", "accountId"],
    &["sessionContext", "sessionIssuer", "userName"],
];

impl DialectColumns {
    /// Returns what holds a top-level field, if anything does.
    pub(super) fn source(&self, name: &str) -> Option<FieldSource> {
        if self.is_lake {
            return Some(FieldSource::Column(self.dialect.name(name)));
        }
        let column = self.dialect.name(&name.to_lowercase());
        if name == "userIdentity" {
            return Some(FieldSource::Struct(column));
        }
        (ATHENA_TEXT.contains(&name) || ATHENA_JSON.contains(&name)).then_some(FieldSource::Column(column))
    }

    /// Whether the table has promoted columns: strings that rules often read. Athena's tables cannot have their names.
    pub(super) fn has_hot(&self) -> bool {
        self.is_lake && self.dialect != Dialect::Athena
    }

    pub(super) fn member(&self, column: &str, keys: &[&str]) -> Option<String> {
        let same = |known: &&&[&str]| {
            known.len() == keys.len() && known.iter().zip(keys).all(|(known, key)| known.eq_ignore_ascii_case(key))
        };
        let known = ATHENA_IDENTITY.iter().find(same)?;
        let names = known.iter().map(|key| self.dialect.name(&key.to_lowercase()));
        Some(std::iter::once(column.to_owned()).chain(names).collect::<Vec<_>>().join("."))
    }

    pub(super) fn string_below(&self, column: &str, keys: &[&str], hot: Option<&str>) -> String {
        match hot {
            Some(hot) if self.has_hot() => self.dialect.name(hot),
            _ => self.dialect.string(column, keys),
        }
    }

    pub(super) fn micros(&self) -> String {
        if self.is_lake {
            return self.dialect.micros_of_timestamp(&self.dialect.name(EVENT_TIME));
        }
        self.dialect.micros_of_text(&self.dialect.name(&EVENT_TIME.to_lowercase()))
    }

    fn identity_of_record(&self) -> String {
        let name = |name: &str| self.dialect.name(name);
        if self.is_lake {
            return format!("coalesce({}, {})", name(EVENT_ID), name(CONTENT_ID));
        }
        format!("coalesce({}, {})", name(&EVENT_ID.to_lowercase()), self.dialect.unique())
    }
}

#[derive(askama::Template)]
#[template(path = "dialects/sliding.sql", escape = "none")]
struct DialectSlidingBursts {
    less_than_a_period: i64,
}

#[derive(askama::Template)]
#[template(path = "dialects/findings.sql", escape = "none")]
struct ExportedFindings {
    /// The columns of the group, each with a comma after it.
    group_columns: String,
    event_ids: String,
    columns: String,
    /// The range of trigger times, in microseconds since the epoch, as the steps before hold them.
    from: i64,
    to: i64,
    order: String,
}

/// Returns the query of a rule's findings with a trigger in `triggers`.
///
/// # Errors
/// The dialect cannot express the rule, the layout or the data exactly.
pub fn findings(rule: &Rule, target: &Target, triggers: Range) -> Result<String, Error> {
    let dialect = target.dialect;
    if !LAYOUTS.contains(&target.layout.as_str()) {
        return Err(Error::Usage {
            message: format!("there is no SQL of other engines for the layout `{}`", target.layout),
            hint: Some(format!("there is for {}; or hunt the data with `tawny hunt`", LAYOUTS.join(" and "))),
        });
    }
    let refused = |what: Refused| Error::Usage {
        message: format!("rule `{}` asks for {what}: this cannot be said exactly in {dialect}'s SQL", rule.id),
        hint: Some("hunt with `tawny hunt`, which reads the same data".to_owned()),
    };
    check(rule, dialect).map_err(refused)?;
    let columns = DialectColumns { dialect, is_lake: target.layout == "lake" };
    let expressions = rule.group_by.iter().map(|field| columns.column(field)).collect::<Result<Vec<_>, _>>();
    let predicate = columns.predicate(&rule.detection, 0).map_err(refused)?;
    let records = records(rule, &columns, &expressions.map_err(refused)?, &table(target)?, &predicate);
    let text = |text: &str| text.trim_end().to_owned();
    let matches = text(include_str!("../../../sql/dialects/matches.sql"));
    let window_bursts = text(include_str!("../../../sql/dialects/window_bursts.sql"));
    let unrendered = |error: askama::Error| Error::Internal(format!("the SQL of `{}`: {error}", rule.id));
    let bursts = match rule.window.kind {
        WindowKind::Sliding => {
            let sliding = DialectSlidingBursts { less_than_a_period: rule.window.period.micros() - 1 };
            vec![sliding.render().map_err(unrendered)?]
        }
        WindowKind::Dedup => vec![text(include_str!("../../../sql/dialects/dedup_windows.sql")), window_bursts],
        WindowKind::Tumbling => vec![text(include_str!("../../../sql/dialects/tumbling_windows.sql")), window_bursts],
    };
    let findings = selected(rule, dialect, triggers).render().map_err(unrendered)?;
    let steps = [vec![records, matches], bursts, vec![findings]].concat();
    let Window { kind, period, threshold } = rule.window;
    Ok(format!(
        "-- The findings of {}: {kind} windows of {period}, at least {threshold} matches. Times are in microseconds from the epoch until the end.\nWITH {}{}",
        // In a comment: an id has no line breaks, and Spark would put variables there too.
        dialect.quoted(&rule.id),
        if kind == WindowKind::Dedup { "RECURSIVE " } else { "" },
        steps.join(",\n")
    ))
}

/// Returns the step `records`: the records that the predicate holds for, with the values of the group and one text that
/// stands for all of them. Later steps compare that text alone, so null needs no special comparison.
fn records(rule: &Rule, columns: &DialectColumns, group: &[String], table: &str, predicate: &str) -> String {
    let dialect = columns.dialect;
    let field = |number: usize| format!("field_{}", number + 1);
    let fields = group.iter().enumerate().map(|(number, expression)| format!("{expression} AS {}", field(number)));
    let own = [format!("{} AS micros", columns.micros()), format!("{} AS id", columns.identity_of_record())];
    let inner: Vec<String> = fields.chain(own).collect();
    // The length before each value keeps apart values that lie in different fields.
    let part = |number: usize| {
        let field = field(number);
        let length = dialect.as_text(&format!("length({field})"));
        format!("coalesce({length} || ':' || {field}, '-')")
    };
    let parts: Vec<String> = (0..group.len()).map(part).collect();
    let key = if parts.is_empty() { "''".to_owned() } else { parts.join(" || ") };
    format!(
        "records AS (
  -- group_key: the values of the group as one text, each after its length.
  SELECT *, {key} AS group_key, {} AS period, {} AS threshold
  FROM (
    SELECT
      {}
    FROM {table}
    WHERE {predicate}
  ) AS fields
)",
        rule.window.period.micros(),
        rule.window.threshold,
        inner.join(",\n      ")
    )
}

/// Returns the last step: the findings, and the SELECT of the query.
fn selected(rule: &Rule, dialect: Dialect, triggers: Range) -> ExportedFindings {
    let names: Vec<String> = (1..=rule.group_by.len()).map(|number| format!("group_{number}")).collect();
    let shown = RuleColumns::new(rule).names().group;
    let group = names.iter().zip(&shown).map(|(name, shown)| format!("{name} AS {}", dialect.name(shown)));
    let times = [("first_at", "first_event"), ("last_at", "last_event"), ("trigger_at", "trigger_time")];
    let columns = group
        .chain([format!("events AS {}", dialect.name("count"))])
        .chain(times.map(|(micros, name)| format!("{} AS {name}", dialect.timestamp(micros))))
        .chain(["event_ids".to_owned()]);
    let (from, to) = triggers.event_times();
    let group_columns = (1..=names.len()).map(|number| format!("min(field_{number}) AS group_{number}"));
    let order = std::iter::once("first_at").chain(names.iter().map(String::as_str));
    ExportedFindings {
        group_columns: group_columns.chain([String::new()]).collect::<Vec<_>>().join(",\n    "),
        event_ids: dialect.sorted_list("id"),
        columns: columns.collect::<Vec<_>>().join(",\n  "),
        from: from.micros(),
        to: to.micros(),
        order: order.collect::<Vec<_>>().join(", "),
    }
}

fn check(rule: &Rule, dialect: Dialect) -> Result<(), Refused> {
    if rule.first_seen.is_some() {
        return Err("matches that must be new".to_owned());
    }
    if rule.absence.is_some() {
        return Err("events that must be absent near its matches".to_owned());
    }
    if !rule.peak_limits.is_empty() {
        return Err("counts with more limits than a threshold".to_owned());
    }
    match rule.counts {
        Counts::Matches => {}
        Counts::Distinct(_) => return Err("distinct values".to_owned()),
        Counts::Sum(_) => return Err("a sum of values".to_owned()),
        Counts::Statistic(_, condition) => return Err(format!("the {} of values", condition.statistic)),
        Counts::Followed { .. } => return Err("events that follow its matches".to_owned()),
        Counts::EachOf(_) | Counts::InOrder(_) => return Err("several events that must occur".to_owned()),
    }
    if rule.window.kind == WindowKind::Dedup && dialect != Dialect::Duckdb {
        return Err("windows of the kind `dedup`, where each depends on the one before".to_owned());
    }
    Ok(())
}

/// Returns the table or the files that the query reads.
fn table(target: &Target) -> Result<String, Error> {
    let dialect = target.dialect;
    let data = target.data.as_deref().unwrap_or("cloudtrail");
    let path = data.starts_with("file://").then(|| Location::of(data).to_string());
    let data = path.as_deref().unwrap_or(data);
    if has_hidden(data) {
        return Err(Error::usage(format!("`--data` holds control or invisible characters: `{}`", printable(data))));
    }
    if dialect == Dialect::Spark && data.contains("${") {
        return Err(Error::usage(format!("Spark puts a variable in place of text in `{data}`: name another place")));
    }
    let is_table = !data.contains(['/', '*']) && !data.to_ascii_lowercase().ends_with(".parquet");
    if is_table {
        return Ok(data.split('.').map(|part| dialect.name(part)).collect::<Vec<_>>().join("."));
    }
    let is_pattern = data.contains('*') || data.to_ascii_lowercase().ends_with(".parquet");
    let folder = data.trim_end_matches('/');
    let below = match target.live_files.as_deref() {
        None if target.layout == "lake" => "date=*/*.parquet".to_owned(),
        None => "**/*.parquet".to_owned(),
        Some([]) => return Err(Error::usage(format!("the lake `{data}` has no files"))),
        Some([file]) => file.clone(),
        Some(files) => format!("{{{}}}", files.join(",")),
    };
    let files = if is_pattern { data.to_owned() } else { format!("{folder}/{below}") };
    let is_url = data.contains("://");
    match dialect {
        Dialect::Duckdb => {
            let files = match target.live_files.as_deref() {
                // It knows no `{a,b}`, but lists.
                Some(live) => {
                    let paths = live.iter().map(|file| dialect.quoted(&format!("{folder}/{file}")));
                    format!("[{}]", paths.collect::<Vec<_>>().join(", "))
                }
                None => dialect.quoted(&files),
            };
            Ok(format!("read_parquet({files}, hive_partitioning = false, union_by_name = true)"))
        }
        Dialect::Clickhouse if is_url => Ok(format!("s3({}, 'Parquet')", dialect.quoted(&files))),
        Dialect::Clickhouse => Ok(format!("file({}, 'Parquet')", dialect.quoted(&files))),
        Dialect::Spark => Ok(format!("parquet.{}", dialect.name(&files))),
        Dialect::Athena => Err(Error::Usage {
            message: format!("Athena reads tables, not files: `--data {data}`"),
            hint: Some("define a table over them and name it, such as `--data security.cloudtrail`".to_owned()),
        }),
    }
}
