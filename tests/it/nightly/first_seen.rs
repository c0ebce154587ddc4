//! Rules whose matches must be new, night after night.

use serde_json::Value;
use tawny::hunt;
use tawny::rule::{Field, FirstSeen, NewnessPeriods, Rule, Severity, WindowKind};
use tawny::time::{DAY, Period, Range};

use super::{Place, START, by_id, fold, rule};
use crate::oracle::RUNTIME;
use crate::records::failed_sign_in;

/// Returns a rule for addresses that are new to a user.
pub(super) fn new_addresses(kind: WindowKind, history: &str, learning: Option<&str>) -> Rule {
    let period = |text: &str| Period::parse_history(text).unwrap();
    let periods = NewnessPeriods { history: period(history), learning: learning.map(period) };
    let fields = vec![Field::new("sourceIPAddress".parse().unwrap())];
    let rule = rule(kind, 1, false);
    Rule { id: format!("{}.new", rule.id), first_seen: Some(FirstSeen { fields, periods }), ..rule }
}

fn sign_in(day: i64) -> Value {
    failed_sign_in("ann", &(START + day * DAY).to_string(), &format!("day-{day}"))
}

/// Runs each night, and compares the deliveries with a hunt. Returns the new and the withdrawn findings of each night.
fn nights(rule: Rule, delivered: &[Value]) -> Vec<(usize, usize)> {
    let place = Place::new();
    let rules = [rule];
    let night = |(number, record): (usize, &Value)| {
        place.put(&format!("{number}.json"), std::slice::from_ref(record));
        let report = RUNTIME.block_on(place.run(&rules, START + 100 * DAY)).unwrap();
        let whole = RUNTIME.block_on(hunt::findings(&place.engine, &place.lake(), &rules, Range::default())).unwrap();
        assert_eq!(fold(&place.path("findings")), by_id(&whole), "night {number}");
        (report.findings.new, report.findings.gone)
    };
    delivered.iter().enumerate().map(night).collect()
}

#[test]
fn late_event_makes_a_later_match_known() {
    for kind in WindowKind::ALL {
        let changes = nights(new_addresses(kind, "30d", None), &[sign_in(29), sign_in(0), sign_in(60), sign_in(31)]);
        assert_eq!(changes, [(1, 0), (1, 1), (1, 0), (0, 1)], "{kind}");
    }
}

#[test]
fn earlier_first_event_of_an_account_ends_its_learning_time() {
    let mut other_call = sign_in(0);
    other_call["responseElements"] = Value::Null;
    for kind in WindowKind::ALL {
        let rule = new_addresses(kind, "30d", Some("7d"));
        assert_eq!(nights(rule, &[sign_in(20), other_call.clone()]), [(0, 0), (1, 0)], "{kind}");
    }
}

#[test]
fn dropped_days_do_not_make_known_matches_new() {
    for (learning, found) in [(None, 1), (Some("7d"), 0)] {
        let place = Place { retain: Some(40 * DAY), ..Place::new() };
        let rule = new_addresses(WindowKind::Sliding, "30d", learning);
        place.put("0.json", &(0..8).map(|step| sign_in(step * 10)).collect::<Vec<_>>());
        let changes = [Severity::Low, Severity::Low, Severity::High].map(|severity| {
            let rules = [Rule { severity, ..rule.clone() }];
            let report = RUNTIME.block_on(place.run(&rules, START + 71 * DAY)).unwrap();
            (report.findings.new, report.findings.gone)
        });
        // The third night hunts everything that is left, for another version of the rule.
        assert_eq!(changes, [(found, 0), (0, 0), (0, 0)], "{learning:?}");
        let lake = place.lake();
        assert!(RUNTIME.block_on(lake.transaction_log().retained_from()).unwrap().is_some());
        let whole = RUNTIME.block_on(hunt::findings(&place.engine, &lake, &[rule], Range::default())).unwrap();
        assert_eq!(whole, [], "{learning:?}");
    }
}

#[test]
fn night_counts_matches_of_learning_accounts() {
    let place = Place::new();
    // With fewer matches than the threshold there is no finding, and they are counted all the same.
    let mut rule = new_addresses(WindowKind::Sliding, "1d", Some("7d"));
    rule.window.threshold = 5.try_into().unwrap();
    place.put("0.json", &[sign_in(0), sign_in(2), sign_in(4), sign_in(20)]);
    let report = RUNTIME.block_on(place.run(&[rule], START + 100 * DAY)).unwrap();
    assert_eq!(report.hunts.iter().map(|hunt| hunt.learning).sum::<u64>(), 3);
}
