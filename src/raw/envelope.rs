//! Reads the records in the text of an object, through the envelopes that wrap them.

use serde_json::value::RawValue;

use super::element::Element;
use super::json::{self, MAX_PARTS, Member, Top};
use super::kinds::{
    WHOLE, WRAPPERS, is_json, is_query_result, is_record, member, no_record, other_kind, query_message, text_of,
};
use super::lines::{cause_of, lines_in, next_json_line, next_timed_record, not_json, timed_record};
use super::read_error::ReadError;
use super::{format, split};
use crate::path::{Path, Step};
use crate::store::ReadSettings;

/// How deep envelopes may nest (an SNS message in an SQS body in a log event is three).
const MAX_DEPTH: usize = 8;

/// The most that a text which wraps a record may hold, in bytes, where a record may not hold more: each level that is
/// unwrapped is a copy.
const MAX_WRAPPED: usize = 16 << 20;

/// A CloudTrail record as received.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its JSON text.
    pub text: &'a str,
    /// Its top-level members in order, repeated keys included.
    pub members: Vec<Member<'a>>,
}

/// An item of an object: a record, or something in the place of one.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// A record that the caller's prefilter skipped. It was not parsed.
    PassedOver,
    /// Something known that is not a record. The text names its kind.
    Skipped(&'static str),
    /// Something that should have been a record.
    Rejected {
        /// Its position in the object.
        position: String,
        /// The reason why it cannot be read.
        reason: String,
    },
}

/// Calls `sink` with every item of an object's text, in order. `wanted` tests an element before it is
/// parsed. Only the brackets of a skipped element are known to match.
///
/// # Errors
/// The object as a whole is rejected: it is not JSON, or is cut off. The caller must then discard the earlier items.
pub fn items(
    text: &str,
    settings: &ReadSettings,
    wanted: &dyn Fn(Element<'_>) -> bool,
    sink: &mut dyn FnMut(Item<'_>),
) -> Result<(), ReadError> {
    let mut walk = EnvelopeWalk { settings, unwrap: &settings.unwrap, wanted, sink, seen: 0 };
    if walk.unwrap.is_empty()
        && let Some(elements) = split::elements(text)
    {
        walk.elements(elements.iter(), 0);
        return if walk.seen > MAX_PARTS { Err(ReadError::TooManyRecords) } else { Ok(()) };
    }
    let mut offset = 0;
    // The position up to which lines are counted. A count from the start for each bad line would take quadratic time.
    let (mut line, mut counted) = (1, 0);
    // Whether each line begins with a time.
    let is_timed = timed_record(text.trim_ascii_start()).is_some();
    loop {
        if walk.seen > MAX_PARTS {
            return Err(ReadError::TooManyRecords);
        }
        let rest = &text[offset..];
        let line_start = offset + (rest.len() - rest.trim_ascii_start().len());
        let start = line_start + timed_record(&text[line_start..]).filter(|_| is_timed).unwrap_or_default();
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Top<'_>>();
        match stream.next() {
            None => return Ok(()),
            Some(Ok(top)) => {
                let end = start + stream.byte_offset();
                walk.top(&text[start..end], top);
                offset = end;
            }
            Some(Err(error)) => {
                let next =
                    if is_timed { Some(next_timed_record(text, start)) } else { next_json_line(text, line_start) };
                let Some(next) = next else {
                    return Err(not_json(text, start, &error));
                };
                line += lines_in(&text[counted..line_start]);
                counted = line_start;
                walk.reject(format!("line {line}"), format!("not JSON: {}", cause_of(&error)));
                offset = next;
            }
        }
    }
}

struct EnvelopeWalk<'w> {
    settings: &'w ReadSettings,
    /// The paths that remain to be tried. A value that one path led to is not unwrapped by another.
    unwrap: &'w [Path],
    wanted: &'w dyn Fn(Element<'_>) -> bool,
    sink: &'w mut dyn FnMut(Item<'_>),
    seen: usize,
}

