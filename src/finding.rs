//! Findings: the rows of a hunt's query as the public JSON object.

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::rule::python::EntryPoint;
use crate::rule::{Field, Notes, Rule, TitlePart};
use crate::sql::columns::{COUNTED_PEAK, RuleColumns, STATISTIC};
use crate::sql::fields;
use crate::store::hex;
use crate::time::{Instant, Period, SECOND};

/// What AWS writes for the name of a user that does not exist: a mistyped one, or a password in the wrong box.
const MASKED_NAME: &str = "hidden_due_to_security_reasons";

/// Shown for a field without a value.
pub const NO_VALUE: &str = "no value";

/// The first principal of a chain of credentials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// Its account.
    pub account: Option<String>,
    /// Its actor. If the origin is not known, the first actor that is.
    pub actor: Option<String>,
    /// Whether the chain really begins here. Otherwise the data lacks an earlier step.
    pub known: bool,
    /// Why the chain ends here.
    pub reason: String,
}

impl Origin {
    /// Returns the principal as one text, `ACCOUNT/ACTOR`: one name in two accounts is two principals. `None` if neither is known.
    pub fn principal(&self) -> Option<String> {
        match (&self.account, &self.actor) {
            (None, None) => None,
            (None, Some(actor)) => Some(actor.clone()),
            (account, actor) => Some([account, actor].map(|part| part.as_deref().unwrap_or(NO_VALUE)).join("/")),
        }
    }
}

/// One burst of matches of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// A hash of rule, window, group and first event: the same burst has the same id in every run.
    pub finding_id: String,
    /// The rule.
    pub rule_id: String,
    /// The description of the rule.
    pub title: String,
    /// The severity.
    pub severity: String,
    /// Whether it is an alert; otherwise it is a signal, for the record only.
    pub alert: bool,
    /// ATT&CK tactics and techniques.
    pub mitre: Vec<String>,
    /// The shape of the windows.
    pub window: String,
    /// The period in minutes.
    pub period_minutes: Value,
    /// The threshold it was hunted with.
    pub threshold: u32,
    /// The group's fields, in the rule's order; null where a record has no value.
    pub group: Map<String, Value>,
    /// Whether the actor is a name that AWS masked, and so no known person.
    pub masked: bool,
    /// The matches in the burst.
    pub count: u64,
    /// The most matches in any one window that holds the threshold.
    pub peak: u64,
    /// The field whose distinct values were counted, if the rule counts distinct values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
    /// The most distinct values in any one window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct: Option<u64>,
    /// The field whose numbers were added, if the rule adds numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summed: Option<String>,
    /// The greatest sum of any one window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<u64>,
    /// The statistic that the rule compares, and its field: `average of bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistic: Option<String>,
    /// The statistic of the window that triggered, rounded down to millionths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistic_value: Option<f64>,
    /// The time of the first match.
    pub first_event: Instant,
    /// The time of the last match.
    pub last_event: Instant,
    /// The time of the match that first made the count reach the threshold.
    pub trigger_time: Instant,
    /// The identities of the matches, sorted.
    pub event_ids: Vec<String>,
    /// The source IP addresses, sorted and distinct.
    pub source_ips: Vec<String>,
    /// The user agents, sorted and distinct.
    pub user_agents: Vec<String>,
    /// The regions, sorted and distinct.
    pub regions: Vec<String>,
    /// The rule's output fields, of the event that triggered.
    pub context: Map<String, Value>,
    /// The distinct values of the rule's summary fields, sorted.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub summary: Map<String, Value>,
    /// Who began the chains of the credentials that the events used, if that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// The version of the lake or table that was read, for `--as-of`. `None` if the data have no versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_version: Option<u64>,
    /// Whether all objects of the lake that may hold its events were verified by digests when they were converted. `None` if the
    /// data is not a lake with verified objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_verified_objects: Option<bool>,
    /// The rule's text for people.
    #[serde(flatten)]
    pub notes: FindingNotes,
}

/// A rule's text for people, in its findings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FindingNotes {
    /// The behavior that the rule finds, and why it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The steps to take after a finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Where to read more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Words to sort rules by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl FindingNotes {
    fn of(rule: &Rule) -> FindingNotes {
        let Notes { description, runbook, reference, tags, reports: _ } = rule.notes.clone();
        FindingNotes { description, runbook, reference, tags }
    }
}

