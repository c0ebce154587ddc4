//! The version of a rule: a hash of everything that decides its findings.
//!
//! A rule whose version changes is hunted over the whole lake again. The version is a hash of the parsed rule, not of
//! its text or SQL. So comments, descriptions and formatting do not change it. A change of the program that alters
//! findings must change [`SEMANTICS_VERSION`].

use serde_json::{Value as Json, json};

use super::state::digest;
use crate::engine::SEMANTICS_VERSION;
use crate::rule::predicate::NumberOperand;
use crate::rule::{
    Absence, Class, Compared, Counts, Field, FirstSeen, NewnessPeriods, Operand, PeakLimits, Predicate, Quantifier,
    Rule, Test, TitlePart, Value, Window, WindowKind,
};
use crate::time::{Period, TimeZone};

/// Returns the version of `rule`.
pub fn version(rule: &Rule) -> String {
    digest(meaning(rule, SEMANTICS_VERSION).to_string().as_bytes())
}

/// Returns everything that determines the findings of `rule`. JSON arrays keep the order of members in every build.
fn meaning(rule: &Rule, semantics: u32) -> Json {
    // Name all fields, so that a new field does not compile until it is handled here.
    let Rule {
        // The state stores a version per id.
        id: _,
        // Findings contain it only as part of the title.
        display_name: _,
        title,
        severity,
        dynamic_severities,
        // Decides whether the rule runs, not what it finds.
        enabled: _,
        alert,
        window: Window { kind, period, threshold },
        counts,
        peak_limits,
        min_events,
        detection,
        group_by,
        first_seen,
        absence,
        context,
        summary,
        // Findings contain only its ATT&CK names.
        notes: _,
        tests: _,
        hunt_tests: _,
    } = rule;
    let kind = match kind {
        WindowKind::Sliding => "sliding",
        WindowKind::Dedup => "dedup",
        WindowKind::Tumbling => "tumbling",
    };
    let title = title.iter().map(|part| match part {
        TitlePart::Text(text) => json!(["text", text]),
        TitlePart::Field(field) => json!(["field", field_json(field)]),
    });
    let severities =
        dynamic_severities.iter().map(|(severity, when)| json!([severity.to_string(), predicate_json(when)]));
    let context = context.iter().map(|(name, field)| json!([name, field_json(field)]));
    let PeakLimits { at_most, not } = peak_limits;
    let counts = if peak_limits.is_empty() { counts_json(counts) } else { json!([counts_json(counts), at_most, not]) };
    let mut meaning = vec![
        json!(["semantics", semantics]),
        json!(["detection", predicate_json(detection)]),
        json!(["group_by", group_by.iter().map(field_json).collect::<Json>()]),
        json!(["window", kind, period.micros(), threshold.get()]),
        json!(["counts", counts]),
        json!(["severity", severity.to_string(), severities.collect::<Json>()]),
        json!(["alert", alert]),
        json!(["title", title.collect::<Json>()]),
        json!(["mitre", rule.mitre()]),
        json!(["context", context.collect::<Json>()]),
        json!(["summary", summary.iter().map(field_json).collect::<Json>()]),
    ];
    if let Some(events) = min_events {
        meaning.push(json!(["min_events", events]));
    }
    // Other rules keep the versions that they have in the states of earlier builds.
    if let Some(FirstSeen { fields, periods: NewnessPeriods { history, learning } }) = first_seen {
        let fields: Json = fields.iter().map(field_json).collect();
        meaning.push(json!(["first_seen", fields, history.micros(), learning.map(Period::micros)]));
    }
    if let Some(Absence { side, event }) = absence {
        meaning.push(json!(["absence", side.key(), predicate_json(event)]));
    }
    Json::Array(meaning)
}

fn counts_json(counts: &Counts) -> Json {
    // The order of several events matters: it is part of the meaning, or numbers the events.
    let events = |events: &[Predicate]| events.iter().map(predicate_json).collect::<Json>();
    match counts {
        Counts::Matches => json!(["matches"]),
        Counts::Distinct(field) => json!(["distinct", field_json(field)]),
        Counts::Sum(field) => json!(["sum", field_json(field)]),
        Counts::Statistic(field, condition) => json!(["statistic", condition.to_string(), field_json(field)]),
        Counts::Followed { first, then } => json!(["followed", predicate_json(first), predicate_json(then)]),
        Counts::EachOf(each) => json!(["each_of", events(each)]),
        Counts::InOrder(steps) => json!(["in_order", events(steps)]),
    }
}

