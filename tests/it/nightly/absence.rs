//! Rules near whose matches other events must be absent, night after night.

use serde_json::Value;
use tawny::hunt;
use tawny::rule::{AbsenceSide, Rule, WindowKind};
use tawny::time::{DAY, Range};

use super::{MINUTE, Place, START, by_id, fold, rule};
use crate::oracle::RUNTIME;
use crate::records::failed_sign_in;

/// Returns a rule for failed sign-ins without an event from one address near them.
pub(super) fn lone(kind: WindowKind, side: AbsenceSide) -> Rule {
    let rule = rule(kind, 1, false);
    Rule { id: format!("{}.{side:?}", rule.id), absence: Some(crate::absence::absence(side)), ..rule }
}

fn sign_in(minute: i64, address: &str) -> Value {
    let at = (START + minute * MINUTE).to_string();
    let mut record = failed_sign_in("ann", &at, &format!("{address}-{minute}"));
    record["sourceIPAddress"] = Value::from(address);
    record
}

/// Runs each night, and compares the deliveries with a hunt. Returns the new and the withdrawn findings, and the open matches, of
/// each night.
fn nights(rule: Rule, delivered: &[Value]) -> Vec<(usize, usize, u64)> {
    let place = Place::new();
    let rules = [rule];
    let night = |(number, record): (usize, &Value)| {
        place.put(&format!("{number}.json"), std::slice::from_ref(record));
        let report = RUNTIME.block_on(place.run(&rules, START + 100 * DAY)).unwrap();
        let whole = RUNTIME.block_on(hunt::findings(&place.engine, &place.lake(), &rules, Range::default())).unwrap();
        assert_eq!(fold(&place.path("findings")), by_id(&whole), "night {number}");
        (report.findings.new, report.findings.gone, report.hunts.iter().map(|hunt| hunt.open).sum())
    };
    delivered.iter().enumerate().map(night).collect()
}

#[test]
fn open_match_is_decided_by_a_later_night_and_by_a_late_event() {
    let (other, end) = ("192.0.2.1", "203.0.113.9");
    for (side, towards) in [(AbsenceSide::After, 1), (AbsenceSide::Before, -1)] {
        let at = |minute: i64| 1_000 + towards * minute;
        for kind in WindowKind::ALL {
            // An event of another user says that the time has passed.
            let mut passed = sign_in(at(20), end);
            passed["userIdentity"] = serde_json::json!({ "type": "IAMUser", "userName": "bob" });
            passed["responseElements"] = Value::Null;
            let delivered = [sign_in(at(0), end), passed, sign_in(at(10), other)];
            let changes = nights(lone(kind, side), &delivered);
            assert_eq!((changes[0].0, changes[0].2), (0, 1), "{kind} {side:?}: open at first");
            assert_eq!((changes[1].0, changes[1].1), (1, 0), "{kind} {side:?}: then found");
            // The late event is a match itself: it has no other event near it.
            assert_eq!(changes[2].1, 1, "{kind} {side:?}: then withdrawn");
        }
    }
}

#[test]
fn dropped_days_do_not_open_known_matches() {
    let place = Place { retain: Some(40 * DAY), ..Place::new() };
    let records: Vec<Value> = (0..8).map(|step| sign_in(step * 10 * 24 * 60, "203.0.113.9")).collect();
    place.put("0.json", &records);
    let rules = [lone(WindowKind::Sliding, AbsenceSide::Before)];
    let changes = [(); 3].map(|()| {
        let report = RUNTIME.block_on(place.run(&rules, START + 71 * DAY)).unwrap();
        (report.findings.new, report.findings.gone)
    });
    // The first event of the data is never decided. That of the days that are left was.
    assert_eq!(changes, [(7, 0), (0, 0), (0, 0)]);
}
