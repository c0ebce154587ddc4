//! One query that gives a rule's findings on another engine.

use std::num::NonZeroU32;

use askama::Template as _;

use super::Dialect;
use super::predicate::Refused;
use crate::error::Error;
use crate::event::{CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::rule::{Counts, Rule, WindowKind};
use crate::sql::layout::Layout;
use crate::store::Location;
use crate::text::{has_hidden, printable};
use crate::time::{EVENT_TIMES, Period, Range};

/// The layouts for which there is SQL of other engines: tawny's own lake, and the table of Athena's documentation.
pub const LAYOUTS: [&str; 2] = ["lake", "athena"];

/// Where the query is to run, and over what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The engine's SQL.
    pub dialect: Dialect,
    /// One of [`LAYOUTS`].
    pub layout: String,
    /// A table, or where the files lie.
    pub data: Option<String>,
}

/// What holds one of CloudTrail's top-level fields.
pub(super) enum Source {
    /// A column: text, a boolean, or JSON as text.
    Column(String),
    /// A struct, all of whose members are text.
    Struct(String),
}

impl Source {
    pub(super) fn whole(self) -> String {
        match self {
            Source::Column(column) | Source::Struct(column) => column,
        }
    }
}

/// The columns of a layout, in a dialect.
pub(super) struct Columns {
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

impl Columns {
    /// What holds a top-level field; `None` where nothing does.
    pub(super) fn source(&self, name: &str) -> Option<Source> {
        if self.is_lake {
            return Some(Source::Column(self.dialect.name(name)));
        }
        let column = self.dialect.name(&name.to_lowercase());
        if name == "userIdentity" {
            return Some(Source::Struct(column));
        }
        (ATHENA_TEXT.contains(&name) || ATHENA_JSON.contains(&name)).then_some(Source::Column(column))
    }

    /// Whether strings that rules often read have columns of their own. Tables of Athena's have no such names.
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

    fn micros(&self) -> String {
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
#[template(path = "dialects/findings.sql", escape = "none")]
struct Findings {
    dialect: Dialect,
    title: String,
    kind: WindowKind,
    period: Period,
    threshold: NonZeroU32,
    /// For each field of the group its expression and a name for it.
    groups: Vec<(String, String)>,
    /// The names under which the fields of the group are shown.
    shown: Vec<String>,
    micros: String,
    identity: String,
    table: String,
    predicate: String,
    partition: String,
    /// What joins a match to the windows of its group; it ends in `AND`.
    same_group: String,
    ids: String,
    count: String,
    triggers: Range,
}

impl Findings {
    /// The group's fields, after `prefix`, and `last`, with commas between them.
    fn by(&self, prefix: &str, last: &str) -> String {
        let names = self.groups.iter().map(|(_, name)| format!("{prefix}{name}"));
        names.chain((!last.is_empty()).then(|| last.to_owned())).collect::<Vec<_>>().join(", ")
    }
}

/// The query of a rule's findings with a trigger in `triggers`.
///
/// # Errors
/// The rule, the layout or the data ask for what cannot be said exactly in the dialect.
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
    let columns = Columns { dialect, is_lake: target.layout == "lake" };
    let expressions = rule.group_by.iter().map(|field| columns.column(field)).collect::<Result<Vec<_>, _>>();
    let names: Vec<String> = (1..=rule.group_by.len()).map(|number| format!("group_{number}")).collect();
    let predicate = columns.predicate(&rule.detection, 0).map_err(refused)?;
    let same = |name: &String| format!("matches.{name} IS NOT DISTINCT FROM opened.{name} AND ");
    let findings = Findings {
        dialect,
        // In a comment: an id has no line breaks, and Spark would put variables there too.
        title: dialect.quoted(&rule.id),
        kind: rule.window.kind,
        period: rule.window.period,
        threshold: rule.window.threshold,
        shown: Layout::of(rule).group.iter().map(|name| dialect.name(name)).collect(),
        micros: columns.micros(),
        identity: columns.identity_of_record(),
        table: table(target)?,
        predicate,
        partition: if names.is_empty() { String::new() } else { format!("PARTITION BY {} ", names.join(", ")) },
        same_group: names.iter().map(same).collect(),
        ids: dialect.gathered("id"),
        count: dialect.name("count"),
        groups: expressions.map_err(refused)?.into_iter().zip(names).collect(),
        triggers,
    };
    findings.render().map_err(|error| Error::Internal(format!("the SQL of `{}`: {error}", rule.id)))
}

fn check(rule: &Rule, dialect: Dialect) -> Result<(), Refused> {
    match rule.counts {
        Counts::Matches => {}
        Counts::Distinct(_) => return Err("distinct values".to_owned()),
        Counts::Followed { .. } => return Err("what follows its matches".to_owned()),
        Counts::EachOf(_) | Counts::InOrder(_) => return Err("several events that must occur".to_owned()),
    }
    if rule.window.kind == WindowKind::Dedup && dialect != Dialect::Duckdb {
        return Err("windows of the kind `dedup`, each of which depends on the one before".to_owned());
    }
    Ok(())
}

/// What the query reads.
fn table(target: &Target) -> Result<String, Error> {
    let dialect = target.dialect;
    let data = target.data.as_deref().unwrap_or("cloudtrail");
    let path = data.starts_with("file://").then(|| Location::of(data).to_string());
    let data = path.as_deref().unwrap_or(data);
    if has_hidden(data) {
        return Err(Error::usage(format!("`--data` holds control or invisible characters: `{}`", printable(data))));
    }
    if dialect == Dialect::Spark && data.contains("${") {
        return Err(Error::usage(format!(
            "Spark puts a variable in place of what stands in `{data}`: name another place"
        )));
    }
    let is_table = !data.contains(['/', '*']) && !data.to_ascii_lowercase().ends_with(".parquet");
    if is_table {
        return Ok(data.split('.').map(|part| dialect.name(part)).collect::<Vec<_>>().join("."));
    }
    let is_pattern = data.contains('*') || data.to_ascii_lowercase().ends_with(".parquet");
    let below = if target.layout == "lake" { "date=*/*.parquet" } else { "**/*.parquet" };
    let files = if is_pattern { data.to_owned() } else { format!("{}/{below}", data.trim_end_matches('/')) };
    let is_url = data.contains("://");
    match dialect {
        Dialect::Duckdb => {
            Ok(format!("read_parquet({}, hive_partitioning = false, union_by_name = true)", dialect.quoted(&files)))
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
