//! Records in lines: times before records, and the next line after a bad one.

use serde_json::value::RawValue;

use super::format;
use super::read_error::ReadError;

/// Returns the start of the next record after the bad line at `start`, in an object with one record a line.
pub(super) fn next_json_line(text: &str, start: usize) -> Option<usize> {
    let at_line_start = start == 0 || text.as_bytes()[start - 1] == b'\n';
    let next = start + text[start..].find('\n')? + 1;
    let next_line = text[next..].lines().next()?;
    let stands_alone = next_line.starts_with("{\"") && serde_json::from_str::<&RawValue>(next_line).is_ok();
    (at_line_start && text[start..].starts_with("{\"") && stands_alone).then_some(next)
}

/// Returns how many bytes precede the record in a line of a CloudWatch Logs export, `2026-09-01T10:00:00.000Z {…}`,
/// or of `aws logs tail`, which also has the name of the stream. `None` for other lines.
///
/// Form: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/S3Export.html>
pub(super) fn timed_record(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_time = matches!(bytes, [y, _, _, _, b'-', _, _, b'-', _, _, b'T', _, _, b':', ..] if y.is_ascii_digit());
    if !is_time {
        return None;
    }
    let time = memchr::memchr2(b' ', b'\n', bytes).filter(|end| bytes[*end] == b' ')?;
    let rest = &text[time + 1..];
    if rest.starts_with(['{', '[']) {
        return Some(time + 1);
    }
    let stream = memchr::memchr2(b' ', b'\n', rest.as_bytes()).filter(|end| rest.as_bytes()[*end] == b' ');
    let after_stream = stream.map(|end| time + 1 + end + 1).filter(|start| text[*start..].starts_with('{'));
    // In other lines only the time precedes the text.
    Some(after_stream.unwrap_or(time + 1))
}

/// Returns the start of the next line with a time after `start`, or the end of the text.
pub(super) fn next_timed_record(text: &str, start: usize) -> usize {
    let lines = memchr::memchr_iter(b'\n', &text.as_bytes()[start..]).map(|end| start + end + 1);
    lines.into_iter().find(|line| timed_record(&text[*line..]).is_some()).unwrap_or(text.len())
}

pub(super) fn lines_in(text: &str) -> usize {
    memchr::memchr_iter(b'\n', text.as_bytes()).count()
}

pub(super) fn not_json(text: &str, start: usize, error: &serde_json::Error) -> ReadError {
    let line = lines_in(&text[..start]) + error.line();
    if text[start..].starts_with(['{', '[']) {
        return ReadError::BrokenJson { line, column: error.column(), cause: cause_of(error) };
    }
    match format::other_log(text) {
        Some(kind) => ReadError::OtherLog(kind),
        None if start == 0 => ReadError::NotJson,
        None => ReadError::FollowedByText { line },
    }
}

/// Returns the parser's reason without its position, which the parser counts from its own start.
pub(super) fn cause_of(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let cause = error.to_string();
    cause.strip_suffix(&place).unwrap_or(&cause).to_owned()
}
