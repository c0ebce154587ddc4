//! A cluster of processes on this machine gives the findings of one process.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::records::failed_sign_in;
use crate::s3_server::{Fault, Server};
use crate::tables;

mod lists_and_origins;

/// Longest time until a node is ready.
const PATIENCE: Duration = Duration::from_mins(2);

/// A process that is killed at the end of the test.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A scheduler and two executors that use `server` as S3.
struct Nodes {
    url: String,
    scheduler: Node,
    executors: Vec<Node>,
    folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(server: &Server, arguments: &[&str]) -> Node {
    let mut command = server.command();
    Node(command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn wait_for(port: u16) {
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < PATIENCE, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Nodes {
    fn start(server: &Server) -> Nodes {
        let port = free_port();
        let bind = format!("127.0.0.1:{port}");
        let url = format!("df://{bind}");
        let scheduler = start(server, &["cluster", "scheduler", "--bind", &bind]);
        wait_for(port);
        let folder = tempfile::tempdir().unwrap();
        let executor = |number: usize| {
            let (port, grpc_port) = (free_port(), free_port());
            let work = folder.path().join(number.to_string()).display().to_string();
            let ports = [port.to_string(), grpc_port.to_string()];
            let arguments = ["cluster", "executor", "--scheduler", &url, "--port", &ports[0], "--grpc-port", &ports[1]];
            let more = ["--work-dir", &work, "--threads", "2", "--memory", "256"];
            let node = start(server, &[&arguments[..], &more].concat());
            wait_for(port);
            node
        };
        let executors = [0, 1].map(executor).into();
        Nodes { url, scheduler, executors, folder }
    }
}

/// Writes bursts of many users over three days, with duplicates, in many objects.
fn write_trail(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for object in 0..24 {
        let mut records = Vec::new();
        for user in 0..40 {
            for step in 0..3 {
                let minute = (object * 7 + user * step) % 60;
                let time = format!("2026-09-{:02}T{:02}:{minute:02}:00Z", 1 + object % 3, object);
                records.push(failed_sign_in(&format!("user{user}"), &time, &format!("{object}-{user}-{step}")));
            }
        }
        records.extend(records[..5].to_vec());
        let text = json!({ "Records": records }).to_string();
        std::fs::write(folder.join(format!("{object:02}.json")), text).unwrap();
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the output of a command that must succeed.
fn of(server: &Server, arguments: &[&str]) -> String {
    let output = server.tawny(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn lakes(server: &Server, folder: &Path) -> [String; 2] {
    let trail = folder.join("trail");
    write_trail(&trail);
    std::fs::create_dir_all(server.file("lake", "")).unwrap();
    let lakes = [folder.join("lake").display().to_string(), "s3://lake/here".to_owned()];
    for lake in &lakes {
        of(server, &["convert", &trail.display().to_string(), "--lake", lake, "--quiet"]);
    }
    lakes
}

#[test]
fn cluster_and_local_findings_are_equal() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let lakes = lakes(&server, nodes.folder.path());
    let on_cluster = ["--cluster", &nodes.url, "--partitions", "4"];
    for lake in &lakes {
        for window in ["sliding", "dedup", "tumbling"] {
            for range in [&[][..], &["--from", "2026-09-02", "--to", "2026-09-03"]] {
                let hunt = ["hunt", lake, "--window", window, "--threshold", "3", "--format", "jsonl"];
                let hunt = [&hunt[..], range].concat();
                let expected = of(&server, &hunt);
                assert!(expected.lines().count() > 20, "{}", expected.lines().count());
                assert!(of(&server, &[&hunt[..], &on_cluster].concat()) == expected, "{hunt:?}");
            }
        }
        let backtest = ["backtest", lake, "--format", "json", "--thresholds", "1..4", "--periods", "5m,1h"];
        let expected = of(&server, &backtest);
        assert!(of(&server, &[&backtest[..], &on_cluster].concat()) == expected, "backtest of {lake}");
    }
}

#[test]
fn executors_read_raw_objects_and_report_each_that_they_cannot_read() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let trail = nodes.folder.path().join("trail");
    write_trail(&trail);
    std::fs::write(trail.join("24.json.gz"), b"\x1f\x8b\x08broken").unwrap();
    std::fs::write(trail.join("25.json"), r#"{"awsAccountId":"111122223333","logFiles":[]}"#).unwrap();
    let bucket = server.file("trail", "");
    std::fs::create_dir_all(&bucket).unwrap();
    for entry in std::fs::read_dir(&trail).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, bucket.join(path.file_name().unwrap())).unwrap();
    }
    let on_cluster = ["--cluster", &nodes.url, "--partitions", "4"];
    for trail in [trail.display().to_string(), "s3://trail".to_owned()] {
        for command in [
            &["hunt", &trail, "--format", "jsonl"][..],
            &["hunt", &trail, "--threshold", "3", "--window", "dedup", "--from", "2026-09-02", "--format", "jsonl"],
            &["hunt", &trail, "--threshold", "3", "--account", "111122223333", "--format", "jsonl"],
            &["hunt", &trail, "--threshold", "3", "--account", "444455556666", "--format", "jsonl"],
            &["backtest", &trail, "--format", "json", "--thresholds", "1..4", "--periods", "5m,1h"],
        ] {
            assert_same_outcome(&server, command, &on_cluster, 3);
        }
    }
    let piped = server.tawny(&[&["hunt", "-"][..], &on_cluster].concat());
    assert_eq!(piped.status.code(), Some(2), "{}", told(&piped));
    assert!(told(&piped).contains("cannot read"), "{}", told(&piped));
}

/// Runs `command` here and on the cluster. Both must end with `code`, the same findings and the same statistics.
fn assert_same_outcome(server: &Server, command: &[&str], on_cluster: &[&str], code: i32) {
    let statistics = |output: &Output| -> Vec<String> {
        let lines = told(output);
        // Only a hunt of a lake without a cluster counts the scanned records.
        let lines = lines.lines().filter(|line| !line.starts_with("note: ") && !line.contains(" records scanned ("));
        lines.map(str::to_owned).collect()
    };
    let here = server.tawny(command);
    let there = server.tawny(&[command, on_cluster].concat());
    assert_eq!(here.status.code(), Some(code), "{command:?}: {}", told(&here));
    assert_eq!(there.status.code(), Some(code), "{command:?}: {}", told(&there));
    assert!(there.stdout == here.stdout, "{command:?}");
    assert_eq!(statistics(&there), statistics(&here), "{command:?}");
}

/// A rule for users that are new to their account.
const NEW_USERS: &str =
    "{AnalysisType: rule, RuleID: Cluster.New, Enabled: true, Severity: Low, LogTypes: [AWS.CloudTrail],
  Threshold: 2, Hunt: {New: [userIdentity.userName], History: 2h, Learning: 1d}, GroupBy: [{Key: account}],
  Detection: [{Key: eventName, Condition: Equals, Value: ConsoleLogin}]}";

/// A rule for sign-ins without one of a certain user within the hour after them.
const LONE_SIGN_INS: &str =
    "{AnalysisType: rule, RuleID: Cluster.Lone, Enabled: true, Severity: Low, LogTypes: [AWS.CloudTrail],
  Threshold: 2, Hunt: {NotFollowedBy: [{KeyPath: userIdentity.userName, Condition: EndsWith, Value: '1'}]},
  GroupBy: [{Key: account}], Detection: [{Key: eventName, Condition: Equals, Value: ConsoleLogin}]}";

#[test]
fn cluster_finds_the_same_new_and_lone_matches() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let at = |name: &str| nodes.folder.path().join(name).display().to_string();
    write_trail(&nodes.folder.path().join("trail"));
    std::fs::write(at("new.yml"), NEW_USERS).unwrap();
    std::fs::write(at("lone.yml"), LONE_SIGN_INS).unwrap();
    of(&server, &["convert", &at("trail"), "--lake", &at("lake"), "--quiet"]);
    let (rules, lone) = (at("new.yml"), at("lone.yml"));
    let on_cluster = ["--cluster", &nodes.url, "--partitions", "3"];
    for data in [at("trail"), at("lake")] {
        for more in [&[][..], &["--from", "2026-09-03"]] {
            let hunt = [&["hunt", &data, "--rules", &rules, "--format", "jsonl"][..], more].concat();
            assert!(of(&server, &hunt).contains("Cluster.New"), "{hunt:?}");
            assert_same_outcome(&server, &hunt, &on_cluster, 0);
        }
        for more in [&[][..], &["--from", "2026-09-03"]] {
            let hunt = [&["hunt", &data, "--rules", &lone, "--format", "jsonl"][..], more].concat();
            assert!(of(&server, &hunt).contains("Cluster.Lone"), "{hunt:?}");
            assert_same_outcome(&server, &hunt, &on_cluster, 0);
        }
        let grid = ["--thresholds", "1..3", "--periods", "15m,1h", "--move-to", "1/1h"];
        let backtest = [&["backtest", &data, "--rules", &lone, "--format", "json"][..], &grid].concat();
        assert_same_outcome(&server, &backtest, &on_cluster, 0);
        let grid = ["--histories", "1h,4h", "--thresholds", "1..3", "--periods", "1h", "--move-to", "1/1h"];
        let backtest = [&["backtest", &data, "--rules", &rules, "--format", "json"][..], &grid].concat();
        assert_same_outcome(&server, &backtest, &on_cluster, 0);
    }
}

#[test]
fn cluster_hunt_without_selected_records_ends_like_a_local_one() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let at = |name: &str| nodes.folder.path().join(name);
    let on_cluster = ["--cluster", &nodes.url];
    write_trail(&at("trail"));
    let trail = at("trail").display().to_string();
    assert_same_outcome(&server, &["hunt", &trail, "--threshold", "3"], &on_cluster, 0);
    assert_same_outcome(&server, &["hunt", &trail, "--account", "444455556666"], &on_cluster, 3);
    // A trail whose objects are all left out by their names has statistics too.
    std::fs::create_dir(at("notes")).unwrap();
    std::fs::write(at("notes").join("readme.txt"), "not CloudTrail").unwrap();
    let texts = at("notes").display().to_string();
    assert_same_outcome(&server, &["hunt", &texts], &on_cluster, 3);
}

/// Writes a trail in which records that share an `eventID` differ in time, user and object. Which of them counts decides the
/// group of the event.
fn write_differing_duplicates(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for object in 0..12 {
        let mut records = Vec::new();
        for event in 0..60 {
            let (first, second) = (event % 7, (event + object) % 5);
            let id = format!("event-{event}");
            let time = |later: i32| format!("2026-09-01T{:02}:{:02}:00Z", 8 + event / 10 * 2, event % 10 + later);
            records.push(failed_sign_in(&format!("user{first}"), &time(object % 3), &id));
            records.push(failed_sign_in(&format!("user{second}"), &time(0), &id));
        }
        let text = json!({ "Records": records }).to_string();
        std::fs::write(folder.join(format!("{object:02}.json")), text).unwrap();
    }
}

#[test]
fn cluster_hunts_the_whole_library_and_each_event_once_whatever_its_duplicates_say() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let at = |name: &str| nodes.folder.path().join(name);
    write_differing_duplicates(&at("trail"));
    let [trail, lake] = ["trail", "lake"].map(|name| at(name).display().to_string());
    of(&server, &["convert", &trail, "--lake", &lake, "--quiet"]);
    let on_cluster = ["--cluster", &nodes.url, "--partitions", "5"];
    for data in [&trail, &lake] {
        let windows = ["sliding", "dedup", "tumbling"].map(|window| ["--threshold", "2", "--window", window]);
        for rules in [&[][..], &windows[0], &windows[1], &windows[2]] {
            for range in [&[][..], &["--from", "2026-09-01T10:00:30Z", "--to", "2026-09-01T12:03:00Z"]] {
                let hunt = [&["hunt", data, "--format", "jsonl"][..], rules, range].concat();
                let here = server.tawny(&hunt);
                assert!(!here.stdout.is_empty() && told(&here).contains("duplicates among"), "{}", told(&here));
                let statistics = |output: &Output| {
                    let text = told(output);
                    let lines = text.lines().filter(|line| !line.contains("records scanned"));
                    lines.filter(|line| !line.starts_with("note: ")).map(str::to_owned).collect::<Vec<_>>()
                };
                let there = server.tawny(&[&hunt[..], &on_cluster].concat());
                assert!(there.stdout == here.stdout, "{hunt:?}: {}", told(&there));
                assert_eq!(
                    (there.status.code(), statistics(&there)),
                    (here.status.code(), statistics(&here)),
                    "{hunt:?}"
                );
            }
        }
        let backtest = ["backtest", data, "--format", "json", "--thresholds", "1..4", "--periods", "5m,1h"];
        for more in [&[][..], &["--move-to", "1/1h"]] {
            let backtest = [&backtest[..], more].concat();
            assert!(of(&server, &[&backtest[..], &on_cluster].concat()) == of(&server, &backtest), "{backtest:?}");
        }
    }
}