#[cfg(test)]
impl Finding {
    /// Returns a finding of one event.
    pub(crate) fn example() -> Finding {
        let time: Instant = "2026-09-01T00:00:00Z".parse().unwrap_or(Instant::EPOCH);
        let id = "11111111-2222-4333-8444-555555555555".to_owned();
        Finding {
            finding_id: "00112233445566778899aabbccddeeff".to_owned(),
            rule_id: "Example.Rule".to_owned(),
            title: "An example".to_owned(),
            severity: "High".to_owned(),
            alert: true,
            mitre: vec!["TA0006:T1621".to_owned()],
            window: crate::rule::WindowKind::Sliding.to_string(),
            period_minutes: Value::from(15),
            threshold: 1,
            group: Map::from_iter([("actor".to_owned(), Value::from("alice"))]),
            masked: false,
            count: 1,
            peak: 1,
            unique: None,
            distinct: None,
            summed: None,
            sum: None,
            statistic: None,
            statistic_value: None,
            first_event: time,
            last_event: time,
            trigger_time: time,
            event_ids: vec![id],
            source_ips: vec!["192.0.2.1".to_owned()],
            user_agents: Vec::new(),
            regions: vec!["us-east-1".to_owned()],
            context: Map::new(),
            summary: Map::new(),
            origins: Vec::new(),
            table_version: None,
            from_verified_objects: None,
            notes: FindingNotes::default(),
        }
    }
}

/// A rule and the columns of its findings in the rows of a query.
#[derive(Debug, Clone)]
pub struct FindingSchema<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// The names of the columns.
    pub columns: RuleColumns<String>,
}

impl FindingSchema<'_> {
    /// Returns the finding in a row of a query.
    ///
    /// # Errors
    /// A column is missing or has another type.
    pub fn finding(&self, batch: &RecordBatch, row: usize) -> Result<Finding, Error> {
        Rows { batch }.finding(self, row)
    }
}

/// Returns whether a value of a group is a name that AWS masked.
fn is_masked(field: &Field, value: Option<&str>) -> bool {
    let name = match (field, value.unwrap_or_default()) {
        // The account is before the name.
        (Field::Origin, value) => value.split_once('/').map_or(value, |(_, name)| name),
        (_, value) => value,
    };
    name.eq_ignore_ascii_case(MASKED_NAME)
}

struct Rows<'b> {
    batch: &'b RecordBatch,
}

