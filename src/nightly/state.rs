//! The state that a run leaves to the next. Each run writes one numbered state file. No two runs can write the same
//! number.
//!
//! ```text
//! LAKE/_tawny/nightly/NAME/00000012.json              the state of run 12
//! LAKE/_tawny/nightly/NAME/lines/00000012-<hash>.jsonl  the lines that run 12 had to deliver
//! LAKE/_tawny/nightly/NAME/known/00000012-2026-09-01-<hash>.jsonl  known findings triggered on a day, as of run 12
//! LAKE/_tawny/nightly/NAME/seen/00000012-<hash>.jsonl  keys of earlier matches, for rules whose matches must be new
//! LAKE/_tawny/nightly/NAME/delivered/00000012.SINK    indices of the lines of run 12 still to deliver to a sink
//! ```
//!
//! Other files count only if a state lists them. An interrupted run therefore leaves nothing visible.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::seen::{SeenFile, SeenLine};
use crate::error::Error;
use crate::hunt::account_starts::AccountStarts;
use crate::hunt::known_data::EventTimes;
use crate::lake::Lake;
use crate::lake::transaction_log::LakeIdentity;
use crate::sink::Line;
use crate::store::{self, Folder, FolderWriter, LAKE_FOLDER, Scratch, WriterLock, hex};
use crate::time::{DAY, Instant, Range, as_micros};

/// The version of the format of the state.
const STATE_VERSION: u32 = 2;

/// Files that are read concurrently.
const CONCURRENT_READS: usize = 16;

/// The state of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The version of the format, `STATE_VERSION`.
    pub state_version: u32,
    /// Number of the run; 0 before the first.
    pub run: u32,
    /// A random text that distinguishes this run from another with the same number.
    pub id: String,
    /// A random text that the first run chooses. It distinguishes this state from any other.
    #[serde(default)]
    pub origin: String,
    /// The time that the run used as the current time. Absent before the first run.
    pub now: Option<Instant>,
    /// When each source was listed, by path and selection. Objects delivered earlier are known.
    pub listed: BTreeMap<String, Instant>,
    /// Earliest trigger of a finding that the run looked for.
    pub since: Option<Instant>,
    /// Number of the last commit of the lake that was hunted.
    pub hunted_commits: u64,
    /// What identifies the lake and that commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lake: Option<LakeIdentity>,
    /// Time of the latest event that was hunted: the watermark.
    pub newest_event: Option<Instant>,
    /// Time of the latest event of each account and region, written `account/region`.
    pub newest: BTreeMap<String, Instant>,
    /// The first event of each account in the lake, if a rule has a learning time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_starts: Option<RetainedStarts>,
    /// The first and the last event in the lake, if a rule looks for absent events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_times: Option<EventTimes>,
    /// The keys of earlier matches, if matches of a rule must be new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenFile>,
    /// The version with which each rule was hunted, by rule id.
    pub rules: BTreeMap<String, String>,
    /// The known findings, by UTC date of their trigger.
    pub known: BTreeMap<String, KnownDay>,
    /// Deliveries still to do at the commit of the state, oldest first.
    pub deliveries: Vec<PendingDelivery>,
    /// Objects that could not be read. The next run tries them again.
    pub pending: Vec<PendingObject>,
}

/// The first event of each account in what the lake held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetainedStarts {
    /// The first events.
    pub starts: AccountStarts,
    /// The time before which records were dropped.
    pub retained_from: Option<Instant>,
}

/// The known findings triggered on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownDay {
    /// The file that lists the findings.
    pub file: String,
    /// Number of findings.
    pub findings: usize,
    /// Earliest event of the findings.
    pub first: Instant,
    /// Latest event of the findings.
    pub last: Instant,
}

/// Lines that still have to be delivered to a sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingDelivery {
    /// The sink's name.
    pub sink: String,
    /// The run that wrote the lines.
    pub run: u32,
    /// The file of the lines.
    pub file: String,
    /// Number of lines in the file.
    pub lines: usize,
    /// Indices of the lines to deliver; absent for all.
    #[serde(rename = "left", default, skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<Vec<usize>>,
}

