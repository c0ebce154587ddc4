//! Reads records as the columns that a trace needs.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::identity::Identity;
use super::issue::{IssueKind, IssuingRecord};
use crate::engine::Engine;
use crate::engine::record_view::RecordView;
use crate::error::Error;
use crate::event::batch::CONTENT_ID_PREFIX;
use crate::event::search_hash;
use crate::named_columns;
use crate::sql::quote::{Literal, TimeLiteral};
use crate::sql::{credential, fields};
use crate::statistics::ScanStatistics;
use crate::table::{Table, TableKind};
use crate::time::{Instant, Range, SECOND};
use crate::trail::Prefilter;

const SUBJECT: &str = "the trace";

/// An event, as timelines and summaries show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedEvent {
    /// `eventTime`. `None` if it cannot be read.
    pub time: Option<Instant>,
    /// `eventID`, else a hash of the record's text.
    pub id: Arc<str>,
    /// `sharedEventID`, which both records of a cross-account call have.
    pub shared_id: Option<Arc<str>>,
    /// `eventSource`.
    pub source: Arc<str>,
    /// `eventName`.
    pub name: Arc<str>,
    /// `awsRegion`.
    pub region: Arc<str>,
    /// The account of the record.
    pub account: Arc<str>,
    /// `sourceIPAddress`.
    pub address: Arc<str>,
    /// `errorCode`, else the result of a failed sign-in. `None` if the call succeeded.
    pub error: Option<Arc<str>>,
    /// Whether the call only reads. `None` if the record does not say so.
    pub is_read: Option<bool>,
    /// Who made the call.
    pub identity: Arc<Identity>,
}

impl TracedEvent {
    /// Returns the key by which events are ordered.
    pub fn order(&self) -> (Option<Instant>, &str) {
        (self.time, &self.id)
    }

    /// Returns whether this is the other account's record of a cross-account call, which does not name the caller's credential.
    pub(super) fn is_of_other_account(&self) -> bool {
        self.identity.is("AWSAccount")
    }

    /// Returns whether this record of an event counts instead of `other`, whichever was read first.
    pub(super) fn precedes(&self, other: &TracedEvent) -> bool {
        fn key(event: &TracedEvent) -> (Option<Instant>, [&str; 7], &Identity) {
            let [error, shared_id] = [&event.error, &event.shared_id].map(|text| text.as_deref().unwrap_or_default());
            let texts = [&*event.source, &event.name, &event.account, &event.region, &event.address, error, shared_id];
            (event.time, texts, &event.identity)
        }
        key(self) < key(other)
    }

    /// Returns whether the call was refused for lack of permission, or a sign-in failed.
    pub fn is_denied(&self) -> bool {
        let code = self.error.as_deref().unwrap_or_default();
        code.starts_with("AccessDenied")
            || code.ends_with("UnauthorizedOperation")
            || code.starts_with("UnauthorizedAccess")
            || code == SIGN_IN_FAILED
    }
}

/// The result of a failed sign-in.
const SIGN_IN_FAILED: &str = "Failure";

/// The columns of an event. Those of [`credential::identity_columns`] tell who made the call.
const EVENT_COLUMNS: &[(&str, &str)] = &[
    ("event_time", "\"eventTime\""),
    ("event_id", "coalesce(\"eventID\", \"contentID\")"),
    ("shared_id", "\"sharedEventID\""),
    ("event_source", "\"eventSource\""),
    ("event_name", "\"eventName\""),
    ("region", "\"awsRegion\""),
    ("address", "\"sourceIPAddress\""),
    ("error_code", "\"errorCode\""),
    ("sign_in", "\"responseElements.ConsoleLogin\""),
    ("access", "CASE WHEN \"readOnly\" THEN 'read' WHEN NOT \"readOnly\" THEN 'write' END"),
];

