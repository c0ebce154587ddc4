//! What JSON objects are: records, what wraps records, and well-known others.

use serde_json::value::RawValue;

use super::json::{self, Member};

/// Members that hold a whole record as text beside some of its fields, `EventName` among them: look-up-events and
/// Splunk.
pub(super) const WHOLE: [&str; 2] = ["CloudTrailEvent", "_raw"];

/// Members that hold a record, or what wraps one, as text or as an object.
pub(super) const WRAPPERS: [&str; 20] = [
    // Elasticsearch hits, and documents that keep the original event.
    "_source",
    "event.original",
    "original",
    // Events of CloudWatch Logs, Vector, and SNS; of Logs Insights; of SQS; of Fluent Bit.
    "message",
    "Message",
    "@message",
    "body",
    "Body",
    "log",
    // CloudTrail Lake, EventBridge.
    "eventJson",
    "detail",
    // A Splunk export, SNS to Lambda, a test's fixture.
    "result",
    "Sns",
    "data",
    "event",
    // Search results.
    "hits",
    // Results of Logs Insights, of `filter-log-events`, of CloudTrail Lake: lists of any of these.
    "results",
    "events",
    "QueryResultRows",
    // Datadog archives, whose `message` may be a text for people.
    "attributes",
];

pub(super) fn is_json(text: &str) -> bool {
    text.trim_ascii_start().starts_with(['{', '['])
}

/// Whether a list is a row of results of Logs Insights: `[{"field": "@message", "value": "…"}, …]`.
///
/// Form: <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetQueryResults.html>
pub(super) fn is_query_result(cells: &[&RawValue]) -> bool {
    let is_cell = |cell: &&RawValue| {
        let members = json::members(cell.get()).unwrap_or_default();
        members.len() == 2 && member(&members, "field").is_some() && member(&members, "value").is_some()
    };
    !cells.is_empty() && cells.iter().all(is_cell)
}

/// The message in a row of results of Logs Insights.
pub(super) fn query_message(cells: &[&RawValue]) -> Option<String> {
    cells.iter().find_map(|cell| {
        let members = json::members(cell.get())?;
        (text_of(&members, "field")? == "@message").then(|| text_of(&members, "value"))?
    })
}

/// A record names its event. Everything else, the time and the identity included, is missing from some real ones.
pub(super) fn is_record(members: &[Member<'_>]) -> bool {
    members.iter().any(|(key, value)| key.eq_ignore_ascii_case("eventName") && value.get().starts_with('"'))
}

/// The kind of a well-known object that shares `eventName` with records, and is none.
pub(super) fn no_record(members: &[Member<'_>]) -> Option<&'static str> {
    let source = text_of(members, "eventSource").unwrap_or_default();
    let of_s3 = source == "aws:s3" || text_of(members, "Event").is_some_and(|event| event.starts_with("s3:"));
    if of_s3 {
        Some("S3 notification")
    } else if source.starts_with("aws:") && is_record(members) {
        // A change of a DynamoDB stream, say. A message of a queue, which names no event, may wrap a record.
        Some("notification of another service")
    } else if member(members, "insightDetails").is_some()
        || text_of(members, "eventCategory").as_deref() == Some("Insight")
    {
        Some("Insight")
    } else {
        None
    }
}

/// The kind of any other well-known object that holds no record.
pub(super) fn other_kind(members: &[Member<'_>]) -> Option<&'static str> {
    let has = |key: &str| member(members, key).is_some();
    if has("digestStartTime") {
        Some("digest")
    } else if has("s3Bucket") && has("s3ObjectKey") {
        Some("CloudTrail delivery notice")
    } else if has("SubscribeURL") && has("TopicArn") {
        Some("SNS subscription message")
    } else {
        None
    }
}

pub(super) fn member<'a>(members: &[Member<'a>], key: &str) -> Option<&'a RawValue> {
    members.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
}

pub(super) fn text_of(members: &[Member<'_>], key: &str) -> Option<String> {
    member(members, key).and_then(json::string).map(std::borrow::Cow::into_owned)
}
