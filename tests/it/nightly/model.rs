//! Killed and concurrent runs, as processes on disk and in S3. Their deliveries equal the findings of one hunt.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tawny::time::DAY;

use super::processes::{Home, code, key};
use super::{MINUTE, START};
use crate::oracle;
use crate::records::failed_sign_in;
use crate::s3_server::{Fault, Server};

/// The events of one night.
#[derive(Debug, Clone)]
enum Night {
    Run,
    /// A run is killed this many milliseconds after its start.
    Killed(u64),
    /// Two runs start together.
    Two,
    /// Two runs start together, and one is killed.
    OneOfTwoKilled(u64),
    /// A run is killed when the server receives its request with this number, which may still be served.
    KilledAtRequest(usize, bool),
    /// The request with this number takes effect, but its response is lost.
    Unanswered(usize),
}

/// A failed sign-in and its delivery.
#[derive(Debug, Clone)]
struct Event {
    user: u8,
    address: u8,
    /// Minutes from the evening of the first day.
    minute: i64,
    /// It is delivered before this night.
    night: usize,
    /// Number of days by which its object key is earlier.
    lag: i64,
    object: usize,
    /// It is delivered again before this night.
    copy: Option<usize>,
}

const NIGHTS: usize = 5;

fn events() -> impl Strategy<Value = Vec<Event>> {
    let minute = (0..3i64, 0..18i64).prop_map(|(day, step)| day * 24 * 60 + step * 5);
    let event = (0..2u8, 0..3u8, minute, 0..NIGHTS, 0..3i64, 0..2usize, proptest::option::weighted(0.2, 0..NIGHTS))
        .prop_map(|(user, address, minute, night, lag, object, copy)| Event {
            user,
            address,
            minute,
            night,
            lag,
            object,
            copy,
        });
    proptest::collection::vec(event, 10..60)
}

fn on_disk() -> impl Strategy<Value = Night> {
    prop_oneof![
        1 => Just(Night::Run),
        4 => (0..600u64).prop_map(Night::Killed),
        2 => Just(Night::Two),
        2 => (0..600u64).prop_map(Night::OneOfTwoKilled),
    ]
}

fn in_a_bucket() -> impl Strategy<Value = Night> {
    prop_oneof![
        1 => Just(Night::Run),
        1 => Just(Night::Two),
        2 => (0..600u64).prop_map(Night::OneOfTwoKilled),
        5 => (0..80usize, any::<bool>()).prop_map(|(request, served)| Night::KilledAtRequest(request, served)),
        3 => (0..80usize).prop_map(Night::Unanswered),
    ]
}

fn outcome(outcome: &str) -> Value {
    json!({ "KeyPath": "responseElements.ConsoleLogin", "Condition": "Equals", "Value": outcome })
}

struct World {
    home: Home,
    server: Option<Server>,
}

impl World {
    fn new(server: Option<Server>) -> World {
        let (lake, source) = if server.is_some() { ("s3://lake/ct", "s3://logs") } else { ("lake", "trail") };
        let home = Home::new(lake, source, "[rules]\npaths = ['rules']\n");
        std::fs::create_dir(home.path("rules")).unwrap();
        let world = World { home, server };
        for (name, rest) in [
            ("sliding", json!({ "Threshold": 2 })),
            ("distinct", json!({ "Threshold": 2, "Hunt": { "Unique": "sourceIPAddress" } })),
            ("dedup", json!({ "Threshold": 3, "Hunt": { "Window": "dedup" } })),
            ("tumbling", json!({ "Threshold": 2, "Hunt": { "Window": "tumbling" } })),
            ("new", json!({ "Hunt": { "New": ["sourceIPAddress"], "History": "13h" } })),
            (
                "learned",
                json!({
                    "Threshold": 2,
                    "Hunt": { "New": ["sourceIPAddress"], "History": "20m", "Learning": "1h" },
                }),
            ),
            (
                "new_dedup",
                json!({
                    "Threshold": 2,
                    "Hunt": { "New": ["sourceIPAddress"], "History": "30m", "Learning": "25h", "Window": "dedup" },
                }),
            ),
            ("follows", json!({ "Threshold": 2, "Hunt": { "FollowedBy": [outcome("Success")] } })),
        ] {
            world.write_rule(name, rest);
        }
        world
    }

    fn write_rule(&self, name: &str, rest: Value) {
        let mut rule = json!({
            "AnalysisType": "rule",
            "RuleID": format!("Model.{name}"),
            "Enabled": true,
            "Severity": "Info",
            "LogTypes": ["AWS.CloudTrail"],
            "DedupPeriodMinutes": 15,
            "Detection": [outcome("Failure")],
            "GroupBy": [{ "Key": "account" }, { "Key": "actor" }],
        });
        let Value::Object(rest) = rest else { panic!("{rest}") };
        rule.as_object_mut().unwrap().extend(rest);
        std::fs::write(self.home.path("rules").join(format!("{name}.yml")), rule.to_string()).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let Some(server) = &self.server else { return self.home.tawny(arguments) };
        let mut command = server.command();
        command.args(arguments).current_dir(self.home.path("")).stdin(Stdio::null());
        command
    }