/// The columns that only conditions read. The engine tests conditions that only compare columns before others, so a condition on a
/// narrow column must not call a function: then it would come after those on wide columns.
const CONDITION_COLUMNS: &[(&str, &str)] = &[
    (RECORDED_ID, "\"eventID\""),
    ("key_hash", "\"accessKeyHash\""),
    ("arn_hash", "\"arnHash\""),
    ("issued_hash", "\"issuedKeyHash\""),
    ("lower_user_name", "lower(\"userIdentity.userName\")"),
];
/// `eventID`, as a column of files: these have a Bloom filter of it.
const RECORDED_ID: &str = "recorded_id";

/// The further columns of an event that issues a credential.
const ISSUE_COLUMNS: &[(&str, &str)] = &[
    ("session_key", "text_at(\"responseElements\", 'credentials.accessKeyId')"),
    ("created_key", "text_at(\"responseElements\", 'accessKey.accessKeyId')"),
    (
        "created_for",
        "coalesce(text_at(\"responseElements\", 'accessKey.userName'), text_at(\"requestParameters\", 'userName'))",
    ),
    ("role_session", "text_at(\"responseElements\", 'assumedRoleUser.arn')"),
    ("role_session_id", "text_at(\"responseElements\", 'assumedRoleUser.assumedRoleId')"),
    ("federated_user", "text_at(\"responseElements\", 'federatedUser.arn')"),
    ("federated_user_id", "text_at(\"responseElements\", 'federatedUser.federatedUserId')"),
    ("switched_role", "text_at(\"responseElements\", 'SwitchRole')"),
    ("role_arn", "text_at(\"requestParameters\", 'roleArn')"),
    ("role_session_name", "text_at(\"requestParameters\", 'roleSessionName')"),
    ("target_principal", "text_at(\"requestParameters\", 'targetPrincipal')"),
    ("switched_from", "text_at(\"additionalEventData\", 'SwitchFrom')"),
    ("sso_role", "coalesce(text_at(\"serviceEventDetails\", 'role_name'), text_at(\"requestParameters\", 'roleName'))"),
    (
        "sso_account",
        "coalesce(text_at(\"serviceEventDetails\", 'account_id'), text_at(\"requestParameters\", 'accountId'))",
    ),
    ("sso_user", "coalesce(text_at(\"additionalEventData\", 'UserName'), \"userIdentity.userName\")"),
    ("role_name", "\"userIdentity.sessionContext.sessionIssuer.userName\""),
    ("user_name", "\"userIdentity.userName\""),
    ("role_issuer", "text_at(\"userIdentity\", 'sessionContext.sessionIssuer.arn')"),
];

/// Returns the SQL of the view that a trace reads.
fn view_sql() -> String {
    let own = EVENT_COLUMNS
        .iter()
        .chain(ISSUE_COLUMNS)
        .chain(CONDITION_COLUMNS)
        .map(|(name, sql)| format!("{sql} AS {name}"));
    let identity = credential::identity_columns().map(|(name, value)| format!("{value} AS {name}"));
    let derived = fields::derived().map(|(name, value)| format!("{value} AS {name}"));
    format!("SELECT {} FROM cloudtrail", own.chain(identity).chain(derived).collect::<Vec<_>>().join(", "))
}

/// The records of a table, as a trace reads them.
///
/// A raw trail is read once: the needed columns of its records are buffered, in memory or in files. Other tables are read again
/// for each step, since a step needs few pages of them.
pub(super) struct TraceRecords<'t> {
    engine: &'t Engine,
    table: &'t dyn Table,
    range: Range,
    buffered: Option<RecordView>,
    /// The scan statistics of the whole range.
    pub(super) read: ScanStatistics,
    /// The scan statistics of the last step.
    pub(super) last_read: RefCell<ScanStatistics>,
    names: RefCell<Names>,
}

impl<'t> TraceRecords<'t> {
    /// Opens the records of `table` in `range`.
    pub(super) async fn open(engine: &'t Engine, table: &'t dyn Table, range: Range) -> Result<Self, Error> {
        let snapshot = table.snapshot(range).await?;
        let records = snapshot.records(engine, Prefilter::default()).await?;
        let buffered = if table.kind() == TableKind::Raw {
            let mut sql = view_sql();
            let bounds = time_bounds("\"eventTime\"", range);
            if !bounds.is_empty() {
                // Writing to a string does not fail.
                write!(sql, " WHERE {}", bounds.join(" AND ")).ok();
            }
            let view = engine.buffered_view(Arc::clone(&records.provider), &sql).await;
            Some(view.map_err(|error| Error::query(SUBJECT, error))?)
        } else {
            None
        };
        let read = snapshot.statistics(&records);
        Ok(TraceRecords {
            engine,
            table,
            range,
            buffered,
            read,
            last_read: RefCell::default(),
            names: RefCell::default(),
        })
    }