fn field_json(field: &Field) -> Json {
    match field {
        Field::Account => json!(["account"]),
        Field::Actor => json!(["actor"]),
        Field::Network => json!(["network"]),
        Field::Act => json!(["act"]),
        Field::Origin => json!(["origin"]),
        Field::Path(path) => json!(["path", path.to_string()]),
        Field::Element(path) => json!(["element", path.to_string()]),
        Field::MapText(column) => json!(["map_text", column]),
        Field::TimePart(part, TimeZone::UTC) => json!(["time_part", part.name()]),
        Field::TimePart(part, zone) => json!(["time_part", part.name(), zone.name()]),
        Field::Alias(alias) => {
            // Their order matters: the first that holds counts.
            let fields =
                alias.fields.iter().map(|(predicate, field)| json!([predicate_json(predicate), field_json(field)]));
            json!(["alias", alias.name, fields.collect::<Json>()])
        }
        Field::Python(function) => json!(["python", function.name(), function.text, function.default]),
    }
}

/// Returns predicates whose order has no meaning, sorted.
fn unordered(parts: &[Predicate]) -> Json {
    let mut parts: Vec<Json> = parts.iter().map(predicate_json).collect();
    parts.sort_by_cached_key(Json::to_string);
    Json::from(parts)
}

fn predicate_json(predicate: &Predicate) -> Json {
    match predicate {
        Predicate::All(parts) => json!(["all", unordered(parts)]),
        Predicate::Any(parts) => json!(["any", unordered(parts)]),
        Predicate::None(parts) => json!(["none", unordered(parts)]),
        Predicate::OnlyOne(parts) => json!(["only_one", unordered(parts)]),
        Predicate::Test { field, test, negated } => json!(["test", field_json(field), test_json(test), negated]),
        Predicate::Elements { list, quantifier, each } => {
            let quantifier = match quantifier {
                Quantifier::Any => "any",
                Quantifier::All => "all",
                Quantifier::No => "no",
                Quantifier::One => "one",
            };
            json!(["elements", field_json(list), quantifier, predicate_json(each)])
        }
        Predicate::During(range) => json!(["during", <[Option<i64>; 2]>::from(*range)]),
        Predicate::Except { matches, exceptions } => {
            let conditions: Vec<Predicate> = exceptions.iter().map(|exception| exception.condition()).collect();
            json!(["except", predicate_json(matches), unordered(&conditions)])
        }
    }
}

fn test_json(test: &Test) -> Json {
    match test {
        Test::Present => json!(["present"]),
        Test::Filled => json!(["filled"]),
        Test::Equals(operand) => json!(["equals", operand_json(operand)]),
        Test::StartsWith(operand) => json!(["starts_with", operand_json(operand)]),
        Test::EndsWith(operand) => json!(["ends_with", operand_json(operand)]),
        Test::Contains(operand) => json!(["contains", operand_json(operand)]),
        Test::Matches(pattern) => json!(["matches", pattern]),
        Test::In(values) => {
            let mut values: Vec<Json> = values.iter().map(value_json).collect();
            values.sort_by_cached_key(Json::to_string);
            json!(["in", values])
        }
        Test::Number(compared, operand) => {
            let compared = match compared {
                Compared::Greater => ">",
                Compared::GreaterOrEqual => ">=",
                Compared::Less => "<",
                Compared::LessOrEqual => "<=",
            };
            let operand = match operand {
                NumberOperand::Value(number) => json!(["value", number]),
                NumberOperand::Field(field) => json!(["field", field_json(field)]),
            };
            json!(["number", compared, operand])
        }
        Test::Address(class) => {
            let class = match class {
                Class::Address => "any",
                Class::V4 => "v4",
                Class::V6 => "v6",
                Class::Private => "private",
                Class::Public => "public",
            };
            json!(["address", class])
        }
        Test::Within(network) => json!(["within", network.to_string()]),
        Test::AnyWithin(network) => json!(["any_within", network.to_string()]),
        // Two lists with the same values mean the same, even if their names differ.
        Test::InList(list) => json!(["in_list", list.digest()]),
        Test::WithinList(list) => json!(["within_list", list.digest()]),
        Test::AnyWithinList(list) => json!(["any_within_list", list.digest()]),
    }
}