#[test]
fn nodes_verify_every_byte_of_a_lake() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let [lake, _] = lakes(&server, nodes.folder.path());
    let day = Path::new(&lake).join("date=2026-09-02");
    let files = || std::fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().path());
    let [file] = <[_; 1]>::try_from(files().collect::<Vec<_>>()).unwrap();
    let written = std::fs::read(&file).unwrap();
    let hunt = ["hunt", &lake, "--threshold", "3", "--format", "jsonl", "--cluster", &nodes.url];
    assert!(!of(&server, &hunt).is_empty());
    // The first data page begins behind the four bytes `PAR1`; the footer ends eight bytes before the end.
    for at in [40, written.len() / 2, written.len() - 20] {
        let mut damaged = written.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        let output = server.tawny(&hunt);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(output.status.code(), Some(3), "a flipped bit at {at}: {}", told(&output));
        assert!(told(&output).contains(name) && output.stdout.is_empty(), "at {at}: {}", told(&output));
    }
}

/// Returns the bytes that the cluster returned for `command`.
fn bytes_returned(server: &Server, command: &[&str]) -> u64 {
    let text = told(&server.tawny(command));
    let bytes = text.lines().find_map(|line| line.strip_prefix("note: the cluster returned ")?.strip_suffix(" bytes"));
    bytes.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn cluster_returns_findings_and_no_other_matches() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let [lake, _] = lakes(&server, nodes.folder.path());
    let on_cluster = ["--cluster", &nodes.url, "--partitions", "4"];
    let hunt = |threshold: &str| {
        let hunt = ["hunt", &lake, "--threshold", threshold, "--rule", "AWS.Unsuccessful.MFA.attempt"];
        bytes_returned(&server, &[&hunt[..], &on_cluster].concat())
    };
    // Each of the 2,880 matches has more than a hundred bytes.
    let (none, many) = (hunt("1000"), hunt("2"));
    assert!(none < 50_000 && none * 2 < many, "{none} bytes without findings, {many} with many");

    // A backtest needs the matches between the ends of findings only to say what single events are.
    let dense = nodes.folder.path().join("dense");
    std::fs::create_dir(&dense).unwrap();
    let record = |number: usize| {
        let time = format!("2026-09-01T10:{:02}:{:02}Z", number / 60, number % 60);
        failed_sign_in("one", &time, &format!("event-{number}"))
    };
    let records: Vec<Value> = (0..3_000).map(record).collect();
    std::fs::write(dense.join("a.json"), json!({ "Records": records }).to_string()).unwrap();
    let dense = dense.display().to_string();
    let backtest = ["backtest", &dense, "--format", "json", "--thresholds", "2..4", "--periods", "10m"];
    let backtest = [&backtest[..], &on_cluster].concat();
    let ends = bytes_returned(&server, &backtest);
    let all = bytes_returned(&server, &[&backtest[..], &["--move-to", "3/10m"]].concat());
    assert!(ends * 10 < all && all > 100_000, "{ends} bytes of counts, {all} of matches");
    for more in [&[][..], &["--move-to", "3/10m/tumbling"], &["--from", "2026-09-01T10:20:00Z"]] {
        let here = ["backtest", &dense, "--format", "json", "--thresholds", "2..4", "--periods", "10m"];
        let here = [&here[..], more].concat();
        assert!(of(&server, &[&here[..], &on_cluster].concat()) == of(&server, &here), "{here:?}");
    }
}