impl PendingDelivery {
    /// Returns the number of lines to deliver.
    pub fn count(&self) -> usize {
        self.undelivered.as_ref().map_or(self.lines, Vec::len)
    }
}

/// An object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingObject {
    /// Its path.
    pub object: String,
    /// Why it could not be read.
    pub reason: String,
    /// The first run that could not read it.
    pub since_run: u32,
}

/// A finding that was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFinding {
    /// Its id.
    pub finding_id: String,
    /// Id of the rule.
    pub rule_id: String,
    /// Last revision that was delivered.
    pub revision: u32,
    /// Whether it was superseded or withdrawn.
    pub gone: bool,
    /// A hash of its JSON.
    pub digest: String,
    /// Time of its first event.
    #[serde(with = "as_micros")]
    pub first: Instant,
    /// Time of its last event.
    #[serde(with = "as_micros")]
    pub last: Instant,
    /// Time of its trigger.
    #[serde(with = "as_micros")]
    pub trigger: Instant,
    /// Its group.
    pub group: Map<String, Value>,
    /// Its title.
    pub title: String,
    /// Its severity.
    pub severity: String,
    /// Names of the sinks that receive it. Absent if an earlier build delivered it, to all sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<BTreeSet<String>>,
}

/// The files of a state, locked for writing.
#[derive(Debug)]
pub struct StateStore {
    lake: Folder,
    /// Path of the state's folder in the lake.
    folder: String,
    writer: FolderWriter,
}

impl StateStore {
    /// Locks the state `name` of `lake` for one run.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::Busy`] if another run on this machine holds the lock.
    pub async fn open(lake: &Lake, name: &str, scratch: &Scratch) -> Result<StateStore, Error> {
        let folder = state_folder(name);
        lake.check_folder().await?;
        let Some(writer) = FolderWriter::open(lake.folder(), &folder, WriterLock::Exclusive, scratch).await? else {
            return Err(Error::Busy { lake: lake.path() });
        };
        Ok(StateStore { lake: lake.folder().clone(), folder, writer })
    }

    /// Returns the state of the last run, without the lines that were delivered since.
    pub async fn last_state(&self) -> Result<RunState, Error> {
        last_state(&self.lake, &self.folder).await
    }

    /// Returns the known findings of each day with an event or a trigger in one of `ranges`.
    pub async fn known_findings(
        &self,
        state: &RunState,
        ranges: &[Range],
    ) -> Result<BTreeMap<String, Vec<KnownFinding>>, Error> {
        let mut days = Vec::new();
        for (date, day) in &state.known {
            let begin: Instant = date.parse().map_err(|_| Error::Internal(format!("`{date}` is not a date")))?;
            let (first, last) = (day.first.min(begin), day.last.max(begin + DAY));
            if ranges.iter().any(|range| range.overlaps(first, last)) {
                days.push((date.clone(), day));
            }
        }
        let read = |(date, day): (String, &KnownDay)| {
            let name = self.path(&day.file);
            let findings = day.findings;
            async move { Ok::<_, Error>((date, self.read_jsonl(&name, findings).await?)) }
        };
        let reads: Vec<_> = days.into_iter().map(read).collect();
        futures::stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await
    }