fn operand_json(operand: &Operand) -> Json {
    match operand {
        Operand::Value(value) => json!(["value", value_json(value)]),
        Operand::Folded(value) => json!(["folded", value_json(value)]),
        Operand::Field(field) => json!(["field", field_json(field)]),
        Operand::FoldedField(field) => json!(["folded_field", field_json(field)]),
        Operand::AnyText { field, folded } => json!(["any_text", field_json(field), folded]),
    }
}

fn value_json(Value { text, shortest }: &Value) -> Json {
    json!([text, shortest])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{AbsenceSide, HuntTest, RuleTest, Severity, TimePart, panther};

    fn rule() -> Rule {
        panther::parse("everything.yml", include_str!("../../tests/data/everything.yml")).unwrap().rule
    }

    fn field(path: &str) -> Field {
        Field::new(path.parse().unwrap())
    }

    type RuleEdit = fn(&mut Rule);

    fn absence(side: AbsenceSide) -> Absence {
        Absence { side, event: Predicate::All(Vec::new()) }
    }

    fn first_seen(history: &str, learning: Option<&str>) -> FirstSeen {
        let period = |text| Period::parse_history(text).unwrap();
        let periods = NewnessPeriods { history: period(history), learning: learning.map(period) };
        FirstSeen { fields: vec![Field::Actor], periods }
    }

    #[test]
    fn fields_that_no_finding_contains_do_not_change_the_version() {
        let same: [RuleEdit; 8] = [
            |rule| rule.display_name.push('x'),
            |rule| rule.enabled = !rule.enabled,
            |rule| rule.notes.description = Some("x".to_owned()),
            |rule| rule.notes.runbook = Some("x".to_owned()),
            |rule| rule.notes.tags.push("x".to_owned()),
            |rule| rule.tests.push(RuleTest { name: "x".to_owned(), expected: true, log: "{}".to_owned() }),
            |rule| rule.hunt_tests.push(HuntTest { name: "x".to_owned(), logs: Vec::new(), expected: Vec::new() }),
            |rule| {
                if let Predicate::All(parts) = &mut rule.detection {
                    parts.reverse();
                }
            },
        ];
        for (number, change) in same.into_iter().enumerate() {
            let mut changed = rule();
            change(&mut changed);
            assert_ne!(changed, rule(), "{number}");
            assert_eq!(version(&changed), version(&rule()), "{number}");
        }
        let text = include_str!("../../tests/data/everything.yml");
        let commented = text.replace("\nThreshold: 3\n", "\n# A comment.\nThreshold:   3 # another\n");
        let commented = panther::parse("other.yml", &commented).unwrap();
        assert_eq!(version(&commented.rule), version(&rule()));
    }

    #[test]
    fn every_change_of_meaning_changes_the_version() {
        let test = |value: &str| Predicate::Test {
            field: field("eventName"),
            test: Test::Equals(Operand::Value(Value { text: value.to_owned(), shortest: None })),
            negated: false,
        };
        let changes: [RuleEdit; 34] = [
            |rule| rule.title.push(TitlePart::Text("x".to_owned())),
            |rule| rule.title.push(TitlePart::Field(Field::Actor)),
            |rule| rule.severity = Severity::Critical,
            |rule| rule.dynamic_severities.push((Severity::Low, Predicate::All(Vec::new()))),
            |rule| rule.alert = !rule.alert,
            |rule| rule.window.kind = WindowKind::Tumbling,
            |rule| rule.window.kind = WindowKind::Sliding,
            |rule| rule.window.period = "59m".parse().unwrap(),
            |rule| rule.window.threshold = 17.try_into().unwrap(),
            |rule| rule.counts = Counts::Distinct(Field::Actor),
            |rule| rule.counts = Counts::EachOf(vec![Predicate::All(Vec::new())]),
            |rule| rule.counts = Counts::Sum(Field::Actor),
            |rule| rule.counts = Counts::Statistic(Field::Actor, "average > 5".parse().unwrap()),
            |rule| rule.counts = Counts::Statistic(Field::Actor, "median > 5".parse().unwrap()),
            |rule| rule.peak_limits.at_most = Some(9),
            |rule| rule.peak_limits.not = Some(9),
            |rule| rule.min_events = 5.try_into().ok(),
            |rule| rule.first_seen = Some(first_seen("30d", None)),
            |rule| rule.first_seen = Some(first_seen("31d", None)),
            |rule| rule.first_seen = Some(first_seen("30d", Some("7d"))),
            |rule| rule.absence = Some(absence(AbsenceSide::After)),
            |rule| rule.absence = Some(absence(AbsenceSide::Before)),
            |rule| rule.detection = Predicate::None(vec![rule.detection.clone()]),
            |rule| rule.group_by.push(Field::Path("x".parse().unwrap())),
            |rule| rule.group_by.push(Field::Network),
            |rule| rule.group_by.push(Field::Act),
            |rule| rule.group_by.push(Field::Origin),
            |rule| rule.group_by.reverse(),
            |rule| rule.group_by.push(Field::TimePart(TimePart::Hour, TimeZone::UTC)),
            |rule| rule.group_by.push(Field::TimePart(TimePart::Hour, "Europe/Berlin".parse().unwrap())),
            |rule| rule.group_by.push(Field::MapText("requestParameters")),
            |rule| rule.context.push(("x".to_owned(), Field::Account)),
            |rule| rule.summary.push(Field::Element("x".parse().unwrap())),
            |rule| drop(rule.notes.reports.insert("MITRE ATT&CK".to_owned(), vec!["TA0001:T0001".to_owned()])),
        ];
        let mut versions = vec![version(&rule())];
        for change in changes {
            let mut other = rule();
            change(&mut other);
            versions.push(version(&other));
        }
        let mut detections: Vec<Predicate> = Vec::new();
        let value_of = |text: &str| Value { text: text.to_owned(), shortest: None };
        for test in [
            Test::Present,
            Test::Filled,
            Test::Equals(Operand::Folded(value_of("a"))),
            Test::Equals(Operand::Field(Field::Actor)),
            Test::Equals(Operand::FoldedField(Field::Actor)),
            Test::Equals(Operand::AnyText { field: Field::Actor, folded: false }),
            Test::Equals(Operand::AnyText { field: Field::Actor, folded: true }),
            Test::StartsWith(Operand::Value(value_of("a"))),
            Test::EndsWith(Operand::Value(value_of("a"))),
            Test::Contains(Operand::Value(value_of("a"))),
            Test::Contains(Operand::Value(Value { shortest: Some("b".to_owned()), ..value_of("a") })),
            Test::Matches("a".to_owned()),
            Test::In(vec![value_of("a")]),
            Test::In(vec![value_of("a"), value_of("b")]),
            Test::Number(Compared::Greater, NumberOperand::Value("1".to_owned())),
            Test::Number(Compared::Less, NumberOperand::Value("1".to_owned())),
            Test::Number(Compared::Less, NumberOperand::Field(Field::Actor)),
            Test::Address(Class::V4),
            Test::Address(Class::Public),
            Test::Within("192.0.2.0/24".parse().unwrap()),
            Test::AnyWithin("192.0.2.0/24".parse().unwrap()),
        ] {
            for negated in [false, true] {
                detections.push(Predicate::Test { field: field("x"), test: test.clone(), negated });
            }
        }
        detections.extend([test("a"), test("b"), Predicate::OnlyOne(vec![test("a")]), Predicate::Any(vec![test("a")])]);
        for quantifier in [Quantifier::Any, Quantifier::All, Quantifier::No, Quantifier::One] {
            detections.push(Predicate::Elements { list: field("x"), quantifier, each: Box::new(test("a")) });
        }
        versions.extend(detections.into_iter().map(|detection| version(&Rule { detection, ..rule() })));
        versions.push(digest(meaning(&rule(), SEMANTICS_VERSION + 1).to_string().as_bytes()));
        let number = versions.len();
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), number);
    }
}