impl Rows<'_> {
    fn finding(&self, schema: &FindingSchema<'_>, row: usize) -> Result<Finding, Error> {
        let FindingSchema { rule, columns } = schema;
        let values = columns.group.iter().map(|name| self.text(name, row));
        let group: Vec<Option<String>> = values.collect::<Result<_, _>>()?;
        let first = self.instant("first_event", row)?;
        let first_id = self.text("first_event_id", row)?.unwrap_or_default();
        let pairs = rule.group_by.iter().zip(&group);
        let mut context = Map::new();
        for ((name, field), column) in rule.context.iter().zip(&columns.trigger.context) {
            let text = self.text(column, row)?;
            let json = fields::is_json(field);
            let value = text.map_or(Value::Null, |text| {
                let parsed = json.then(|| serde_json::from_str(&text).ok()).flatten();
                parsed.unwrap_or(Value::String(text))
            });
            match (field, value) {
                // Its members are named by the rule.
                (Field::Python(function), Value::Object(members)) if function.entry == EntryPoint::Context => {
                    context.extend(members);
                }
                (_, value) => {
                    context.insert(name.clone(), value);
                }
            }
        }
        let mut summary = Map::new();
        for (field, column) in rule.summary.iter().zip(&columns.distinct) {
            summary.insert(field.to_string(), Value::from(self.texts(column, row)?));
        }
        let distinct = rule.counts.distinct().map(|_| self.count(COUNTED_PEAK, row)).transpose()?;
        let sum = rule.counts.summed().map(|_| self.count(COUNTED_PEAK, row)).transpose()?;
        let statistic = rule.counts.statistic();
        Ok(Finding {
            finding_id: identity(rule, &group, first, &first_id),
            rule_id: rule.id.clone(),
            title: self.title(schema, row)?,
            severity: self.severity(schema, row)?,
            alert: rule.alert,
            mitre: rule.mitre().to_vec(),
            window: rule.window.kind.to_string(),
            period_minutes: minutes(rule.window.period),
            threshold: rule.window.threshold.get(),
            masked: rule.group_by.iter().zip(&group).any(|(field, value)| is_masked(field, value.as_deref())),
            group: pairs.map(|(field, value)| (field.to_string(), Value::from(value.clone()))).collect(),
            count: self.count("count", row)?,
            peak: self.count("peak", row)?,
            unique: rule.counts.distinct().map(ToString::to_string),
            distinct,
            summed: rule.counts.summed().map(ToString::to_string),
            sum,
            statistic: statistic.map(|(field, condition)| format!("{} of {field}", condition.statistic)),
            statistic_value: statistic.map(|_| self.number(STATISTIC, row)).transpose()?,
            first_event: first,
            last_event: self.instant("last_event", row)?,
            trigger_time: self.instant("trigger_time", row)?,
            event_ids: self.texts("event_ids", row)?,
            source_ips: self.texts("source_ips", row)?,
            user_agents: self.texts("user_agents", row)?,
            regions: self.texts("regions", row)?,
            context,
            summary,
            origins: Vec::new(),
            table_version: None,
            from_verified_objects: None,
            notes: FindingNotes::of(rule),
        })
    }

    fn title(&self, FindingSchema { rule, columns }: &FindingSchema<'_>, row: usize) -> Result<String, Error> {
        let mut values = Vec::new();
        for (field, column) in rule.title_fields().into_iter().zip(&columns.trigger.title) {
            values.push((field, self.text(column, row)?));
        }
        let part = |part: &TitlePart| match part {
            TitlePart::Text(text) => text.clone(),
            TitlePart::Field(named) => {
                let value = values.iter().find(|(field, _)| *field == named).and_then(|(_, value)| value.clone());
                value.unwrap_or_else(|| NO_VALUE.to_owned())
            }
        };
        Ok(rule.title.iter().map(part).collect())
    }

    fn severity(&self, FindingSchema { rule, columns }: &FindingSchema<'_>, row: usize) -> Result<String, Error> {
        let dynamic = columns.trigger.severity.as_ref().map(|column| self.text(column, row)).transpose()?.flatten();
        Ok(dynamic.unwrap_or_else(|| rule.severity.to_string()))
    }

    fn column(&self, name: &str, data_type: &DataType) -> Result<ArrayRef, Error> {
        let internal = |reason: String| Error::Internal(format!("the result column `{name}`: {reason}"));
        let column = self.batch.column_by_name(name).ok_or_else(|| internal("missing".to_owned()))?;
        compute::cast(column, data_type).map_err(|error| internal(error.to_string()))
    }

    fn text(&self, name: &str, row: usize) -> Result<Option<String>, Error> {
        let column = self.column(name, &DataType::Utf8)?;
        let column = column.as_string::<i32>();
        Ok(column.is_valid(row).then(|| column.value(row).to_owned()))
    }

    fn count(&self, name: &str, row: usize) -> Result<u64, Error> {
        let column = self.column(name, &DataType::Int64)?;
        Ok(u64::try_from(column.as_primitive::<Int64Type>().value(row)).unwrap_or_default())
    }

    fn number(&self, name: &str, row: usize) -> Result<f64, Error> {
        Ok(self.column(name, &DataType::Float64)?.as_primitive::<Float64Type>().value(row))
    }

    fn instant(&self, name: &str, row: usize) -> Result<Instant, Error> {
        let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        let times = self.column(name, &utc)?;
        Ok(Instant::from_micros(times.as_primitive::<TimestampMicrosecondType>().value(row)))
    }

    fn texts(&self, name: &str, row: usize) -> Result<Vec<String>, Error> {
        let internal = |reason: String| Error::Internal(format!("the result column `{name}`: {reason}"));
        let column = self.batch.column_by_name(name).ok_or_else(|| internal("missing".to_owned()))?;
        let lists = column.as_list_opt::<i32>().ok_or_else(|| internal("no list".to_owned()))?;
        if lists.is_null(row) {
            return Ok(Vec::new());
        }
        let values = compute::cast(&lists.value(row), &DataType::Utf8).map_err(|error| internal(error.to_string()))?;
        let mut texts: Vec<String> = values.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
        texts.sort_unstable();
        Ok(texts)
    }
}

/// Returns a period in minutes as findings show it: an integer if it is whole.
pub fn minutes(period: Period) -> Value {
    let micros = period.micros();
    if micros % (60 * SECOND) == 0 { Value::from(micros / (60 * SECOND)) } else { Value::from(period.minutes()) }
}

/// Returns the id of the finding of a rule whose first event is this one.
pub fn identity(rule: &Rule, group: &[Option<String>], first: Instant, first_id: &str) -> String {
    let window = rule.window;
    let mut parts = vec![
        Value::from(rule.id.as_str()),
        Value::from(window.kind.to_string()),
        Value::from(window.period.micros()),
        Value::from(window.threshold.get()),
        Value::from(group.iter().map(|value| Value::from(value.clone())).collect::<Vec<_>>()),
        Value::from(first.micros()),
        Value::from(first_id),
    ];
    parts.extend(rule.counts.distinct().map(|field| Value::from(field.to_string())));
    hex(&Sha256::digest(Value::from(parts).to_string())[..16])
}
