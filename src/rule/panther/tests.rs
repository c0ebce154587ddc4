//! Reads the `Tests` of a rule: of one record (`Log`), and of several (`Logs`).

use serde_json::{Map, Value};

use super::super::condition::{MappingMembers, Reader};
use super::super::lint::Code;
use super::super::python::Mock;
use super::super::python::event::Json;
use super::super::yaml::{Mark, YamlContent, YamlNode};
use super::super::{ExpectedEvents, ExpectedFinding, Field, HuntTest, RuleTest};
use crate::error::Error;
use crate::time::{self, Instant, Period};

/// The member of a record that says how often a test repeats it.
const REPEAT: &str = "Repeat";

/// Maximum number of records of a test.
const MAX_LOGS: usize = 10_000;

const TEST: &[&str] =
    &["Name", "ExpectedResult", "Log", "ExpectedFindings", "Logs", "LogType", "Mocks", "ExpectedDestinations"];

impl Reader<'_> {
    /// Returns the tests of one record.
    pub(super) fn tests(&mut self, members: &MappingMembers<'_>) -> Result<Vec<RuleTest>, Error> {
        let mut tests = Vec::new();
        for (mark, test, mocks) in self.tests_with_mocks(members)? {
            if mocks.is_empty() {
                tests.push(test);
            } else {
                let message = "this test is left out: `Mocks` replace Python functions, and the rule has none";
                self.warn(mark, Code::UnrunTest, message.to_owned());
            }
        }
        Ok(tests)
    }

    /// Returns the tests of one record with their places, and with the values that they put in place of functions.
    pub(super) fn tests_with_mocks(
        &mut self,
        members: &MappingMembers<'_>,
    ) -> Result<Vec<(Mark, RuleTest, Vec<Mock>)>, Error> {
        let mut tests = Vec::new();
        for node in self.optional_list(members, "Tests")? {
            let test = self.members(node, "`Tests`", TEST)?;
            if is_hunt_test(&test) {
                continue;
            }
            let mut mocks = Vec::new();
            let mut mark = node.mark;
            if let Some(given) = test.get("Mocks") {
                mark = given.mark;
                for mock in self.list(given, "`Mocks`")? {
                    let mock = self.members(mock, "`Mocks`", &["objectName", "returnValue"])?;
                    let name = self.text(self.required(&mock, "objectName")?, "`objectName`")?;
                    let value = mock.get("returnValue").and_then(|value| Json::parse(&value.to_json()));
                    mocks.push(Mock { name, value: value.unwrap_or(Json::Null) });
                }
            }
            let log = self.required(&test, "Log")?;
            let test = RuleTest {
                name: self.text(self.required(&test, "Name")?, "`Name`")?,
                expected: self.flag(self.required(&test, "ExpectedResult")?, "`ExpectedResult`")?,
                log: self.log(log, "`Log`")?,
            };
            tests.push((mark, test, mocks));
        }
        Ok(tests)
    }

    fn log(&self, log: &YamlNode, key: &str) -> Result<String, Error> {
        if matches!(log.content, YamlContent::Map(_)) {
            return Ok(log.to_json());
        }
        self.error(log.mark, &format!("{key} must be a mapping, the record, and this is {}", log.kind()))
    }

    /// Returns the tests of several records. `group` is what the rule groups by.
    pub(super) fn hunt_tests(&mut self, members: &MappingMembers<'_>, group: &[Field]) -> Result<Vec<HuntTest>, Error> {
        let mut tests = Vec::new();
        for node in self.optional_list(members, "Tests")? {
            let test = self.members(node, "`Tests`", TEST)?;
            if !is_hunt_test(&test) {
                continue;
            }
            for key in ["Log", "ExpectedResult"] {
                if let Some(node) = test.given(key) {
                    let message =
                        format!("`{key}`: a test has `Log` and `ExpectedResult`, or `Logs` and `ExpectedFindings`");
                    return self.error(node.mark, &message);
                }
            }
            let name = self.text(self.required(&test, "Name")?, "`Name`")?;
            let logs = self.logs(self.required(&test, "Logs")?)?;
            let expected = self.required(&test, "ExpectedFindings")?;
            let expected = self.expected_findings(expected, logs.len(), group)?;
            if let Some(mocks) = test.get("Mocks") {
                let message = format!("the test `{name}` is left out: `Mocks` have no effect on a hunt of `Logs`");
                self.warn(mocks.mark, Code::UnrunTest, message);
            } else {
                tests.push(HuntTest { name, logs, expected });
            }
        }
        Ok(tests)
    }

    /// Returns the records of a test, with all copies of repeated ones. Windows need their times.
    fn logs(&self, node: &YamlNode) -> Result<Vec<String>, Error> {
        let logs = self.list(node, "`Logs`")?;
        if logs.is_empty() {
            return self.error(node.mark, "`Logs` must hold at least one record");
        }
        let texts = |log: &YamlNode| {
            let text = self.log(log, "each of `Logs`")?;
            let YamlContent::Map(members) = &log.content else { return Ok(vec![text]) };
            let repeat = members.iter().find(|(key, _)| key.as_text() == Some(REPEAT));
            let is_time = |key: &YamlNode| key.as_text().is_some_and(|key| key.eq_ignore_ascii_case("eventTime"));
            let time = members.iter().find(|(key, _)| is_time(key)).map(|(_, time)| time);
            match time.map(|time| (time, time.as_text().and_then(time::parse_event_time))) {
                Some((_, Some(first))) => match repeat {
                    None => Ok(vec![text]),
                    Some((_, repeat)) => self.repeated(&text, first, repeat),
                },
                Some((time, None)) => {
                    self.error(time.mark, "`eventTime` must be a time, such as \"2026-09-01T10:00:00Z\"")
                }
                None => self.error(log.mark, "each of `Logs` must have an `eventTime`: windows need it"),
            }
        };
        let texts = logs.iter().map(texts).collect::<Result<Vec<_>, _>>()?.concat();
        if texts.len() > MAX_LOGS {
            return self.error(node.mark, &format!("`Logs` holds {} records, more than {MAX_LOGS}", texts.len()));
        }
        Ok(texts)
    }

    /// Returns a record as often as `repeat` says. Each copy is later than the one before, and has its own `eventID`.
    fn repeated(&self, text: &str, first: Instant, repeat: &YamlNode) -> Result<Vec<String>, Error> {
        let given = self.members(repeat, "`Repeat`", &["Times", "Every"])?;
        let times = self.required(&given, "Times")?;
        let Some(count) = whole_number(times).filter(|count| (1..=MAX_LOGS).contains(count)) else {
            return self.error(times.mark, &format!("`Times` must be a whole number from 1 to {MAX_LOGS}"));
        };
        let every = self.required(&given, "Every")?;
        let Some(period) = every.as_text().and_then(|text| text.parse::<Period>().ok()) else {
            return self.error(every.mark, "`Every` must be a period, such as 30s, 5m or 1h");
        };
        let Ok(mut record) = serde_json::from_str::<Map<String, Value>>(text) else {
            return self.error(repeat.mark, "this record cannot be repeated");
        };
        record.remove(REPEAT);
        let id = record.iter().find(|(key, _)| key.eq_ignore_ascii_case("eventID"));
        let id = id.map(|(key, id)| (key.clone(), id.as_str().unwrap_or_default().to_owned()));
        record.retain(|key, _| !key.eq_ignore_ascii_case("eventTime"));
        let copy = |number: usize| {
            let mut copy = record.clone();
            let since = i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(period.micros());
            copy.insert("eventTime".to_owned(), Value::from((first + since).to_string()));
            if let Some((key, id)) = &id {
                copy.insert(key.clone(), Value::from(format!("{id}-{}", number + 1)));
            }
            Value::Object(copy).to_string()
        };
        Ok((0..count).map(copy).collect())
    }

    fn expected_findings(&self, node: &YamlNode, logs: usize, group: &[Field]) -> Result<Vec<ExpectedFinding>, Error> {
        if let YamlContent::List(findings) = &node.content {
            let finding = |node| {
                self.expected_finding(
                    &self.members(node, "a finding of `ExpectedFindings`", &["Group", "Events"])?,
                    group,
                )
            };
            return findings.iter().map(finding).collect();
        }
        let expected = self.members(node, "`ExpectedFindings`", &["Count", "Group", "Events"])?;
        let count = self.required(&expected, "Count")?;
        let Some(number) = whole_number(count) else {
            return self.error(count.mark, "`Count` must be a whole number from 0");
        };
        if number > logs {
            let message = format!("`Count` is {number}, more than the number of `Logs`, {logs}");
            return self.error(count.mark, &message);
        }
        if number == 0
            && let Some(node) = expected.get("Group").or(expected.get("Events"))
        {
            return self.error(node.mark, "`Group` and `Events` are those of findings, and `Count` is 0");
        }
        Ok(vec![self.expected_finding(&expected, group)?; number])
    }

    fn expected_finding(&self, members: &MappingMembers<'_>, group: &[Field]) -> Result<ExpectedFinding, Error> {
        let mut finding = ExpectedFinding::default();
        if let Some(node) = members.get("Group") {
            let YamlContent::Map(values) = &node.content else {
                return self.error(node.mark, "`Group` must be a mapping of fields of `GroupBy` to their values");
            };
            for (key, value) in values {
                let name = key.as_text().unwrap_or_default();
                let names: Vec<String> = group.iter().map(ToString::to_string).collect();
                let Some(name) = names.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                    let has =
                        if names.is_empty() { String::new() } else { format!(", which has {}", names.join(", ")) };
                    return self.error(key.mark, &format!("`{name}` is not a field of the rule's `GroupBy`{has}"));
                };
                let is_scalar = matches!(value.content, YamlContent::Scalar { .. });
                if !is_scalar {
                    return self.error(value.mark, "the value of a field of `Group` must be a text, or null");
                }
                finding.group.push((name.clone(), value.as_text().map(str::to_owned)));
            }
        }
        if let Some(node) = members.get("Events") {
            finding.events = Some(match (&node.content, whole_number(node)) {
                (YamlContent::List(ids), _) => {
                    let ids = ids.iter().map(|id| self.text(id, "an id of `Events`"));
                    let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
                    ids.sort_unstable();
                    ExpectedEvents::Ids(ids)
                }
                (_, Some(count)) => ExpectedEvents::Count(count as u64),
                _ => return self.error(node.mark, "`Events` must be a whole number, or a list of values of `eventID`"),
            });
        }
        Ok(finding)
    }
}

/// Returns whether a test has several records.
fn is_hunt_test(test: &MappingMembers<'_>) -> bool {
    test.given("Logs").is_some() || test.given("ExpectedFindings").is_some()
}

fn whole_number(node: &YamlNode) -> Option<usize> {
    node.as_text().filter(|_| node.is_number()).and_then(|text| text.parse().ok())
}
