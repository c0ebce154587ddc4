//! What a run leaves to the next: a small file beside the lake, whose numbered versions are each created by one run only.
//!
//! ```text
//! LAKE/_tawny/nightly/NAME/00000012.json              the state that run 12 left
//! LAKE/_tawny/nightly/NAME/lines/00000012-<hash>.jsonl  what run 12 had to deliver
//! LAKE/_tawny/nightly/NAME/known/00000012-2026-09-01-<hash>.jsonl  the findings known with a trigger on a day, by run 12
//! LAKE/_tawny/nightly/NAME/delivered/00000012.SINK    which lines of run 12 a sink has not taken
//! ```
//!
//! Files other than states count only where a state names them, so that a run that breaks off leaves nothing that is seen.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::lake::Lake;
use crate::sink::Line;
use crate::store::{self, Folder, FolderWriter, LAKE_FOLDER, Scratch, hex};
use crate::time::{self, DAY, Instant, Range};

/// The version of the state's own format.
const STATE_VERSION: u32 = 2;

/// Files that are read at a time.
const AT_A_TIME: usize = 16;

/// The state that a run left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The version of the format, `STATE_VERSION`.
    pub state_version: u32,
    /// The number of the run; 0 before the first.
    pub run: u32,
    /// What tells this run from any other that would be of the same number.
    pub id: String,
    /// What tells the runs of this state from those of any other, wherever that lies: made by the first of them.
    #[serde(default)]
    pub origin: String,
    /// The time that was now for the run; absent before the first.
    pub now: Option<Instant>,
    /// For each source, with what is asked of it, when it was listed: objects delivered before are known.
    pub listed: BTreeMap<String, Instant>,
    /// Findings triggered before were of no interest.
    pub since: Option<Instant>,
    /// Commits of the lake's ledger that were hunted: up to this number.
    pub hunted_commits: u32,
    /// The latest time of an event that was hunted: the watermark.
    pub newest_event: Option<Instant>,
    /// For each account and region, written `account/region`, its newest event.
    pub newest: BTreeMap<String, Instant>,
    /// For each rule the version it was hunted with.
    pub rules: BTreeMap<String, String>,
    /// The known findings, by the day of their trigger: a date, UTC.
    pub known: BTreeMap<String, Day>,
    /// What was to be delivered when the run ended its hunt, oldest first.
    pub deliveries: Vec<Owed>,
    /// Objects that could not be read; they are tried again.
    pub pending: Vec<PendingObject>,
}

/// Findings with a trigger on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    /// The file that lists them.
    pub file: String,
    /// How many.
    pub findings: usize,
    /// Their first event.
    pub first: Instant,
    /// Their last event.
    pub last: Instant,
}

/// Lines that a sink has yet to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owed {
    /// The sink's name.
    pub sink: String,
    /// The run whose lines they are.
    pub run: u32,
    /// The file that holds them.
    pub file: String,
    /// How many.
    pub lines: usize,
    /// The places, in the file, of those that it has not taken; all where it was given none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Vec<usize>>,
}

impl Owed {
    /// How many lines it has not taken.
    pub fn count(&self) -> usize {
        self.left.as_ref().map_or(self.lines, Vec::len)
    }
}

/// An object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingObject {
    /// Its path.
    pub object: String,
    /// Why not.
    pub reason: String,
    /// The run that found it so first.
    pub since_run: u32,
}

/// A finding that was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its id.
    pub finding_id: String,
    /// The rule.
    pub rule_id: String,
    /// The last revision that was delivered.
    pub revision: u32,
    /// Whether it was superseded or withdrawn.
    pub gone: bool,
    /// A hash of all that it tells.
    pub digest: String,
    /// Its first event, in microseconds.
    pub first: i64,
    /// Its last event, in microseconds.
    pub last: i64,
    /// Its trigger, in microseconds.
    pub trigger: i64,
    /// The group.
    pub group: Map<String, Value>,
    /// What it is titled.
    pub title: String,
    /// How grave it is.
    pub severity: String,
    /// The names of the sinks that were to be given it. Absent where an earlier build delivered it: to all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<BTreeSet<String>>,
}