/// Rules that need more than a count of events. Their functions are sent to the nodes too.
const RULES: &str = "
AnalysisType: rule
RuleID: Cluster.Distinct
Enabled: true
Severity: Low
LogTypes: [AWS.CloudTrail]
Threshold: 2
DedupPeriodMinutes: 120
Detection:
  - {KeyPath: eventName, Condition: Equals, Value: ConsoleLogin}
GroupBy: [{Key: account}]
Hunt: {Window: dedup, Unique: userIdentity.userName}
---
AnalysisType: rule
RuleID: Cluster.Follows
Enabled: true
Severity: High
LogTypes: [AWS.CloudTrail]
Threshold: 1
Detection:
  - {KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Failure}
GroupBy: [{Key: account}, {Key: actor}]
Hunt:
  FollowedBy:
    - {KeyPath: responseElements.ConsoleLogin, Condition: Equals, Value: Success}
---
AnalysisType: rule
RuleID: Cluster.Lists
Enabled: true
Severity: Low
LogTypes: [AWS.CloudTrail]
Threshold: 2
Detection:
  - KeyPath: additionalEventData.factors
    Condition: AnyElement
    Expressions:
      - {Key: kind, Condition: IStartsWith, Value: totp}
      - {Key: address, Condition: IsIPAddressInCIDR, Value: 192.0.2.0/24}
  - {KeyPath: 'additionalEventData.factors[*].kind', Condition: Contains, Value: U2F}
  - {Key: userAgent, Condition: StartsWith, Value: Mozilla}
