//! From the text of an object to the records it holds, through whatever wraps them.

use serde_json::value::RawValue;

use super::json::{self, MAX_PARTS, Member, Top};
use super::split;

/// How deep envelopes may nest (an SNS message in an SQS body in a log event is three).
const MAX_DEPTH: usize = 8;

/// The most that a text which wraps a record may hold, in bytes: each level that is unwrapped is a copy.
const MAX_WRAPPED: usize = 16 << 20;

/// The reason given for an object that does not even begin like JSON.
pub(crate) const NOT_JSON: &str = "neither gzip nor JSON";

/// A CloudTrail record as received.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its JSON text.
    pub text: &'a str,
    /// Its top-level members in order, repeated keys included.
    pub members: Vec<Member<'a>>,
}

/// What stands where a record may stand.
#[derive(Debug)]
pub enum Item<'a> {
    /// A record.
    Record(Record<'a>),
    /// Something the caller's filter did not want; it was not parsed.
    PassedOver,
    /// Something known that is no record; the text names its kind.
    Skipped(&'static str),
    /// Something that should have been a record and is not.
    Rejected {
        /// Where it stands in the object.
        position: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Calls `sink` with every item of an object's text, in order. `wanted` looks at the text of an
/// element before it is parsed; of one that it passes over only the brackets are known to match.
///
/// # Errors
/// The reason to reject the object as a whole: it is not JSON, or breaks off. What the sink was
/// given before is then to be thrown away.
pub fn items(text: &str, wanted: &dyn Fn(&str) -> bool, sink: &mut dyn FnMut(Item<'_>)) -> Result<(), String> {
    let mut walk = Walk { wanted, sink, seen: 0 };
    if let Some(elements) = split::elements(text) {
        walk.elements(elements, 0);
        return if walk.seen > MAX_PARTS { Err(too_many()) } else { Ok(()) };
    }
    let mut offset = 0;
    // Where the lines were counted up to: a count from the start for each bad one would take for ever.
    let (mut line, mut counted) = (1, 0);
    loop {
        if walk.seen > MAX_PARTS {
            return Err(too_many());
        }
        let rest = &text[offset..];
        let start = offset + (rest.len() - rest.trim_ascii_start().len());
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Top<'_>>();
        match stream.next() {
            None => return Ok(()),
            Some(Ok(top)) => {
                let end = start + stream.byte_offset();
                walk.top(&text[start..end], top);
                offset = end;
            }
            Some(Err(error)) => match next_json_line(text, start) {
                Some(next) => {
                    line += lines_in(&text[counted..start]);
                    counted = start;
                    walk.reject(format!("line {line}"), format!("not JSON: {}", cause_of(&error)));
                    offset = next;
                }
                None => return Err(not_json(text, start, &error)),
            },
        }
    }
}

fn too_many() -> String {
    format!("holds more than {MAX_PARTS} records: split it")
}

/// Where reading can go on after the bad line at `start`, in an object of one record a line.
fn next_json_line(text: &str, start: usize) -> Option<usize> {
    let at_line_start = start == 0 || text.as_bytes()[start - 1] == b'\n';
    let next = start + text[start..].find('\n')? + 1;
    let next_line = text[next..].lines().next()?;
    let stands_alone = next_line.starts_with("{\"") && serde_json::from_str::<&RawValue>(next_line).is_ok();
    (at_line_start && text[start..].starts_with("{\"") && stands_alone).then_some(next)
}

fn lines_in(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

fn not_json(text: &str, start: usize, error: &serde_json::Error) -> String {
    let line = lines_in(&text[..start]) + error.line();
    if !text[start..].starts_with(['{', '[']) {
        return if start == 0 { NOT_JSON.to_owned() } else { format!("what follows at line {line} is no JSON") };
    }
    format!("broken JSON at line {line}, column {}: {}", error.column(), cause_of(error))
}

/// What is wrong, without the place, which is told from where the parser began.
fn cause_of(error: &serde_json::Error) -> String {
    let cause = error.to_string();
    cause.split(" at line ").next().unwrap_or(&cause).to_owned()
}

struct Walk<'w> {
    wanted: &'w dyn Fn(&str) -> bool,
    sink: &'w mut dyn FnMut(Item<'_>),
    seen: usize,
}

impl Walk<'_> {
    fn top(&mut self, text: &str, top: Top<'_>) {
        match top {
            Top::List(elements) => self.elements(texts(&elements), 0),
            Top::Envelope { list, beside } => self.envelope(&list, &beside, 0),
            Top::Object(members) => {
                if (self.wanted)(text) {
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

    fn elements<'a>(&mut self, elements: impl IntoIterator<Item = &'a str>, depth: usize) {
        for element in elements {
            // Lists of lists: the walk ends, and `items` says why.
            if self.seen > MAX_PARTS {
                return;
            }
            if (self.wanted)(element) {
                self.value(element, depth);
            } else {
                self.send(Item::PassedOver);
            }
        }
    }

    /// A value that may be a record, an envelope, or a list of either.
    fn value(&mut self, text: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.reject_here("envelopes nest too deep");
        }
        match serde_json::from_str::<Top<'_>>(text) {
            Ok(Top::List(elements)) => self.elements(texts(&elements), depth + 1),
            Ok(Top::Envelope { list, beside }) => self.envelope(&list, &beside, depth + 1),
            Ok(Top::Object(members)) => self.object(text.trim_ascii(), members, depth),
            Err(error) if text.starts_with('{') => self.reject_here(&format!("broken JSON: {error}")),
            Err(_) => self.reject_here("not a JSON object"),
        }
    }

    fn object(&mut self, text: &str, members: Vec<Member<'_>>, depth: usize) {
        // What wraps a record as text may tell some of its fields beside it, `EventName` among them.
        let whole = members.iter().filter(|(key, _)| matches!(key.as_ref(), "CloudTrailEvent" | "_raw"));
        let mut whole = whole.filter_map(|(_, value)| json::string(value));
        if let Some(inner) = whole.next().filter(|inner| inner.trim_ascii_start().starts_with('{')) {
            return self.wrapped(&inner, depth);
        }
        if is_record(&members) {
            let kind = no_record(&members);
            return self.send(kind.map_or(Item::Record(Record { text, members }), Item::Skipped));
        }
        // A wrapped text: look-up-events, Splunk, a log event, SNS, SQS.
        for wrapped in ["CloudTrailEvent", "_raw", "message", "Message", "body", "Body"] {
            if let Some(inner) = text_of(&members, wrapped) {
                return self.wrapped(&inner, depth);
            }
        }
        // A wrapped object: EventBridge, a Splunk export, SNS to Lambda, a test's fixture.
        for wrapped in ["detail", "result", "Sns", "data", "event"] {
            if let Some(inner) = member(&members, wrapped).filter(|inner| inner.get().starts_with('{')) {
                let carries_no_record =
                    wrapped == "detail" && json::members(inner.get()).is_some_and(|detail| !is_record(&detail));
                if carries_no_record {
                    return self.send(Item::Skipped("EventBridge event without a record"));
                }
                return self.value(inner.get(), depth + 1);
            }
        }
        if let Some(kind) = no_record(&members) {
            return self.send(Item::Skipped(kind));
        }
        self.reject_here("not a CloudTrail record: it has no `eventName` and is no known envelope");
    }

    fn wrapped(&mut self, inner: &str, depth: usize) {
        if inner.len() > MAX_WRAPPED {
            return self.reject_here(&format!("wraps a text of more than {} MiB", MAX_WRAPPED >> 20));
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

fn texts<'a>(elements: &'a [&'a RawValue]) -> impl Iterator<Item = &'a str> {
    elements.iter().map(|element| element.get())
}

/// A record names its event. Everything else, the time and the identity included, is missing from some real ones.
fn is_record(members: &[Member<'_>]) -> bool {
    members.iter().any(|(key, value)| key.eq_ignore_ascii_case("eventName") && value.get().starts_with('"'))
}

/// The kind of a well-known object that is not a record, though some share its keys.
fn no_record(members: &[Member<'_>]) -> Option<&'static str> {
    let has = |key: &str| member(members, key).is_some();
    let of_s3 = text_of(members, "eventSource").is_some_and(|source| source.starts_with("aws:"))
        || text_of(members, "Event").is_some_and(|event| event.starts_with("s3:"));
    if of_s3 {
        Some("S3 notification")
    } else if has("insightDetails") || text_of(members, "eventCategory").as_deref() == Some("Insight") {
        Some("Insight")
    } else if has("digestStartTime") {
        Some("digest")
    } else {
        None
    }
}

fn member<'a>(members: &[Member<'a>], key: &str) -> Option<&'a RawValue> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
}

fn text_of(members: &[Member<'_>], key: &str) -> Option<String> {
    member(members, key).and_then(json::string).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"eventVersion":"1.09","eventSource":"iam.amazonaws.com","eventName":"ListUsers"}"#;

    fn seen(text: &str) -> Result<Vec<String>, String> {
        let mut seen = Vec::new();
        items(text, &|_| true, &mut |item| {
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
            (r#"{"awsAccountId":"1","digestStartTime":"x","logFiles":[]}"#, "digest"),
            (r#"{"Records":[{"eventCategory":"Insight","insightDetails":{}}]}"#, "Insight"),
            (r#"{"detail-type":"Object Created","detail":{"bucket":{}}}"#, "EventBridge event without a record"),
            (r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"message":"x"}]}"#, "CloudWatch Logs control message"),
            (r#"{"a":1}"#, "record 1: not a CloudTrail record: it has no `eventName` and is no known envelope"),
            (r#"{"Records":[17]}"#, "record 1: not a JSON object"),
        ] {
            assert_eq!(seen(text).unwrap(), [kind], "{text}");
        }
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
        assert!(seen(&cut).unwrap_err().starts_with("broken JSON at line 3"), "{:?}", seen(&cut));
        assert_eq!(seen("PK\u{3}").unwrap_err(), "neither gzip nor JSON");
        assert!(seen(r#"{"Records":null}"#).is_err());
    }

    #[test]
    fn the_filter_sees_each_element_before_it_is_parsed() {
        let text = format!(r#"{{"Records":[{RECORD},{{"eventName":"Other"}}]}}"#);
        let mut kept = 0;
        items(&text, &|element| element.contains("ListUsers"), &mut |item| match item {
            Item::Record(_) => kept += 1,
            Item::PassedOver => {}
            other => panic!("{other:?}"),
        })
        .unwrap();
        assert_eq!(kept, 1);
    }
}