/// The folder of a state, taken for writing.
#[derive(Debug)]
pub struct Store {
    folder: Folder,
    name: String,
    writer: FolderWriter,
}

impl Store {
    /// Takes the state `name` of `lake` for one run.
    ///
    /// # Errors
    /// Besides what the store says, [`Error::Busy`] where another run on this machine has it.
    pub async fn open(lake: &Lake, name: &str, scratch: &Scratch) -> Result<Store, Error> {
        let own = own(name);
        let folder = lake.folder().clone();
        let Some(writer) = FolderWriter::open(&folder, &own, scratch).await? else {
            return Err(Error::Busy { lake: lake.path() });
        };
        Ok(Store { folder, name: own, writer })
    }

    /// The state that the last run left, without what sinks have taken since.
    pub async fn last(&self) -> Result<State, Error> {
        last(&self.folder, &self.name).await
    }

    /// The known findings of the days that hold any with an event or a trigger in one of `ranges`.
    pub async fn known(&self, state: &State, ranges: &[Range]) -> Result<BTreeMap<String, Vec<Known>>, Error> {
        let mut touched = Vec::new();
        for (date, day) in &state.known {
            let begin = time::parse_instant(date).map_err(|_| Error::Internal(format!("`{date}` passed as a date")))?;
            let (first, last) = (day.first.micros().min(begin), day.last.micros().max(begin.saturating_add(DAY)));
            if ranges.iter().any(|range| range.overlaps(first, last)) {
                touched.push((date.clone(), day));
            }
        }
        let read = |(date, day): (String, &Day)| {
            let name = self.path(&day.file);
            let findings = day.findings;
            async move { Ok::<_, Error>((date, self.lines_of(&name, findings).await?)) }
        };
        let reads: Vec<_> = touched.into_iter().map(read).collect();
        futures::stream::iter(reads).buffered(AT_A_TIME).try_collect().await
    }

