//! Changes a rule's file without changing its comments and formatting.

use std::ops::Range;

use super::python::ModuleFiles;
use super::value_lists::ValueLists;
use super::yaml::{YamlContent, YamlNode, YamlSource};
use super::{Rule, Window, panther};
use crate::error::Error;

const THRESHOLD: &str = "Threshold";
const PERIOD: &str = "DedupPeriodMinutes";
/// A new key is inserted after the first of these that exists.
const BEFORE: [&str; 4] = [THRESHOLD, PERIOD, "Severity", "RuleID"];

/// Returns the text of a rule with the threshold and the period of `window`. Nothing else changes.
///
/// # Errors
/// The rule is not in Panther's format, the period is not a whole number of minutes, or the text has a form that cannot be
/// changed safely.
pub fn with_window(source: YamlSource<'_>, window: Window) -> Result<String, Error> {
    if !source.read().is_ok_and(|document| document.member("AnalysisType").is_some()) {
        return Err(Error::Usage {
            message: format!("`{}` is not in Panther's format, and only such rules are changed", source.name),
            hint: Some("tune the rule with `--override`, or with `[overrides]` in a configuration".to_owned()),
        });
    }
    let before = parsed(source.name, source.text)?;
    let minutes = window.period.minutes();
    if minutes.fract() != 0.0 {
        return Err(Error::usage(format!("`{PERIOD}` holds whole minutes, and {} is none", window.period)));
    }
    let YamlContent::Map(members) = source.read()?.content else {
        return Err(by_hand(source, window));
    };
    let mut changes = Vec::new();
    for (name, is, was, value) in [
        (PERIOD, window.period.minutes(), before.window.period.minutes(), minutes.to_string()),
        (
            THRESHOLD,
            f64::from(window.threshold.get()),
            f64::from(before.window.threshold.get()),
            window.threshold.to_string(),
        ),
    ] {
        match value_of(&members, name) {
            _ if (is - was).abs() < f64::EPSILON => {}
            Some(node) => changes.push((node.bytes.clone(), value)),
            None => {
                let Some(place) = line_end(source.text, &members) else {
                    return Err(by_hand(source, window));
                };
                let line_break = if source.text[place.end..].starts_with('\r') { "\r\n" } else { "\n" };
                changes.push((place, format!("{line_break}{name}: {value}")));
            }
        }
    }
    // From the end, so that earlier positions stay valid.
    changes.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.start));
    let mut text = source.text.to_owned();
    for (bytes, value) in changes {
        if text.get(bytes.clone()).is_none() {
            return Err(by_hand(source, window));
        }
        text.replace_range(bytes, &value);
    }
    let mut wanted = before;
    wanted.window = Window { kind: wanted.window.kind, ..window };
    match parsed(source.name, &text) {
        Ok(rule) if rule == wanted => Ok(text),
        _ => Err(by_hand(source, window)),
    }
}

/// Reads a rule whose value lists are not needed.
fn parsed(name: &str, text: &str) -> Result<Rule, Error> {
    Ok(panther::parse_with(name, text, &ModuleFiles::default(), &ValueLists::of_any_name())?.rule)
}

fn value_of<'n>(members: &'n [(YamlNode, YamlNode)], name: &str) -> Option<&'n YamlNode> {
    let is_it = |key: &YamlNode| matches!(&key.content, YamlContent::Scalar { text, .. } if text == name);
    members.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value)
}

/// Returns the end of the line with a value after which a key can be inserted.
fn line_end(text: &str, members: &[(YamlNode, YamlNode)]) -> Option<Range<usize>> {
    let value = BEFORE.iter().find_map(|name| value_of(members, name))?;
    let rest = text.get(value.bytes.end..)?;
    let line = rest.split('\n').next().unwrap_or_default();
    let end = value.bytes.end + line.trim_end_matches('\r').len();
    Some(end..end)
}

fn by_hand(source: YamlSource<'_>, window: Window) -> Error {
    Error::Usage {
        message: format!("`{}` is written in a way that cannot be changed without harm", source.name),
        hint: Some(format!(
            "write `{THRESHOLD}: {}` and `{PERIOD}: {}` by hand",
            window.threshold,
            window.period.minutes()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::WindowKind;

    fn changed(text: &str, threshold: u32, period: &str) -> Result<String, Error> {
        let window = Window {
            kind: WindowKind::Sliding,
            period: period.parse().unwrap(),
            threshold: threshold.try_into().unwrap(),
        };
        with_window(YamlSource { name: "r.yml", text }, window)
    }

    fn rule(middle: &str) -> String {
        format!(
            "# a comment\nAnalysisType: rule\nEnabled: true\nLogTypes: [AWS.CloudTrail]\nRuleID: A.b   # its name\n{middle}Severity: Low # grave?\n\nDetection:\n  - Key: eventName\n    Condition: Equals\n    Value: A\n"
        )
    }

    #[test]
    fn only_the_numbers_change() {
        let text = rule("Threshold:   2   # two\nDedupPeriodMinutes: 15\n\n");
        let want = rule("Threshold:   12   # two\nDedupPeriodMinutes: 60\n\n");
        assert_eq!(changed(&text, 12, "1h").unwrap(), want);
        assert_eq!(changed(&text, 2, "15m").unwrap(), text);
    }

    #[test]
    fn what_is_not_there_is_put_after_its_neighbour() {
        let text = rule("Threshold: 2 # two\n");
        assert_eq!(changed(&text, 3, "15m").unwrap(), rule("Threshold: 3 # two\nDedupPeriodMinutes: 15\n"));
        assert_eq!(
            changed(&rule(""), 3, "15m").unwrap(),
            rule("").replace("# grave?\n", "# grave?\nThreshold: 3\nDedupPeriodMinutes: 15\n")
        );
        assert_eq!(changed(&rule(""), 1, "1h").unwrap(), rule(""));
        let windows = rule("Threshold: 2\n").replace('\n', "\r\n");
        assert!(changed(&windows, 3, "15m").unwrap().contains("Threshold: 3\r\nDedupPeriodMinutes: 15\r\n"));
    }

    #[test]
    fn rules_in_other_formats_are_left_alone() {
        for text in ["[rule]\nname = \"A\"\n", "title: A\nlogsource: {product: aws}\ndetection: {}\n"] {
            let refused = changed(text, 3, "15m").unwrap_err();
            assert!(refused.hint().unwrap().contains("`--override`"), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_changed_safely_is_left_to_people() {
        let flow = "{AnalysisType: rule, Enabled: true, LogTypes: [AWS.CloudTrail], RuleID: A.b, Severity: Low, Detection: [{Key: eventName, Condition: Equals, Value: A}]}";
        for (text, period) in [(flow, "15m"), (&rule("Threshold: 2\n"), "90s")] {
            assert!(matches!(changed(text, 3, period), Err(Error::Usage { .. })), "{text}");
        }
        let shared = rule("Threshold: &n 2\nDedupPeriodMinutes: *n\n");
        let refused = changed(&shared, 3, "15m").unwrap_err();
        assert!(refused.hint().unwrap().contains("by hand"), "{refused}");
    }
}