    /// Reads a file of `count` lines of JSON.
    async fn read_jsonl<T: DeserializeOwned>(&self, name: &str, count: usize) -> Result<Vec<T>, Error> {
        let text = self.lake.read_text(name).await?;
        let damaged = |reason: String| Error::State { path: self.lake.path(name), reason };
        let line = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| damaged(format!("line {}: {error}", number + 1)))
        };
        let lines: Vec<T> = text.lines().enumerate().map(line).collect::<Result<_, _>>()?;
        if lines.len() != count {
            return Err(damaged(format!("it has {} lines, but the state lists {count}", lines.len())));
        }
        Ok(lines)
    }

    /// Writes the known findings of a day, as of `run`.
    pub async fn write_known_day(&self, run: u32, date: &str, known: &[KnownFinding]) -> Result<KnownDay, Error> {
        let bytes = jsonl(known)?;
        let file = format!("known/{run:08}-{date}-{}.jsonl", digest(&bytes));
        self.writer.stage(&self.path(&file), bytes.into()).await?.publish()?;
        let first = known.iter().map(|known| known.first).min();
        let last = known.iter().map(|known| known.last).max();
        let Some((first, last)) = first.zip(last) else {
            return Err(Error::Internal(format!("{date} has no known findings to write")));
        };
        Ok(KnownDay { file, findings: known.len(), first, last })
    }

    /// Writes the keys of earlier matches, as of `run`, and returns the name of their file.
    pub async fn write_seen(&self, run: u32, lines: impl Iterator<Item = SeenLine>) -> Result<String, Error> {
        let bytes = jsonl(lines)?;
        let file = seen_name(run, &bytes);
        self.writer.stage(&self.path(&file), bytes.into()).await?.publish()?;
        Ok(file)
    }

    /// Reads the keys of earlier matches. `None` if their file is lost or damaged.
    pub async fn seen_lines(&self, seen: &SeenFile) -> Result<Option<Vec<SeenLine>>, Error> {
        let Some(bytes) = self.lake.read_if_present(&self.path(&seen.file)).await? else {
            return Ok(None);
        };
        let run = seen.file.strip_prefix("seen/").and_then(run_number);
        if run.is_none_or(|run| seen_name(run, &bytes) != seen.file) || !seen.before.is_event_time() {
            return Ok(None);
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Writes the lines of a run, and returns the name of their file.
    pub async fn write_lines(&self, run: u32, lines: impl Iterator<Item = &Line>) -> Result<String, Error> {
        let bytes = jsonl(lines)?;
        let file = format!("lines/{run:08}-{}.jsonl", digest(&bytes));
        self.writer.stage(&self.path(&file), bytes.into()).await?.publish()?;
        Ok(file)
    }

    /// Reads the file of lines of a delivery.
    pub async fn lines(&self, delivery: &PendingDelivery) -> Result<Vec<Line>, Error> {
        let name = self.path(&delivery.file);
        let lines: Vec<Line> = self.read_jsonl(&name, delivery.lines).await?;
        if let Some(reason) = lines.iter().enumerate().find_map(|(index, line)| line_error(index + 1, line)) {
            return Err(Error::State { path: self.lake.path(&name), reason });
        }
        match delivery.undelivered.iter().flatten().find(|index| **index >= lines.len()) {
            None => Ok(lines),
            Some(index) => {
                let sink = &delivery.sink;
                let reason = format!("it has {} lines, but line {} is pending for `{sink}`", lines.len(), index + 1);
                Err(Error::State { path: self.lake.path(&name), reason })
            }
        }
    }

    /// Writes `state` as the last one. From now on the findings of the run count.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::Busy`] if another run has written a state with this number.
    pub async fn commit(&self, state: &RunState) -> Result<(), Error> {
        let internal = |error: serde_json::Error| Error::Internal(format!("cannot write the nightly state: {error}"));
        let mut text = serde_json::to_vec_pretty(state).map_err(internal)?;
        text.push(b'\n');
        if self.lake.create(&self.path(&state_name(state.run)), text.into()).await? {
            return Ok(());
        }
        Err(Error::Busy { lake: self.lake.path("") })
    }

    /// Records which lines of a delivery are still to be delivered.
    pub async fn record_undelivered(&self, delivery: &PendingDelivery, undelivered: &[usize]) -> Result<(), Error> {
        let name = self.path(&format!("delivered/{}", delivered_name(delivery)));
        let text = serde_json::to_vec(undelivered).map_err(|error| Error::Internal(error.to_string()))?;
        self.writer.stage(&name, text.into()).await?.publish()
    }

    /// Deletes the files of runs before `oldest_run` that `state`, the last one, does not list. Returns their number.
    ///
    /// The files of a run that is not committed yet carry its own number, so they stay.
    pub async fn delete_old_files(&self, state: &RunState, oldest_run: u32) -> Result<usize, Error> {
        let lines = state.deliveries.iter().map(|delivery| delivery.file.as_str());
        let seen = state.seen.iter().map(|seen| seen.file.as_str());
        let live: BTreeSet<&str> = state.known.values().map(|day| day.file.as_str()).chain(lines).chain(seen).collect();
        let recorded: BTreeSet<String> = state.deliveries.iter().map(delivered_name).collect();
        let mut old = Vec::new();
        for folder in ["", "lines/", "known/", "seen/", "delivered/"] {
            let names = self.lake.names(self.path(folder).trim_end_matches('/')).await?;
            let is_old = |name: &&String| {
                run_number(name).is_some_and(|run| run < oldest_run) && !recorded.contains(name.as_str())
            };
            let files = names.iter().filter(is_old).map(|name| format!("{folder}{name}"));
            old.extend(files.filter(|file| !live.contains(file.as_str())));
        }
        for file in &old {
            self.lake.delete(&self.path(file)).await?;
        }
        Ok(old.len())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }
}

/// Returns the last state in `folder` of a lake, without the lines that were delivered since.
async fn last_state(lake: &Folder, folder: &str) -> Result<RunState, Error> {
    let path = |file: &str| format!("{folder}/{file}");
    let Some(number) = run_numbers(lake, folder).await?.into_iter().max() else {
        return Ok(RunState { state_version: STATE_VERSION, ..RunState::default() });
    };
    let name = path(&state_name(number));
    let text = lake.read_text(&name).await?;
    let damaged = |reason: String| Error::State { path: lake.path(&name), reason };
    let members = serde_json::from_str::<Value>(&text).map_err(|error| damaged(error.to_string()))?;
    if members.get("state_version").and_then(Value::as_u64) != Some(STATE_VERSION.into()) {
        return Err(damaged(format!("it has another version than {STATE_VERSION}, which this build reads")));
    }
    if let Some(reason) = invalid_time(&members) {
        return Err(damaged(reason));
    }
    let mut state: RunState = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if state.run != number {
        return Err(damaged(format!("`run` is {}, but the name of the file says {number}", state.run)));
    }
    let days = state.known.values().map(|day| &day.file).chain(state.seen.iter().map(|seen| &seen.file));
    let deliveries = state.deliveries.iter().flat_map(|delivery| [&delivery.file, &delivery.sink]);
    if let Some(outside) = days.chain(deliveries).find(|name| !store::stays_within(name)) {
        return Err(damaged(format!("it lists {outside:?}, which is not a path within the folder of the state")));
    }
    let recorded: BTreeSet<String> = lake.names(&path("delivered")).await?.into_iter().collect();
    for delivery in &mut state.deliveries {
        if recorded.contains(&delivered_name(delivery)) {
            let name = path(&format!("delivered/{}", delivered_name(delivery)));
            let undelivered = serde_json::from_str(&lake.read_text(&name).await?);
            let damaged = |error: serde_json::Error| Error::State { path: lake.path(&name), reason: error.to_string() };
            delivery.undelivered = Some(undelivered.map_err(damaged)?);
        }
    }
    state.deliveries.retain(|delivery| delivery.count() > 0);
    Ok(state)
}

/// Returns why the value of `field` is not a time. `None` if it is a time or null.
fn time_error(field: &str, time: &Value) -> Option<String> {
    let reason = match time {
        Value::String(text) => text.parse::<Instant>().err().map(|reason| format!("{text:?}: {reason}")),
        Value::Null => None,
        other => Some(format!("{other}: expected a time as text")),
    };
    reason.map(|reason| format!("`{field}` is {reason}"))
}

/// Returns which member that every sink needs is missing or invalid in a line.
fn line_error(number: usize, line: &Line) -> Option<String> {
    let texts = ["finding_id", "rule_id", "first_event", "last_event", "trigger_time"];
    let missing = texts.into_iter().find(|name| !line.get(*name).is_some_and(Value::is_string));
    let revision = || (!line.get("revision").is_some_and(Value::is_u64)).then_some("revision");
    if let Some(name) = missing.or_else(revision) {
        return Some(format!("line {number}: it has no `{name}`"));
    }
    let times = texts.into_iter().skip(2).filter_map(|name| time_error(name, line.get(name)?));
    times.map(|reason| format!("line {number}: {reason}")).next()
}

/// Returns which time in a state is invalid, and why.
fn invalid_time(state: &Value) -> Option<String> {
    let members = |field: &str| state.get(field).and_then(Value::as_object).into_iter().flatten();
    for field in ["now", "since", "newest_event"] {
        if let Some(reason) = state.get(field).and_then(|time| time_error(field, time)) {
            return Some(reason);
        }
    }
    for field in ["listed", "newest"] {
        if let Some(reason) = members(field).find_map(|(name, time)| time_error(&format!("{field}.{name}"), time)) {
            return Some(reason);
        }
    }
    members("known").find_map(|(date, day)| {
        let of_day = ["first", "last"].into_iter().filter_map(|end| Some((end, day.get(end)?)));
        let date_itself = time_error("known", &Value::from(date.as_str()));
        date_itself
            .or_else(|| of_day.into_iter().find_map(|(end, time)| time_error(&format!("known.{date}.{end}"), time)))
    })
}

/// Checks that the lake is the one that the state was made for, with all the commits that it says were hunted.
///
/// In another lake, or in an older copy of this one, new commits would wrongly count as hunted.
pub async fn check_hunted_commits(lake: &Lake, name: &str, state: &RunState) -> Result<(), Error> {
    if state.hunted_commits == 0 && state.lake.is_none() {
        return Ok(());
    }
    let path = lake.folder().path(&format!("{}/{}", state_folder(name), state_name(state.run)));
    let commits = lake.transaction_log().last_commit().await?;
    if state.hunted_commits > commits {
        let reason =
            format!("`hunted_commits` is {}, but the lake's transaction log has {commits}", state.hunted_commits);
        return Err(Error::State { path, reason });
    }
    let Some((hunted, current)) = state.lake.as_ref().zip(lake.transaction_log().identity(state.hunted_commits).await?)
    else {
        return Ok(());
    };
    let is_same_commit = hunted.commit.as_ref().zip(current.commit.as_ref()).is_none_or(|(a, b)| a == b);
    if hunted.table != current.table || !is_same_commit {
        let reason = format!("commit {} of the lake is not the one that was hunted", state.hunted_commits);
        return Err(Error::State { path, reason });
    }
    Ok(())
}

/// Returns the state of the last run, without a lock.
pub async fn read_state(lake: &Lake, name: &str) -> Result<RunState, Error> {
    last_state(lake.folder(), &state_folder(name)).await
}

/// Returns the folder of the state `name` in a lake.
fn state_folder(name: &str) -> String {
    format!("{LAKE_FOLDER}/nightly/{name}")
}

/// Returns the numbers of the states in a folder.
async fn run_numbers(lake: &Folder, folder: &str) -> Result<Vec<u32>, Error> {
    let names = lake.names(folder).await?;
    let stems = names.iter().filter_map(|name| name.strip_suffix(".json")).filter(|stem| stem.len() == 8);
    Ok(stems.filter_map(run_number).collect())
}

/// Returns the number of the run that wrote a file.
fn run_number(name: &str) -> Option<u32> {
    name.get(..8).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn seen_name(run: u32, bytes: &[u8]) -> String {
    format!("seen/{run:08}-{}.jsonl", digest(bytes))
}

fn state_name(number: u32) -> String {
    format!("{number:08}.json")
}

fn delivered_name(delivery: &PendingDelivery) -> String {
    format!("{:08}.{}", delivery.run, delivery.sink)
}

/// Returns the first hexadecimal digits of the SHA-256 of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn jsonl(rows: impl IntoIterator<Item = impl Serialize>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, &row)
            .map_err(|error| Error::Internal(format!("cannot write a line: {error}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
