//! Damaged nightly state, and the times in it.

use std::path::PathBuf;

use tawny::error::Status;
use tawny::time::Instant;

use super::*;

/// Returns a folder after one run that found and delivered a burst of ann.
fn after_a_run() -> (Place, Vec<Rule>) {
    let place = Place::new();
    let records: Vec<Value> = (0..3).map(|minute| sign_in("ann", minute)).collect();
    place.put("0.json", &records);
    let rules = vec![rule(WindowKind::Sliding, 2, false)];
    oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap();
    (place, rules)
}

fn sign_in(user: &str, minute: i64) -> Value {
    failed_sign_in(user, &(START + minute * MINUTE).to_string(), &format!("{user}{minute}"))
}

fn state_file(place: &Place) -> PathBuf {
    place.path("lake/_tawny/nightly/default/00000001.json")
}

/// Sets the member at `path` of a JSON file to `value`; a last step `*` sets every member.
fn set(file: &Path, path: &[&str], value: &Value) {
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut at = &mut json;
    for step in path {
        at = match *step {
            "*" => at.as_object_mut().unwrap().values_mut().next().unwrap(),
            step => at.as_object_mut().unwrap().entry(step).or_insert(Value::Null),
        };
    }
    *at = value.clone();
    std::fs::write(file, json.to_string()).unwrap();
}

/// Returns standard error of a run that must fail because of its state, without deliveries or new state.
fn refusal(place: &Place, rules: &[Rule]) -> String {
    let files =
        || glob::glob(&format!("{}/**/*", place.path("").display())).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    place.put("1.json", &[sign_in("bob", 0), sign_in("bob", 1)]);
    let before = files();
    let error = oracle::RUNTIME.block_on(place.run(rules, START + DAY)).unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error:?}");
    assert_eq!(error.status(), Status::Incomplete);
    assert!(error.hint().unwrap().contains("restore it"));
    let delivered = |files: Vec<PathBuf>| files.into_iter().filter(|file| !file.ends_with("lock")).collect::<Vec<_>>();
    assert_eq!(delivered(files()), delivered(before), "{error}");
    error.to_string()
}

#[test]
fn damaged_time_in_the_state_is_named_and_stops_the_run() {
    for (path, value, named) in [
        (&["now"][..], json!("soon"), "`now` is \"soon\": expected a date"),
        (&["now"], json!(0), "`now` is 0: expected a time as text"),
        (&["since"], json!("2026-13-01T00:00:00Z"), "`since` is \"2026-13-01T00:00:00Z\""),
        (&["newest_event"], json!(""), "`newest_event` is \"\""),
        (&["listed", "*"], json!("2026-09-01T00:00:00Zz"), "`listed."),
        (&["newest", "*"], json!("1756684800"), "`newest.111122223333/` is \"1756684800\""),
        (&["known", "*", "first"], json!("x"), "`known.2026-09-01.first` is \"x\""),
        (&["known", "*", "last"], json!(["x"]), "`known.2026-09-01.last` is [\"x\"]"),
        (&["known"], json!({"someday": {}}), "`known` is \"someday\""),
        (&["run"], json!(7), "`run` is 7, but the name of the file says 1"),
        (&["hunted_commits"], json!(12), "`hunted_commits` is 12, but the lake's transaction log has 1"),
        (&["state_version"], json!(3), "another version than 2"),
    ] {
        let (place, rules) = after_a_run();
        set(&state_file(&place), path, &value);
        let said = refusal(&place, &rules);
        assert!(said.contains("nightly/default/00000001.json` cannot be used: ") && said.contains(named), "{said}");
    }
}

#[test]
fn state_files_must_have_the_recorded_number_of_lines() {
    for (folder, cut, named) in [("known", true, "it has 0 lines, but the state lists 1"), ("known", false, "line 1: ")]
    {
        let (place, rules) = after_a_run();
        let pattern = place.path(&format!("lake/_tawny/nightly/default/{folder}/*.jsonl"));
        let file = glob::glob(&pattern.display().to_string()).unwrap().next().unwrap().unwrap();
        std::fs::write(&file, if cut { "" } else { "{\n" }).unwrap();
        place.put("1.json", &[sign_in("ann", 3)]);
        let error = oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap_err();
        assert!(matches!(error, Error::State { .. }) && error.to_string().contains(named), "{error:?}");
    }
}