GroupBy: [{Key: account}]
";

/// Returns the sign-ins of [`tables::records`] with a list added.
fn records_with_lists() -> Vec<Value> {
    let mut records = tables::records();
    for record in &mut records {
        if record["additionalEventData"].is_object() {
            record["additionalEventData"]["factors"] =
                json!([{"kind": "TOTP-1", "address": "192.0.2.9"}, {"kind": "U2F", "address": null}]);
        }
    }
    records
}

#[test]
fn cluster_hunts_other_layouts_and_every_kind_of_rule() {
    let server = Server::start();
    let nodes = Nodes::start(&server);
    let at = |name: &str| nodes.folder.path().join(name).display().to_string();
    let records = records_with_lists();
    std::fs::create_dir(at("trail")).unwrap();
    std::fs::write(at("trail/a.json"), json!({ "Records": &records }).to_string()).unwrap();
    of(&server, &["convert", &at("trail"), "--lake", &at("lake"), "--quiet"]);
    let columns = tables::columns(tables::text("eventtime"), false, &tables::lower);
    let rows = tables::rows(&records, false, &tables::lower);
    for (file, rows) in [("a.parquet", &rows[..7]), ("b.parquet", &rows[7..])] {
        tables::write(&nodes.folder.path().join("athena").join(file), columns.clone(), rows);
    }
    std::fs::create_dir(at("rules")).unwrap();
    for (number, rule) in RULES.split("---").enumerate() {
        std::fs::write(at(&format!("rules/{number}.yml")), rule).unwrap();
    }
    for data in [at("lake"), at("athena")] {
        for rules in [&["--rules", &at("rules")][..], &["--rule", "AWS.Unsuccessful.MFA.attempt", "--window", "all"]] {
            let hunt = [&["hunt", &data, "--format", "jsonl"][..], rules].concat();
            let expected = of(&server, &hunt);
            let found = of(&server, &[&hunt[..], &["--cluster", &nodes.url, "--partitions", "3"]].concat());
            assert_eq!(found, expected, "{hunt:?}");
            for rule in ["Cluster.Distinct", "Cluster.Follows", "Cluster.Lists"] {
                assert!(rules[0] == "--rule" || expected.contains(rule), "{rule} finds nothing in {data}");
            }
        }
    }
}