impl EnvelopeWalk<'_> {
    fn top(&mut self, text: &str, top: Top<'_>) {
        match top {
            _ if self.follow_unwrap(text, 0) => {}
            Top::List(elements) => self.elements(texts(&elements), 0),
            Top::Envelope { list, beside } => self.envelope(&list, &beside, 0),
            Top::Object(members) => {
                if (self.wanted)(Element::of_text(text)) {
                    self.object(text, members, 0);
                } else {
                    self.send(Item::PassedOver);
                }
            }
        }
    }

    fn envelope(&mut self, list: &[&RawValue], beside: &[Member<'_>], depth: usize) {
        if text_of(beside, "messageType").as_deref() == Some("CONTROL_MESSAGE") {
            return self.send(Item::Skipped("CloudWatch Logs control message"));
        }
        self.elements(texts(list), depth);
    }

    fn elements<'a>(&mut self, elements: impl IntoIterator<Item = Element<'a>>, depth: usize) {
        for element in elements {
            // Lists of lists: the walk ends, and `items` reports the reason.
            if self.seen > MAX_PARTS {
                return;
            }
            if !(self.wanted)(element) {
                self.send(Item::PassedOver);
            } else if self.unwrap.is_empty()
                && depth <= MAX_DEPTH
                && let Some(members) = element.split(&json::LISTS)
            {
                self.object(element.text(), members, depth);
            } else {
                self.value(element.text(), depth);
            }
        }
    }

    /// A value that may be a record, an envelope, or a list of either.
    fn value(&mut self, text: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.reject_here("envelopes nest too deep");
        }
        if self.follow_unwrap(text, depth) {
            return;
        }
        match serde_json::from_str::<Top<'_>>(text) {
            Ok(Top::List(cells)) if is_query_result(&cells) => match query_message(&cells) {
                Some(message) => self.wrapped(&message, depth),
                None => self.reject_here("a result of Logs Insights without `@message`: query `fields @message`"),
            },
            Ok(Top::List(elements)) => self.elements(texts(&elements), depth + 1),
            Ok(Top::Envelope { list, beside }) => self.envelope(&list, &beside, depth + 1),
            Ok(Top::Object(members)) => self.object(text.trim_ascii(), members, depth),
            Err(error) if text.starts_with('{') => self.reject_here(&format!("broken JSON: {error}")),
            Err(_) => self.reject_here("not a JSON object"),
        }
    }

    /// Continues with the value of the first path of `--unwrap` that exists. Returns false if none exists.
    fn follow_unwrap(&mut self, text: &str, depth: usize) -> bool {
        let paths = self.unwrap;
        let Some(path) = paths.iter().find(|path| leads_somewhere(text, &path.0)) else {
            return false;
        };
        if !(self.wanted)(Element::of_text(text)) {
            self.send(Item::PassedOver);
            return true;
        }
        self.unwrap = &[];
        self.follow(text, &path.0, depth);
        self.unwrap = paths;
        true
    }

    fn follow(&mut self, text: &str, path: &[Step], depth: usize) {
        match path.split_first() {
            None => match serde_json::from_str::<&RawValue>(text).ok().and_then(json::string) {
                Some(inner) => self.wrapped(&inner, depth),
                None => self.value(text, depth + 1),
            },
            Some((Step::Every, rest)) => {
                for element in json::bounded_elements(text).unwrap_or_default() {
                    if self.seen > MAX_PARTS {
                        return;
                    }
                    self.follow(element.get(), rest, depth);
                }
            }
            Some((step, rest)) => match json::at(text, std::slice::from_ref(step)) {
                Some(inner) if leads_somewhere(&inner, rest) => self.follow(&inner, rest, depth),
                _ => self.reject_here("nothing lies at the path that `--unwrap` names"),
            },
        }
    }

    fn object(&mut self, text: &str, members: Vec<Member<'_>>, depth: usize) {
        let whole = members.iter().filter(|(key, _)| WHOLE.contains(&key.as_ref()));
        let mut whole = whole.filter_map(|(_, value)| json::string(value));
        if let Some(inner) = whole.next().filter(|inner| is_json(inner)) {
            return self.wrapped(&inner, depth);
        }
        if is_record(&members) {
            if let Some(kind) = no_record(&members) {
                return self.send(Item::Skipped(kind));
            }
            let most = self.settings.max_record;
            if text.len() > most {
                let size = text.len().div_ceil(1 << 20);
                return self.reject_here(&format!(
                    "the record holds {size} MiB, more than the {} MiB that `--max-record-size` allows",
                    most >> 20
                ));
            }
            return self.send(Item::Record(Record { text, members }));
        }
        let mut other_text = None;
        for wrapper in WRAPPERS {
            let Some(value) = member(&members, wrapper) else {
                continue;
            };
            match value.get().as_bytes().first() {
                Some(b'"') => match json::string(value) {
                    Some(inner) if is_json(&inner) || inner.len() > self.most_wrapped() => {
                        return self.wrapped(&inner, depth);
                    }
                    inner => other_text = other_text.or(inner),
                },
                Some(b'{') => {
                    let holds_record = || json::members(value.get()).is_some_and(|members| is_record(&members));
                    if wrapper == "attributes" && !holds_record() {
                        continue;
                    }
                    if wrapper == "detail" && !holds_record() {
                        return self.send(Item::Skipped("EventBridge event without a record"));
                    }
                    return self.value(value.get(), depth + 1);
                }
                Some(b'[') => return self.value(value.get(), depth + 1),
                _ => {}
            }
        }
        if let Some(kind) = no_record(&members).or_else(|| other_kind(&members)) {
            return self.send(Item::Skipped(kind));
        }
        if let Some(other) = other_text {
            return match format::other_log(&other) {
                Some(kind) => self.send(Item::Skipped(kind)),
                None => self.reject_here("not a CloudTrail record: the text that it wraps is not JSON"),
            };
        }
        self.reject_here(if self.settings.unwrap.is_empty() {
            "not a CloudTrail record: it has no `eventName` and is not a known envelope; `--unwrap` names the path of the record"
        } else {
            "not a CloudTrail record: it has no `eventName` and nothing lies at the path that `--unwrap` names"
        });
    }

    /// Returns the most bytes that a text around a record may hold.
    fn most_wrapped(&self) -> usize {
        MAX_WRAPPED.max(self.settings.max_record)
    }

    fn wrapped(&mut self, inner: &str, depth: usize) {
        let most = self.most_wrapped();
        if inner.len() > most {
            return self.reject_here(&format!("wraps a text of more than {} MiB", most >> 20));
        }
        self.value(inner, depth + 1);
    }

    fn send(&mut self, item: Item<'_>) {
        self.seen += 1;
        (self.sink)(item);
    }

    fn reject(&mut self, position: String, reason: String) {
        self.send(Item::Rejected { position, reason });
    }

    fn reject_here(&mut self, reason: &str) {
        self.reject(format!("record {}", self.seen + 1), reason.to_owned());
    }
}