#[test]
fn pending_lines_must_be_complete() {
    for (path, value, named) in [
        ("finding_id", json!(null), "line 1: it has no `finding_id`"),
        ("revision", json!("1"), "line 1: it has no `revision`"),
        ("trigger_time", json!("soon"), "line 1: `trigger_time` is \"soon\": expected a date"),
    ] {
        let place = Place::new();
        place.put("0.json", &[sign_in("ann", 0), sign_in("ann", 1)]);
        let rules = [rule(WindowKind::Sliding, 2, false)];
        std::fs::write(place.path("findings"), "not a folder").unwrap();
        let report = oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap();
        assert_eq!(report.deliveries[0].undelivered, 1);
        std::fs::remove_file(place.path("findings")).unwrap();
        let pattern = place.path("lake/_tawny/nightly/default/lines/*.jsonl").display().to_string();
        set(&glob::glob(&pattern).unwrap().next().unwrap().unwrap(), &[path], &value);
        let error = oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap_err();
        assert!(matches!(error, Error::State { .. }) && error.to_string().contains(named), "{error:?}");
        assert!(!place.path("findings").exists());
    }
}

#[test]
fn state_times_are_compared_as_times() {
    let place = Place::new();
    place.put("0.json", &[0, 1, 20, 21].map(|minute| sign_in("ann", minute)));
    let rules = [rule(WindowKind::Sliding, 2, false)];
    let run = |since: &str| {
        let since: Instant = since.parse().unwrap();
        oracle::RUNTIME.block_on(place.run_since(&[place.sink()], &rules, START + DAY, Some(since))).unwrap()
    };
    // As text a fraction sorts before the full second, because `.` sorts before `Z`.
    assert_eq!(run("2026-09-01T00:20:30Z").hunts.len(), 1, "the rule is new");
    assert_eq!(run("2026-09-01T00:20:30.5Z").hunts.len(), 0, "later");
    assert_eq!(run("2026-09-01T00:20:30Z").hunts.len(), 1, "earlier");
    assert_eq!(run("2026-09-01T00:00:00.5Z").hunts.len(), 1, "earlier");
    let report = run("2026-09-01T00:00:00Z");
    assert_eq!((report.hunts.len(), report.findings.known), (1, 2));
}

#[test]
fn only_missing_objects_are_given_up() {
    let place = Place::new();
    std::fs::create_dir(place.path("trail/folder")).unwrap();
    place.put("folder/a[1].json", &[]);
    std::fs::write(place.path("trail/folder/a[1].json"), "{\"Records\":[{").unwrap();
    let rules = [rule(WindowKind::Sliding, 2, false)];
    // Messages about the object, not about its folder.
    let run = || {
        let report = oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap();
        let pending = report.pending.into_iter().find(|pending| pending.object.ends_with("a[1].json"));
        pending.map(|pending| pending.reason)
    };
    assert!(run().is_some());
    // A symbolic link to itself: it is unknown whether the object exists.
    std::fs::rename(place.path("trail/folder"), place.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path("trail/folder"), place.path("trail/folder")).unwrap();
    for _ in 0..2 {
        let reason = run().unwrap();
        assert!(reason.contains("cannot look for"), "{reason}");
    }
    std::fs::remove_file(place.path("trail/folder")).unwrap();
    let reason = run().unwrap();
    assert!(reason.contains("no longer exists; it was never read, and is given up"), "{reason}");
    assert_eq!(run(), None);
}

#[test]
fn lake_and_state_of_an_earlier_build_with_any_times_work() {
    let (place, rules) = after_a_run();
    set(&state_file(&place), &["newest_event"], &json!("+262142-12-31T23:59:00Z"));
    set(&state_file(&place), &["newest", "*"], &json!("9999-12-31T00:00:00Z"));
    let file = state_file(&place);
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    // A finding of an earlier build from such records, and other rule versions.
    let known = place.path("lake/_tawny/nightly/default/known/00000001-odd.jsonl");
    let at = 253_402_300_799_000_000_i64;
    let odd = json!({
        "finding_id": "odd", "rule_id": rules[0].id, "revision": 1, "gone": false, "digest": "x", "first": at, "last": at,
        "trigger": at, "group": {}, "title": "odd", "severity": "High",
    });
    std::fs::write(&known, format!("{odd}\n")).unwrap();
    state["known"]["9999-12-31"] = json!({
        "file": "known/00000001-odd.jsonl", "findings": 1, "first": "9999-12-31T23:59:59Z", "last": "9999-12-31T23:59:59Z",
    });
    state["rules"] = json!({});
    std::fs::write(&file, state.to_string()).unwrap();
    let report = oracle::RUNTIME.block_on(place.run(&rules, START + DAY)).unwrap();
    assert_eq!((report.findings.gone, report.findings.known), (1, 1));
    assert_eq!((report.newest_event, report.deliveries[0].lines), (None, 1));
}