    /// Reads the events of `table` that may issue credentials, once.
    pub(super) async fn of_issuing_events(engine: &'t Engine, table: &'t dyn Table) -> Result<Self, Error> {
        let snapshot = table.snapshot(Range::default()).await?;
        let records = snapshot.records(engine, Prefilter::new(vec![IssueKind::text_condition()])).await?;
        let sql = format!("SELECT * FROM ({}) WHERE {}", view_sql(), IssueKind::condition());
        let view = engine.buffered_view(Arc::clone(&records.provider), &sql).await;
        let buffered = Some(view.map_err(|error| Error::query(SUBJECT, error))?);
        let read = snapshot.statistics(&records);
        Ok(TraceRecords { buffered, read, ..Self::unbuffered(engine, table, Range::default()) })
    }

    /// Returns the records of `table` in `range`, which each step reads again.
    pub(super) fn unbuffered(engine: &'t Engine, table: &'t dyn Table, range: Range) -> Self {
        let read = ScanStatistics::default();
        TraceRecords {
            engine,
            table,
            range,
            buffered: None,
            read,
            last_read: RefCell::default(),
            names: RefCell::default(),
        }
    }

    /// Returns whether all files were read once, into a buffer.
    pub(super) fn is_buffered(&self) -> bool {
        self.buffered.is_some()
    }

    async fn read(
        &self,
        columns: &[&[(&str, &str)]],
        condition: &str,
        within: Range,
        each: impl FnMut(&RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let within = intersection(self.range, within);
        if within.from.zip(within.to).is_some_and(|(from, to)| from >= to) {
            return Ok(());
        }
        let own = columns.iter().flat_map(|columns| columns.iter().map(|(name, _)| *name));
        let identity = credential::identity_columns().map(|(name, _)| name);
        let names: Vec<&str> = own.chain(identity).collect();
        let mut conditions = time_bounds("event_time", within);
        conditions.push(format!("({condition})"));
        let sql =
            format!("SELECT {}, account, actor FROM records WHERE {}", names.join(", "), conditions.join(" AND "));
        if let Some(view) = &self.buffered {
            return self.engine.for_each_row_batch(Arc::clone(view), &sql, SUBJECT, each).await;
        }
        let snapshot = self.table.snapshot(within).await?;
        let records = snapshot.records(self.engine, Prefilter::default()).await?;
        let view = self.engine.view(Arc::clone(&records.provider), &view_sql()).await;
        let view = view.map_err(|error| Error::query(SUBJECT, error))?;
        self.engine.for_each_row_batch(view, &sql, SUBJECT, each).await?;
        *self.last_read.borrow_mut() = snapshot.statistics(&records);
        Ok(())
    }

    /// Calls `each` with the events that `condition` selects, in no order and with their duplicates.
    pub(super) async fn events(
        &self,
        condition: &str,
        within: Range,
        mut each: impl FnMut(TracedEvent) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let read = |batch: &RecordBatch| {
            self.names.borrow_mut().forget_unused();
            let rows = Rows::new(batch, &self.names)?;
            (0..batch.num_rows()).try_for_each(|row| each(rows.event(row)?))
        };
        self.read(&[EVENT_COLUMNS], condition, within, read).await
    }

    /// Calls `each` with the events that issued a credential and satisfy `condition`, in no order and with their duplicates.
    pub(super) async fn issuing(
        &self,
        condition: &str,
        within: Range,
        mut each: impl FnMut(IssuingRecord) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let condition = format!("{} AND ({condition})", IssueKind::condition());
        let read = |batch: &RecordBatch| {
            self.names.borrow_mut().forget_unused();
            let rows = Rows::new(batch, &self.names)?;
            (0..batch.num_rows()).try_for_each(|row| rows.issuing(row)?.map_or(Ok(()), &mut each))
        };
        self.read(&[EVENT_COLUMNS, ISSUE_COLUMNS], &condition, within, read).await
    }
}

/// Returns the range of the instants that are in both.
pub(super) fn intersection(one: Range, other: Range) -> Range {
    let later = |one: Option<Instant>, other: Option<Instant>| one.max(other);
    let earlier = |one: Option<Instant>, other: Option<Instant>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    Range { from: later(one.from, other.from), to: earlier(one.to, other.to) }
}

/// Returns the conditions for times of `column` in `range`.
pub(super) fn time_bounds(column: &str, range: Range) -> Vec<String> {
    let bound = |operator: &str, time: Option<Instant>| {
        time.map(|time| format!("{column} {operator} {}", TimeLiteral::nearest(time)))
    };
    [bound(">=", range.from), bound("<", range.to)].into_iter().flatten().collect()
}

/// Returns a condition that holds for all events in `windows`, and for few others: it lists their seconds.
pub(super) fn is_in_second_of(windows: &[(Instant, Instant)]) -> String {
    let seconds = windows.iter().flat_map(|(from, to)| from.micros() / SECOND..=to.micros() / SECOND);
    let seconds: BTreeSet<i64> = seconds.collect();
    let seconds: Vec<String> = seconds.iter().map(i64::to_string).collect();
    // Dividing integers rounds towards zero, here as in SQL.
    format!("CAST(event_time AS BIGINT) / {SECOND} IN ({})", seconds.join(", "))
}

/// Returns the condition for `column` to be one of `values`.
pub(super) fn is_one_of<'v>(column: &str, values: impl IntoIterator<Item = &'v str>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| Literal(value).to_string()).collect();
    if values.is_empty() { "FALSE".to_owned() } else { format!("{column} IN ({})", values.join(", ")) }
}