    /// Reads a file of `count` lines of JSON.
    async fn lines_of<T: DeserializeOwned>(&self, name: &str, count: usize) -> Result<Vec<T>, Error> {
        let text = self.folder.read_text(name).await?;
        let damaged = |reason: String| Error::State { path: self.folder.path(name), reason };
        let line = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| damaged(format!("line {}: {error}", number + 1)))
        };
        let lines: Vec<T> = text.lines().enumerate().map(line).collect::<Result<_, _>>()?;
        if lines.len() != count {
            return Err(damaged(format!("it has {} lines, and the state names {count}", lines.len())));
        }
        Ok(lines)
    }

    /// Writes the known findings of a day, as `run` leaves them.
    pub async fn keep_known(&self, run: u32, date: &str, known: &[Known]) -> Result<Day, Error> {
        let bytes = jsonl(known)?;
        let file = format!("known/{run:08}-{date}-{}.jsonl", digest(&bytes));
        self.writer.stage(&self.path(&file), bytes.into()).await?.publish()?;
        let first = known.iter().map(|known| known.first).min();
        let last = known.iter().map(|known| known.last).max();
        let Some((first, last)) = first.zip(last) else {
            return Err(Error::Internal(format!("a day without known findings: {date}")));
        };
        let [first, last] = [first, last].map(Instant::from_micros);
        Ok(Day { file, findings: known.len(), first, last })
    }

    /// Writes the lines of a run; the name of their file.
    pub async fn keep_lines(&self, run: u32, lines: impl Iterator<Item = &Line>) -> Result<String, Error> {
        let bytes = jsonl(lines)?;
        let file = format!("lines/{run:08}-{}.jsonl", digest(&bytes));
        self.writer.stage(&self.path(&file), bytes.into()).await?.publish()?;
        Ok(file)
    }

    /// The lines that are owed.
    pub async fn lines(&self, owed: &Owed) -> Result<Vec<Line>, Error> {
        let name = self.path(&owed.file);
        let lines: Vec<Line> = self.lines_of(&name, owed.lines).await?;
        if let Some(reason) = lines.iter().enumerate().find_map(|(number, line)| damaged_line(number + 1, line)) {
            return Err(Error::State { path: self.folder.path(&name), reason });
        }
        match owed.left.iter().flatten().find(|place| **place >= lines.len()) {
            None => Ok(lines),
            Some(place) => {
                let reason = format!("it has {} lines, and `{}` is owed number {place}", lines.len(), owed.sink);
                Err(Error::State { path: self.folder.path(&name), reason })
            }
        }
    }

    /// Makes `state` the last one. From here on what the run found counts.
    ///
    /// # Errors
    /// Besides what the store says, [`Error::Busy`] where another run has left a state with this number.
    pub async fn commit(&self, state: &State) -> Result<(), Error> {
        let internal = |error: serde_json::Error| Error::Internal(format!("a nightly state: {error}"));
        let mut text = serde_json::to_vec_pretty(state).map_err(internal)?;
        text.push(b'\n');
        if self.writer.create(&self.path(&state_name(state.run)), text.into()).await? {
            return Ok(());
        }
        Err(Error::Busy { lake: self.folder.path("") })
    }

    /// Notes which of the lines that a sink was owed it has not taken.
    pub async fn delivered(&self, owed: &Owed, left: &[usize]) -> Result<(), Error> {
        let name = self.path(&format!("delivered/{}", delivered_name(owed)));
        let text = serde_json::to_vec(left).map_err(|error| Error::Internal(format!("places: {error}")))?;
        self.writer.stage(&name, text.into()).await?.publish()
    }

    /// Deletes what runs before `kept` left and `state`, the last one, does not name. How many files that were.
    ///
    /// What a run of now has written and no state names yet bears its own number, and so is not touched.
    pub async fn clear(&self, state: &State, kept: u32) -> Result<usize, Error> {
        let owed = state.deliveries.iter().map(|owed| owed.file.as_str());
        let counting: BTreeSet<&str> = state.known.values().map(|day| day.file.as_str()).chain(owed).collect();
        let noted: BTreeSet<String> = state.deliveries.iter().map(delivered_name).collect();
        let mut old = Vec::new();
        for folder in ["", "lines/", "known/", "delivered/"] {
            let names = self.folder.names(self.path(folder).trim_end_matches('/')).await?;
            let files = names.iter().filter(|name| run(name).is_some_and(|run| run < kept) && !noted.contains(*name));
            old.extend(files.map(|name| format!("{folder}{name}")).filter(|file| !counting.contains(file.as_str())));
        }
        for file in &old {
            self.writer.delete(&self.path(file)).await?;
        }
        Ok(old.len())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }
}

/// The state that the last run left in the folder `name` of a lake's `folder`, without what sinks have taken since.
async fn last(folder: &Folder, name: &str) -> Result<State, Error> {
    let path = |file: &str| format!("{name}/{file}");
    let Some(number) = numbers(folder, name).await?.into_iter().max() else {
        return Ok(State { state_version: STATE_VERSION, ..State::default() });
    };
    let name = path(&state_name(number));
    let text = folder.read_text(&name).await?;
    let damaged = |reason: String| Error::State { path: folder.path(&name), reason };
    let members = serde_json::from_str::<Value>(&text).map_err(|error| damaged(error.to_string()))?;
    if members.get("state_version").and_then(Value::as_u64) != Some(STATE_VERSION.into()) {
        return Err(damaged(format!("it is of another version than {STATE_VERSION}, which this build reads")));
    }
    if let Some(reason) = damaged_time(&members) {
        return Err(damaged(reason));
    }
    let mut state: State = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if state.run != number {
        return Err(damaged(format!("`run` is {}, and its name says {number}", state.run)));
    }
    let days = state.known.values().map(|day| &day.file);
    let owed = state.deliveries.iter().flat_map(|owed| [&owed.file, &owed.sink]);
    if let Some(outside) = days.chain(owed).find(|name| !store::stays_within(name)) {
        return Err(damaged(format!("it names {outside:?}, which is no place beside it")));
    }
    let noted: BTreeSet<String> = folder.names(&path("delivered")).await?.into_iter().collect();
    for owed in &mut state.deliveries {
        if noted.contains(&delivered_name(owed)) {
            let name = path(&format!("delivered/{}", delivered_name(owed)));
            let left = serde_json::from_str(&folder.read_text(&name).await?);
            let damaged =
                |error: serde_json::Error| Error::State { path: folder.path(&name), reason: error.to_string() };
            owed.left = Some(left.map_err(damaged)?);
        }
    }
    state.deliveries.retain(|owed| owed.count() > 0);
    Ok(state)
}