    fn put(&self, key: &str, records: &[Value]) {
        let bytes = json!({ "Records": records }).to_string();
        if let Some(server) = &self.server {
            server.put("logs", key, bytes.as_bytes());
        } else {
            let file = self.home.path("trail").join(key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
    }

    fn deliver(&self, night: usize, events: &[Event]) {
        let mut objects = std::collections::BTreeMap::<(i64, usize), Vec<Value>>::new();
        for (number, event) in events.iter().enumerate() {
            let at = (START + (event.minute - 40) * MINUTE).to_string();
            let mut record = failed_sign_in(&format!("user{}", event.user), &at, &format!("id-{number:04}"));
            record["sourceIPAddress"] = Value::from(format!("192.0.2.{}", event.address));
            if number % 5 == 4 {
                record["responseElements"]["ConsoleLogin"] = Value::from("Success");
            }
            let times = usize::from(event.night == night) + usize::from(event.copy == Some(night));
            let object = objects.entry((event.lag, event.object)).or_default();
            object.extend(std::iter::repeat_n(record, times));
        }
        for ((lag, object), records) in objects.iter().filter(|(_, records)| !records.is_empty()) {
            self.put(&key(i64::try_from(night).unwrap() - lag, night * 10 + object), records);
        }
    }

    fn start(&self, now: &str) -> Child {
        let mut command = self.command(&["nightly", "--now", now, "-q"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn kill_after(run: &mut Child, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
        run.kill().unwrap();
        run.wait().unwrap();
    }

    /// Checks that a run that is not killed does its work, or reports another run.
    fn wait(run: Child) {
        let output = run.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(code(&output) == 0 || code(&output) == 3 && text.contains("another run"), "{text}");
    }

    fn live(&self, night: &Night, now: &str) {
        match *night {
            Night::Run => World::wait(self.start(now)),
            Night::Killed(milliseconds) => World::kill_after(&mut self.start(now), milliseconds),
            Night::Two => {
                let runs = [self.start(now), self.start(now)];
                runs.into_iter().for_each(World::wait);
            }
            Night::OneOfTwoKilled(milliseconds) => {
                let (mut killed, other) = (self.start(now), self.start(now));
                World::kill_after(&mut killed, milliseconds);
                World::wait(other);
            }
            Night::KilledAtRequest(number, is_served) => {
                // Only nights in a bucket have requests.
                self.server.as_ref().unwrap().kill_at_request(number, is_served, || self.start(now));
            }
            Night::Unanswered(number) => {
                let mut heard = 0;
                self.faults(move || {
                    heard += 1;
                    if heard == number + 1 { Fault::Unanswered } else { Fault::None }
                });
                World::wait(self.start(now));
            }
        }
        self.faults(|| Fault::None);
    }

    fn faults(&self, mut next: impl FnMut() -> Fault + Send + 'static) {
        if let Some(server) = &self.server {
            server.set_faults(move |_| next());
        }
    }
}

/// Runs `nights` and one more, and compares the deliveries with one hunt over everything.
fn hold(server: Option<Server>, events: &[Event], nights: &[Night], changes: bool) {
    let world = World::new(server);
    // A trail without objects is an error, which is not what this test is about.
    let mut quiet = failed_sign_in("quiet", &START.to_string(), "id-quiet");
    quiet["eventName"] = Value::from("GetSessionToken");
    world.put(&key(0, 99), &[quiet]);
    for (number, night) in nights.iter().enumerate() {
        world.deliver(number, events);
        if changes && number == 2 {
            world.write_rule("dedup", json!({ "Threshold": 2, "Hunt": { "Window": "dedup" } }));
        }
        let now = (START + i64::try_from(number).unwrap() * DAY + DAY / 4).to_string();
        world.live(night, &now);
    }
    let now = (START + i64::try_from(NIGHTS).unwrap() * DAY).to_string();
    let last = world.command(&["nightly", "--now", &now]).output().unwrap();
    assert_eq!(code(&last), 0, "{}", String::from_utf8_lossy(&last.stderr));
    let trail = if world.server.is_some() { "s3://logs" } else { "trail" };
    world.home.hold_against_a_hunt(world.command(&["hunt", trail, "--rules", "rules", "--format", "jsonl"]));
}

proptest! {
    #![proptest_config(oracle::config(6))]

    #[test]
    fn killed_and_concurrent_runs_on_disk_deliver_the_findings_of_one_hunt(
        events in events(),
        nights in proptest::collection::vec(on_disk(), NIGHTS),
        changes in any::<bool>(),
    ) {
        hold(None, &events, &nights, changes);
    }
}

proptest! {
    #![proptest_config(oracle::config(4))]

    #[test]
    fn killed_and_concurrent_runs_in_s3_deliver_the_findings_of_one_hunt(
        events in events(),
        nights in proptest::collection::vec(in_a_bucket(), NIGHTS),
        changes in any::<bool>(),
    ) {
        hold(Some(Server::start()), &events, &nights, changes);
    }
}