#[test]
fn cluster_query_is_cancelled_after_the_timeout() {
    let server = Server::start();
    let mut nodes = Nodes::start(&server);
    let [_, lake] = lakes(&server, nodes.folder.path());
    let hunt = ["hunt", &lake, "--threshold", "3", "--format", "jsonl", "--cluster", &nodes.url];
    let given_up = |limit: &str| {
        let start = Instant::now();
        let output = server.tawny(&[&hunt[..], &["--cluster-timeout", limit]].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{}", told(&output));
        assert!(start.elapsed() < PATIENCE);
        told(&output)
    };
    // Longer than the test may take: what a cancelled query holds is free at once, or never.
    let slow = Duration::from_hours(1);
    server
        .set_faults(move |parts| if parts.uri.path().ends_with(".parquet") { Fault::Slow(slow) } else { Fault::None });
    // Each would occupy some of the four threads.
    for _ in 0..2 {
        let unanswered = given_up("3s");
        assert!(unanswered.contains("no answer within 3s") && unanswered.contains("--cluster-timeout"), "{unanswered}");
    }
    server.set_faults(|_| Fault::None);
    let found = of(&server, &[&hunt[..], &["--cluster-timeout", "30m"]].concat());
    assert!(found.lines().count() > 20, "a cancelled query does not block others");
    nodes.executors.clear();
    given_up("10s");
    drop(nodes.scheduler);
    given_up("10s");
}

#[test]
fn executor_without_a_reachable_address_does_not_start() {
    let server = Server::start();
    let output = server.tawny(&["cluster", "executor", "--bind", "0.0.0.0"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("--host"), "{}", told(&output));
}

#[test]
fn lost_executor_gives_complete_findings_or_exit_3() {
    let server = Server::start();
    let mut nodes = Nodes::start(&server);
    let [_, lake] = lakes(&server, nodes.folder.path());
    let hunt = ["hunt", &lake, "--threshold", "3", "--format", "jsonl"];
    let expected = of(&server, &hunt);
    // Slow enough to lose the executor during the hunt.
    server.set_delay(Duration::from_millis(400));
    let mut running = server
        .command()
        .args(hunt)
        .args(["--rule", "AWS.Unsuccessful.MFA.attempt", "--cluster", &nodes.url, "--partitions", "8"])
        .args(["--cluster-timeout", "2m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(running.try_wait().unwrap().is_none(), "the hunt ended too early");
    drop(nodes.executors.pop());
    let mut found = String::new();
    running.stdout.take().unwrap().read_to_string(&mut found).unwrap();
    let mut said = String::new();
    running.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    match running.wait().unwrap().code() {
        Some(0) => assert_eq!(found, expected),
        code => {
            assert_eq!(code, Some(3), "{said}");
            assert!(found.is_empty() && said.contains("error: "), "{said}");
        }
    }
    server.set_delay(Duration::ZERO);
    let again = [&hunt[..], &["--cluster", &nodes.url]].concat();
    assert_eq!(of(&server, &again), expected, "the other executor completes the hunt");
}

#[test]
fn unreachable_cluster_is_reported() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let [lake, _] = lakes(&server, folder.path());
    let nobody = format!("df://127.0.0.1:{}", free_port());
    let output = server.tawny(&["hunt", &lake, "--cluster", &nobody]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{}", told(&output));
    for wrong in ["127.0.0.1:50050", "http://127.0.0.1:50050"] {
        let output = server.tawny(&["hunt", &lake, "--cluster", wrong]);
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    let output = command.args(["cluster", "scheduler", "--bind", &bind]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains(&bind), "{}", told(&output));
}