/// Returns the condition for the ID of an event to be one of `ids`.
pub(super) fn is_event<'v>(ids: impl IntoIterator<Item = &'v str> + Clone) -> String {
    let has_hash = ids.clone().into_iter().any(|id| id.starts_with(CONTENT_ID_PREFIX));
    is_one_of(if has_hash { "event_id" } else { RECORDED_ID }, ids)
}

/// Returns the condition for the caller's access key to be one of `keys`.
pub(super) fn has_key<'v>(keys: impl IntoIterator<Item = &'v str> + Clone) -> String {
    format!("({} AND {})", may_have_key(keys.clone()), is_one_of("access_key", keys))
}

/// Returns a condition on a narrow column that holds for all events whose caller's access key is one of `keys`, and for few others.
pub(super) fn may_have_key<'v>(keys: impl IntoIterator<Item = &'v str>) -> String {
    has_hash("key_hash", keys)
}

/// Returns the condition for the access key that an event issued to be one of `keys`.
pub(super) fn has_issued<'v>(keys: impl IntoIterator<Item = &'v str> + Clone) -> String {
    let [session, created] = ["session_key", "created_key"].map(|column| is_one_of(column, keys.clone()));
    format!("({} AND ({session} OR {created}))", has_hash("issued_hash", keys))
}

/// Returns the condition for the caller's ARN to be one of `arns`.
pub(super) fn has_arn<'v>(arns: impl IntoIterator<Item = &'v str> + Clone) -> String {
    format!("({} AND {})", may_have_arn(arns.clone()), is_one_of("arn", arns))
}

/// Returns a condition on a narrow column that holds for all events whose caller's ARN is one of `arns`, and for few others.
pub(super) fn may_have_arn<'v>(arns: impl IntoIterator<Item = &'v str>) -> String {
    has_hash("arn_hash", arns)
}