/// Why the value of `field` is not a time, where it has one.
fn unread(field: &str, time: &Value) -> Option<String> {
    let reason = match time {
        Value::String(text) => text.parse::<Instant>().err().map(|reason| format!("{text:?}: {reason}")),
        Value::Null => None,
        other => Some(format!("{other}: expected a time as text")),
    };
    reason.map(|reason| format!("`{field}` is {reason}"))
}

/// What a line lacks by which every sink knows a finding.
fn damaged_line(number: usize, line: &Line) -> Option<String> {
    let texts = ["finding_id", "rule_id", "first_event", "last_event", "trigger_time"];
    let missing = texts.into_iter().find(|name| !line.get(*name).is_some_and(Value::is_string));
    let revision = || (!line.get("revision").is_some_and(Value::is_u64)).then_some("revision");
    if let Some(name) = missing.or_else(revision) {
        return Some(format!("line {number}: it has no `{name}`"));
    }
    let times = texts.into_iter().skip(2).filter_map(|name| unread(name, line.get(name)?));
    times.map(|reason| format!("line {number}: {reason}")).next()
}

/// Which time of a state cannot be read, and why.
fn damaged_time(state: &Value) -> Option<String> {
    let members = |field: &str| state.get(field).and_then(Value::as_object).into_iter().flatten();
    for field in ["now", "since", "newest_event"] {
        if let Some(reason) = state.get(field).and_then(|time| unread(field, time)) {
            return Some(reason);
        }
    }
    for field in ["listed", "newest"] {
        if let Some(reason) = members(field).find_map(|(name, time)| unread(&format!("{field}.{name}"), time)) {
            return Some(reason);
        }
    }
    members("known").find_map(|(date, day)| {
        let of_day = ["first", "last"].into_iter().filter_map(|end| Some((end, day.get(end)?)));
        let date_itself = unread("known", &Value::from(date.as_str()));
        date_itself.or_else(|| of_day.into_iter().find_map(|(end, time)| unread(&format!("known.{date}.{end}"), time)))
    })
}

/// Makes sure that the lake has the commits that `state`, of this `name`, says were hunted. Where it has fewer, it is
/// another lake or was put back to an earlier time, and commits to come would count as hunted.
pub async fn check_hunted(lake: &Lake, name: &str, state: &State) -> Result<(), Error> {
    let commits = if state.hunted_commits > 0 { lake.transaction_log().last_commit().await? } else { 0 };
    if state.hunted_commits <= commits {
        return Ok(());
    }
    let path = lake.folder().path(&format!("{}/{}", own(name), state_name(state.run)));
    let reason = format!("`hunted_commits` is {}, but the lake's transaction log has {commits}", state.hunted_commits);
    Err(Error::State { path, reason })
}

/// The state that the last run left; nothing is taken for writing.
pub async fn look(lake: &Lake, name: &str) -> Result<State, Error> {
    last(lake.folder(), &own(name)).await
}

/// The folder of the state `name` in a lake.
fn own(name: &str) -> String {
    format!("{LAKE_FOLDER}/nightly/{name}")
}

/// The numbers of the states in a folder.
async fn numbers(folder: &Folder, name: &str) -> Result<Vec<u32>, Error> {
    let names = folder.names(name).await?;
    let stems = names.iter().filter_map(|name| name.strip_suffix(".json")).filter(|stem| stem.len() == 8);
    Ok(stems.filter_map(run).collect())
}

/// The number of the run whose file this is.
fn run(name: &str) -> Option<u32> {
    name.get(..8).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

fn state_name(number: u32) -> String {
    format!("{number:08}.json")
}

fn delivered_name(owed: &Owed) -> String {
    format!("{:08}.{}", owed.run, owed.sink)
}

/// The first hexadecimal digits of the hash of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn jsonl(rows: impl IntoIterator<Item = impl Serialize>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, &row).map_err(|error| Error::Internal(format!("a line: {error}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