fn texts<'a>(elements: &'a [&'a RawValue]) -> impl Iterator<Item = Element<'a>> {
    elements.iter().map(|element| Element::of_text(element.get()))
}

/// Returns whether a path leads to a value in the JSON text `text`. Up to its first `[*]` it must lead to a list.
fn leads_somewhere(text: &str, path: &[Step]) -> bool {
    let (before, every) = match path.iter().position(|step| *step == Step::Every) {
        Some(every) => (&path[..every], true),
        None => (path, false),
    };
    json::at(text, before).is_some_and(|found| !every || found.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"eventVersion":"1.09","eventSource":"iam.amazonaws.com","eventName":"ListUsers"}"#;

    fn seen(text: &str) -> Result<Vec<String>, ReadError> {
        seen_with(text, &ReadSettings::default())
    }

    fn unwrapped(text: &str, paths: &[&str]) -> Result<Vec<String>, ReadError> {
        let unwrap = paths.iter().map(|path| path.parse().unwrap()).collect();
        seen_with(text, &ReadSettings { unwrap, ..ReadSettings::default() })
    }

    fn seen_with(text: &str, settings: &ReadSettings) -> Result<Vec<String>, ReadError> {
        let mut seen = Vec::new();
        items(text, settings, &|_| true, &mut |item| {
            seen.push(match item {
                Item::Record(record) => {
                    assert_eq!(record.text, RECORD);
                    "record".to_owned()
                }
                Item::PassedOver => "passed over".to_owned(),
                Item::Skipped(kind) => kind.to_owned(),
                Item::Rejected { position, reason } => format!("{position}: {reason}"),
            });
        })?;
        Ok(seen)
    }

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).unwrap()
    }

    #[test]
    fn the_same_record_through_every_envelope() {
        let escaped = quoted(RECORD);
        let sns = format!(r#"{{"Type":"Notification","Message":{escaped}}}"#);
        for text in [
            format!(r#"{{"Records":[{RECORD}]}}"#),
            format!("[{RECORD}]"),
            format!("{RECORD}\n"),
            format!("\n  {RECORD}"),
            format!(r#"{{"Events":[{{"EventId":"x","EventTime":1.5,"CloudTrailEvent":{escaped}}}]}}"#),
            format!(
                r#"{{"Events":[{{"EventId":"x","EventName":"ListUsers","EventSource":"iam.amazonaws.com","CloudTrailEvent":{escaped}}}]}}"#
            ),
            format!(r#"{{"result":{{"eventName":"ListUsers","_raw":{escaped}}}}}"#),
            format!(r#"{{"detail-type":"AWS API Call via CloudTrail","detail":{RECORD}}}"#),
            format!(r#"{{"messageType":"DATA_MESSAGE","logEvents":[{{"id":"1","message":{escaped}}}]}}"#),
            format!(r#"[{{"data":{{"Records":[{RECORD}]}}}}]"#),
            format!(r#"[{{"_raw":{escaped}}}]"#),
            format!(r#"{{"result":{{"_raw":{escaped}}}}}"#),
            format!(r#"{{"Records":[{{"messageId":"1","body":{}}}]}}"#, quoted(&sns)),
            format!(r#"{{"Messages":[{{"MessageId":"1","Body":{}}}]}}"#, quoted(&sns)),
            // An export of CloudWatch Logs, and `aws logs tail`.
            format!("2026-09-01T10:00:00.000Z {RECORD}\n"),
            format!("2026-09-01T10:00:00.000000+00:00 111122223333_CloudTrail_eu-west-1 {RECORD}\n"),
            // `filter-log-events`, `get-query-results`, and exports of the Logs Insights console.
            format!(
                r#"{{"events":[{{"logStreamName":"s","timestamp":1,"message":{escaped},"eventId":"1"}}],"searchedLogStreams":[]}}"#
            ),
            format!(
                r#"{{"results":[[{{"field":"@timestamp","value":"2026-09-01 10:00:00.000"}},{{"field":"@message","value":{escaped}}},{{"field":"@ptr","value":"x"}}]],"status":"Complete"}}"#
            ),
            format!(r#"[{{"@timestamp":"2026-09-01 10:00:00.000","@message":{RECORD}}}]"#),
            format!(r#"[{{"@timestamp":"2026-09-01 10:00:00.000","@message":{escaped}}}]"#),
            // CloudTrail Lake.
            format!(r#"{{"QueryStatus":"FINISHED","QueryResultRows":[[{{"eventJson":{escaped}}}]]}}"#),
            // Elastic: a document, a hit, a search.
            format!(r#"{{"@timestamp":"x","message":"for people","event":{{"kind":"event","original":{escaped}}}}}"#),
            format!(r#"{{"_index":"logs","_source":{{"event":{{"original":{escaped}}}}}}}"#),
            format!(
                r#"{{"took":1,"hits":{{"total":{{"value":1}},"hits":[{{"_source":{{"event":{{"original":{escaped}}}}}}}]}}}}"#
            ),
            format!(r#"{{"_source":{{"event.original":{escaped}}}}}"#),
            // Datadog, Fluent Bit, Vector.
            format!(r#"{{"_id":"x","date":"x","message":"","source":"cloudtrail","attributes":{RECORD},"tags":[]}}"#),
            format!(r#"{{"date":1741082400.0,"log":{escaped}}}"#),
            format!(r#"{{"source_type":"aws_s3","timestamp":"x","message":{escaped}}}"#),
            format!(r#"{{"source_type":"aws_s3","message":{RECORD}}}"#),
        ] {
            assert_eq!(seen(&text).unwrap(), ["record"], "{text}");
        }
        assert_eq!(seen(&format!("{RECORD}{RECORD}\n{RECORD}")).unwrap().len(), 3);
    }

    #[test]
    fn what_is_no_record_is_named() {
        for (text, kind) in [
            (r#"{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{}}]}"#, "S3 notification"),
            (r#"{"Service":"Amazon S3","Event":"s3:TestEvent"}"#, "S3 notification"),
            (r#"{"eventSource":"aws:dynamodb","eventName":"INSERT"}"#, "notification of another service"),
            (
                r#"{"Records":[{"messageId":"1","eventSource":"aws:sqs","body":"no JSON {{{"}]}"#,
                "record 1: not a CloudTrail record: the text that it wraps is not JSON",
            ),
            (r#"{"awsAccountId":"1","digestStartTime":"x","logFiles":[]}"#, "digest"),
            (r#"{"Records":[{"eventCategory":"Insight","insightDetails":{}}]}"#, "Insight"),
            (r#"{"detail-type":"Object Created","detail":{"bucket":{}}}"#, "EventBridge event without a record"),
            (r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"x"}]}"#, "CloudWatch Logs control message"),
            (r#"{"s3Bucket":"logs","s3ObjectKey":["AWSLogs/x.json.gz"]}"#, "CloudTrail delivery notice"),
            (
                r#"{"Type":"Notification","Message":"{\"s3Bucket\":\"logs\",\"s3ObjectKey\":[\"x\"]}"}"#,
                "CloudTrail delivery notice",
            ),
            (r#"{"Type":"Notification","Message":"CloudTrail validation message."}"#, "CloudTrail validation message"),
            (
                r#"{"Messages":[{"Body":"{\"Type\":\"Notification\",\"Message\":\"CloudTrail validation message.\"}"}]}"#,
                "CloudTrail validation message",
            ),
            (r#"{"Records":[{"body":"CloudTrail validation message."}]}"#, "CloudTrail validation message"),
            (
                r#"{"Type":"SubscriptionConfirmation","TopicArn":"x","SubscribeURL":"x","Message":"You have chosen"}"#,
                "SNS subscription message",
            ),
            (r#"{"message":"text"}"#, "record 1: not a CloudTrail record: the text that it wraps is not JSON"),
            (
                r#"[[{"field":"eventName","value":"x"}]]"#,
                "record 1: a result of Logs Insights without `@message`: query `fields @message`",
            ),
            (
                r#"{"a":1}"#,
                "record 1: not a CloudTrail record: it has no `eventName` and is not a known envelope; `--unwrap` names the path of the record",
            ),
            (r#"{"Records":[17]}"#, "record 1: not a JSON object"),
        ] {
            assert_eq!(seen(text).unwrap(), [kind], "{text}");
        }
        assert_eq!(
            seen("CloudTrail validation message.").unwrap_err(),
            ReadError::OtherLog("CloudTrail validation message")
        );
        for empty in ["", "  \n", r#"{"Records":[]}"#, "[]"] {
            assert!(seen(empty).unwrap().is_empty());
        }
    }

    #[test]
    fn a_bad_line_costs_one_record_and_a_cut_object_all() {
        let bad_line = r#"{"eventName":"#;
        let lines = format!("{RECORD}\n{bad_line}\n{RECORD}\n");
        let seen_lines = seen(&lines).unwrap();
        assert_eq!(seen_lines.len(), 3);
        assert!(seen_lines[1].starts_with("line 2: not JSON"), "{}", seen_lines[1]);
        let cut = format!("{{\"Records\":[\n{RECORD},\n{RECORD}");
        assert!(matches!(seen(&cut), Err(ReadError::BrokenJson { line: 3, .. })), "{:?}", seen(&cut));
        assert_eq!(seen("PK\u{3}").unwrap_err(), ReadError::NotJson);
        assert_eq!(seen(&format!("{RECORD}\nmore")).unwrap_err(), ReadError::FollowedByText { line: 2 });
        assert!(seen(r#"{"Records":null}"#).is_err());
    }

    #[test]
    fn the_filter_sees_each_element_before_it_is_parsed() {
        let text = format!(r#"{{"Records":[{RECORD},{{"eventName":"Other"}}]}}"#);
        let mut kept = 0;
        items(
            &text,
            &ReadSettings::default(),
            &|element| element.text().contains("ListUsers"),
            &mut |item| match item {
                Item::Record(_) => kept += 1,
                Item::PassedOver => {}
                other => panic!("{other:?}"),
            },
        )
        .unwrap();
        assert_eq!(kept, 1);
    }

    #[test]
    fn a_path_leads_to_the_record_in_any_json() {
        let escaped = quoted(RECORD);
        for (text, path) in [
            (format!(r#"{{"payload":{RECORD}}}"#), "payload"),
            (format!(r#"{{"payload":{escaped}}}"#), "payload"),
            (format!(r#"{{"eventName":"Outer","payload":{escaped}}}"#), "payload"),
            (format!(r#"[{{"a":{{"b":[0,{escaped}]}}}}]"#), "a.b[1]"),
            (format!(r#"[{{"a":{{"b":{RECORD}}}}}]"#), "[*].a.b"),
            (format!(r#"{{"rows":[{{"x":{RECORD}}}]}}"#), "rows[*].x"),
            (format!(r#"{{"rows":[{RECORD}]}}"#), "rows"),
            (format!(r#"{{"Records":[{{"x":{RECORD}}}]}}"#), "Records[*].x"),
            (format!(r#"{{"Records":[{{"x":{RECORD}}}]}}"#), "x"),
            (format!(r#"{{"Records":[{{"body":{}}}]}}"#, quoted(&format!(r#"{{"x":{RECORD}}}"#))), "x"),
            (format!("2026-09-01T10:00:00.000Z {{\"x\":{RECORD}}}"), "x"),
            // A value without such a path is read in the ordinary way.
            (RECORD.to_owned(), "payload"),
            (format!(r#"{{"Records":[{RECORD}]}}"#), "payload"),
        ] {
            assert_eq!(unwrapped(&text, &[path]).unwrap(), ["record"], "{path}: {text}");
        }
        let mixed = format!("{{\"a\":{RECORD}}}\n{{\"b\":{escaped}}}\n{RECORD}\n{{\"c\":1}}\n{{\"a\":\"x\"}}");
        let seen = unwrapped(&mixed, &["a", "b"]).unwrap();
        assert_eq!(seen[..3], ["record"; 3]);
        assert!(
            seen[3].starts_with("record 4: not a CloudTrail record") && seen[4].starts_with("record 5:"),
            "{seen:?}"
        );
        let missing = format!(r#"{{"rows":[{{"x":{RECORD}}},{{"y":1}},{{"x":{{"z":1}}}}]}}"#);
        let seen = unwrapped(&missing, &["rows[*].x"]).unwrap();
        assert!(seen.len() == 3 && seen[1] == "record 2: nothing lies at the path that `--unwrap` names", "{seen:?}");
    }

    #[test]
    fn a_time_before_each_record_is_stripped_and_a_bad_line_costs_itself() {
        let time = "2026-09-01T10:00:00.000Z";
        let text = format!(
            "{time} {RECORD}\n{time} START\nmore of it\n{time} {{\"eventName\":\n{time} {RECORD}\n{time} {RECORD}"
        );
        let seen = seen(&text).unwrap();
        assert_eq!(seen.len(), 5, "{seen:?}");
        assert!(seen[1].starts_with("line 2: not JSON") && seen[2].starts_with("line 4: not JSON"), "{seen:?}");
        assert_eq!([&seen[0], &seen[3], &seen[4]], ["record"; 3]);
    }

    #[test]
    fn a_large_record_costs_itself() {
        let large = format!(r#"{{"eventName":"A","userAgent":"{}"}}"#, "a".repeat(3 << 20));
        let settings = ReadSettings { max_record: 2 << 20, ..ReadSettings::default() };
        for text in [
            format!(r#"{{"Records":[{RECORD},{large},{RECORD}]}}"#),
            format!("{RECORD}\n{large}\n{RECORD}\n"),
            format!(r#"[{{"message":{}}},{{"log":{}}},{RECORD}]"#, quoted(RECORD), quoted(&large)),
        ] {
            let mut seen = seen_with(&text, &settings).unwrap();
            seen.sort();
            assert_eq!(seen[..2], ["record"; 2]);
            assert!(
                seen[2].ends_with("the record holds 4 MiB, more than the 2 MiB that `--max-record-size` allows"),
                "{}",
                seen[2]
            );
        }
    }
}
