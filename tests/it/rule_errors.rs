//! What is wrong with a rule is said with its place.

use tawny::rule::panther;

const RULE: &str = "\
AnalysisType: rule
RuleID: A.B
Enabled: true
Severity: High
LogTypes: [AWS.CloudTrail]
Threshold: 2
DedupPeriodMinutes: 15
Detection:
  - Key: eventName
    Condition: Equals
    Value: Yes
";

fn error(text: &str) -> String {
    panther::parse("rule.yml", text).unwrap_err().to_string()
}

#[test]
fn values_keep_their_text() {
    for (value, text) in [("Yes", "Yes"), ("012345678901", "012345678901"), ("1.10", "1.10"), ("True", "true")] {
        let rule = panther::parse("rule.yml", &RULE.replace("Value: Yes", &format!("Value: {value}"))).unwrap();
        let shown = format!("{:?}", rule.detection);
        assert!(shown.contains(&format!("Equals({text:?})")), "{shown}");
    }
}

#[test]
fn every_fault_names_its_line() {
    for (good, bad, place, words) in [
        ("Condition: Equals", "Condition: Equalss", "rule.yml:10:16", "did you mean `Equals`"),
        ("Condition: Equals", "Condition: IsIn", "rule.yml:10:16", "list of `Values`"),
        ("Threshold: 2", "Threshold: 0", "rule.yml:6:12", "from 1 to"),
        ("Threshold: 2", "Tresholds: 2", "rule.yml:6:1", "Tresholds"),
        ("Threshold: 2", "Threshold: [2]", "rule.yml:6:", ""),
        ("Severity: High", "Severity: Grave", "rule.yml:4:11", "`Severity` must be"),
        ("Threshold: 2", "InlineFilters: []", "rule.yml:6:16", "`InlineFilters` is not supported"),
        ("Value: Yes", "Value: null", "rule.yml:10:16", "takes one `Value`"),
    ] {
        let message = error(&RULE.replace(good, bad));
        assert!(message.starts_with(place) && message.contains(words), "{bad}: {message}");
        assert!(message.contains('^'), "{message}");
    }
}
