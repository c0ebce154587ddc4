//! A hundred rules in one hunt of a lake, compared with one rule.
#![expect(clippy::expect_used, reason = "a bench that cannot continue ends")]

mod support;

use tawny::convert::{Limits, convert};
use tawny::engine::Engine;
use tawny::hunt;
use tawny::lake::Lake;
use tawny::rule::{Rule, catalog, panther};
use tawny::store::Scratch;
use tawny::time::Range;

/// Returns typical rules: a quarter each of one call, one service, one role, and a parameter of any call, with
/// thresholds from 2 to 6 and four periods.
fn rules() -> Vec<Rule> {
    let conditions = [
        "{Key: eventName, Condition: Equals, Value: Call#}",
        "{Key: eventSource, Condition: Equals, Value: service#.amazonaws.com}",
        "{KeyPath: userIdentity.sessionContext.sessionIssuer.userName, Condition: Equals, Value: role-#}",
        "{KeyPath: requestParameters.key, Condition: EndsWith, Value: 'abc#'}",
    ];
    let mut rules = vec![catalog::default().expect("the shipped rules are right")];
    for number in 1..100 {
        let condition = conditions[number % conditions.len()].replace('#', &number.to_string());
        let (threshold, minutes) = (2 + number % 5, [5, 15, 60, 1_440][number / 4 % 4]);
        let text = format!(
            "AnalysisType: rule\nRuleID: Bench.{number}\nEnabled: true\nSeverity: Low\nLogTypes: [AWS.CloudTrail]\n\
             Threshold: {threshold}\nDedupPeriodMinutes: {minutes}\nGroupBy: [{{Key: account}}, {{Key: actor}}]\n\
             Detection: [{{Key: eventType, Condition: Equals, Value: AwsApiCall}}, {condition}]\n"
        );
        rules.push(panther::parse("bench", &text).expect("the rule is right").rule);
    }
    rules
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let lake_folder = tempfile::tempdir().expect("a folder can be made");
    support::write_trail(folder.path());
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let lake = Lake::at(lake_folder.path());
    let limits = Limits { threads: 2, memory: 128 << 20, in_flight: 4 };
    let trail = runtime.block_on(support::trail(folder.path()));
    runtime.block_on(convert(trail, &lake, limits, &Scratch::default(), &mut |_| {})).expect("the trail is whole");

    let engine = Engine::new(2, 256 << 20, &std::env::temp_dir()).expect("a folder can be made");
    let hunt = |rules: &[Rule]| {
        let findings = runtime.block_on(hunt::findings(&engine, &lake, rules, Range::default()));
        findings.expect("the data is whole");
    };
    let rules = rules();
    let [control, one, any_call, hundred] = support::medians([
        &mut || support::inflate_all(folder.path()),
        &mut || hunt(&rules[..1]),
        &mut || hunt(&rules[3..4]),
        &mut || hunt(&rules),
    ]);
    support::row("inflate (control)", control, control);
    support::row("one rule of one call", one, control);
    support::row("one rule of a parameter", any_call, control);
    support::row("a hundred rules", hundred, control);
    support::row("a hundred rules to one of them", hundred, any_call);
}