/// Returns the condition for `column` to be the hash of one of `values`. A search tests it before it reads wide columns.
fn has_hash<'v>(column: &str, values: impl IntoIterator<Item = &'v str>) -> String {
    let hashes: BTreeSet<i16> = values.into_iter().map(search_hash).collect();
    if hashes.is_empty() {
        return "FALSE".to_owned();
    }
    let hashes: Vec<String> = hashes.iter().map(i16::to_string).collect();
    format!("({column} IS NULL OR {column} IN ({}))", hashes.join(", "))
}

/// Texts and identities that many events share.
#[derive(Debug, Default)]
struct Names {
    texts: HashSet<Arc<str>>,
    identities: HashSet<Arc<Identity>>,
    /// How many were left when unused ones were last dropped.
    kept: usize,
}

/// How many more names there may be than twice those in use, before unused ones are dropped.
const MAX_UNUSED_NAMES: usize = 100_000;

impl Names {
    /// Drops what nothing else holds, if there is much more than after the last time.
    fn forget_unused(&mut self) {
        if self.texts.len() + self.identities.len() <= 2 * self.kept + MAX_UNUSED_NAMES {
            return;
        }
        self.identities.retain(|identity| Arc::strong_count(identity) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.kept = self.texts.len() + self.identities.len();
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn identity(&mut self, identity: Identity) -> Arc<Identity> {
        if let Some(known) = self.identities.get(&identity) {
            return Arc::clone(known);
        }
        let identity = Arc::new(identity);
        self.identities.insert(Arc::clone(&identity));
        identity
    }
}

/// The rows of a batch.
struct Rows<'b> {
    batch: &'b RecordBatch,
    times: &'b TimestampMicrosecondArray,
    names: &'b RefCell<Names>,
}

impl<'b> Rows<'b> {
    fn new(batch: &'b RecordBatch, names: &'b RefCell<Names>) -> Result<Self, Error> {
        Ok(Rows { batch, times: named_columns::times(batch, "event_time")?, names })
    }

    /// Returns the text of a cell, unless it is empty.
    fn cell(&self, column: &str, row: usize) -> Result<Option<&'b str>, Error> {
        let column: &StringArray = named_columns::texts(self.batch, column)?;
        Ok(column.is_valid(row).then(|| column.value(row)).filter(|text| !text.is_empty()))
    }

    fn text(&self, column: &str, row: usize) -> Result<Option<Arc<str>>, Error> {
        Ok(self.cell(column, row)?.map(|text| self.names.borrow_mut().text(text)))
    }

    fn time(&self, row: usize) -> Option<Instant> {
        self.times.is_valid(row).then(|| Instant::from_micros(self.times.value(row)))
    }

    fn identity(&self, row: usize) -> Result<Identity, Error> {
        Identity::of(|column| self.text(column, row))
    }

    fn event(&self, row: usize) -> Result<TracedEvent, Error> {
        let shown = |column| Ok::<_, Error>(self.text(column, row)?.unwrap_or_default());
        let sign_in = self.cell("sign_in", row)?.filter(|result| *result == SIGN_IN_FAILED);
        let error = self.cell("error_code", row)?.or(sign_in);
        let identity = self.identity(row)?;
        let mut names = self.names.borrow_mut();
        let error = error.map(|error| names.text(error));
        let identity = names.identity(identity);
        drop(names);
        Ok(TracedEvent {
            time: self.time(row),
            id: self.cell("event_id", row)?.unwrap_or_default().into(),
            shared_id: self.cell("shared_id", row)?.map(Arc::from),
            source: shown("event_source")?,
            name: shown("event_name")?,
            region: shown("region")?,
            account: shown("account")?,
            address: shown("address")?,
            error,
            is_read: self.cell("access", row)?.map(|access| access == "read"),
            identity,
        })
    }

    fn issuing(&self, row: usize) -> Result<Option<IssuingRecord>, Error> {
        let event = self.event(row)?;
        let mut columns = Vec::with_capacity(ISSUE_COLUMNS.len());
        for (name, _) in ISSUE_COLUMNS {
            columns.push((*name, self.text(name, row)?));
        }
        let column = |name: &str| columns.iter().find(|(own, _)| *own == name).and_then(|(_, text)| text.clone());
        Ok(IssuingRecord::of(event, self.cell("sign_in", row)?, column))
    }
}
