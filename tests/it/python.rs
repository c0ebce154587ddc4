//! Rules in Python: their meaning is Python's, on every way of reading, and what they may not have is refused by place.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tawny::rule::python::event::Json;
use tawny::rule::python::{EntryPoint, FunctionResult, ModuleFiles, PythonError, PythonModule, translate};

mod calls;
mod exactness;
mod fuzz;
mod pairs;
mod refusals;

const RULES: &str = "tests/data/python/rules";

fn tawny(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tawny"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap()
}

fn shown(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What `rule` of a module gives for an event.
fn outcome(module: &str, event: &Value) -> Result<FunctionResult, PythonError> {
    let files = ModuleFiles::default();
    let function = PythonModule::read("rule.py", module, &files)?.function(EntryPoint::Rule)?;
    let evaluator = function.evaluator(&[]).unwrap();
    Ok(evaluator.evaluate(&Json::parse(&event.to_string()).unwrap()))
}

fn event() -> Value {
    json!({
        "eventName": "GetObject", "EventSource": "s3.amazonaws.com", "errorCode": null, "count": 3, "half": 0.5,
        "userIdentity": {"type": "IAMUser", "userName": "anaya", "tags": ["a", "b"], "none": null},
        "requestParameters": {"items": [{"id": 1}, {"id": 2}, {"id": 1}], "empty": [], "name": "Ärger's"},
        "sourceIPAddress": "192.0.2.7",
    })
}

fn rule_of(expression: &str) -> String {
    format!(
        "import re\nimport json\nfrom ipaddress import ip_address, ip_network\nfrom fnmatch import fnmatch\n\
        from datetime import datetime, timedelta\nfrom panther_base_helpers import deep_get, deep_walk\n\
        def rule(event):\n    return {expression}\n"
    )
}

/// Each of these is `True` in Python.
const TRUE: &[&str] = &[
    "event.get('eventname') == 'GetObject' and event['EVENTNAME'] == 'GetObject'",
    "event.get('errorCode', 'x') is None and event.get('missing', 'x') == 'x'",
    "event.deep_get('errorCode', default='x') == 'x'",
    "event.deep_get('userIdentity', 'none', default='x') == 'x'",
    "event.deep_get('eventName', 'below', default=7) == 7",
    "deep_get(event, 'userIdentity', 'userName') == 'anaya'",
    "'eventsource' in event and 'nothing' not in event",
    "event.deep_walk('requestParameters', 'items', 'id') == [1, 2]",
    "deep_walk(event, 'requestParameters', 'items', 'id', return_val='last') == 2",
    "event.deep_walk('requestParameters', 'empty', default=5) == 5",
    "not isinstance(event.get('userIdentity'), dict) and not isinstance(event['userIdentity']['tags'], list)",
    "event['userIdentity']['tags'] == ['a', 'b'] and event['userIdentity']['tags'] == ('a', 'b')",
    "event['userIdentity'] == {'type': 'IAMUser', 'userName': 'anaya', 'tags': ['a', 'b'], 'none': None}",
    "1 == 1.0 == True and 0 == False and not (1 is True)",
    "[] == [] and [] != () and {} != set() and (1, 2) < (1, 3) and 'a' < 'b'",
    "7 // 2 == 3 and -7 // 2 == -4 and -7 % 3 == 2 and 7 / 2 == 3.5 and 2 ** 10 == 1024",
    "str(1.0) == '1.0' and str(1e16) == '1e+16' and str(1e-5) == '1e-05' and str(0.1) == '0.1'",
    "repr('a\\'b') == '\"a\\'b\"' and repr(['a', None, True, 1.5]) == \"['a', None, True, 1.5]\"",
    "f\"{event.get('userIdentity').get('tags')}\" == \"ImmutableList(('a', 'b'))\"",
    "f'{1234567:,} {3.14159:.2f} {\"x\":>3} {5:03d} {0.5:%}' == '1,234,567 3.14   x 005 50.000000%'",
    "'{a}-{}-{b!r}'.format(1, a='x', b='y') == \"x-1-'y'\"",
    "'%s is %d%%' % ('a', 5) == 'a is 5%'",
    "'a,b,,c'.split(',') == ['a', 'b', '', 'c'] and ' a  b '.split() == ['a', 'b']",
    "'a/b/c'.rsplit('/', 1) == ['a/b', 'c'] and 'a:b'.partition(':') == ('a', ':', 'b')",
    "'abcdef'[1:4] == 'bcd' and 'abcdef'[::-1] == 'fedcba' and 'abc'[-1] == 'c' and [1, 2, 3][-2:] == [2, 3]",
    "'ABC'.lower() == 'abc' and 'straße'.upper() == 'STRASSE' and 'x'.join(['a', 'b']) == 'axb'",
    "'abc'.startswith(('x', 'a')) and not 'abc'.endswith('b') and '  a '.strip() == 'a' and 'aXbX'.count('X') == 2",
    "len('Ärger') == 5 and 'Ä'.lower() == 'ä' and event['requestParameters']['name'].find('r') == 1",
    "any(x > 2 for x in [1, 2, 3]) and all([]) and not any([]) and sum([1, 2]) == 3 and max([1, 3, 2]) == 3",
    "[x * 2 for x in range(4) if x % 2] == [2, 6] and {k: v for k, v in [('a', 1)]} == {'a': 1} and {1, 1, 2} == {2, 1}",
    "sorted({'b', 'a'}) == ['a', 'b'] and sorted([1, 2, 3], key=lambda x: -x) == [3, 2, 1] and list(zip('ab', [1, 2])) == [('a', 1), ('b', 2)]",
    "{'a': 1} | {'b': 2} == {'a': 1, 'b': 2} and {1, 2} & {2, 3} == {2} and {1} <= {1, 2}",
    "(lambda x, y=2: x + y)(1) == 3 and (0 or 'x') == 'x' and (1 and 2) == 2 and (1 if [] else 2) == 2",
    "bool(re.search(r'(?i)OBJ', event['eventName'])) and re.match('Get', 'xGet') is None and re.findall('[0-9]+', 'a1b22') == ['1', '22']",
    "re.match(r'a$', 'a\\n') is not None and re.fullmatch('a', 'ab') is None and re.sub('a', 'b', 'aXa') == 'bXb'",
    "re.search(r'(?P<x>b+)', 'abb').group('x') == 'bb' and re.search('(a)(b)?', 'a').groups() == ('a', None)",
    "fnmatch('abc', 'a*') and not fnmatch('xabc', 'a*') and fnmatch('a.b', 'a.[!c]')",
    "ip_address(event['sourceIPAddress']) in ip_network('192.0.2.0/24') and ip_address('10.0.0.1').is_private and ip_address('1.1.1.1').is_global",
    "json.loads('{\"a\": [1, null]}') == {'a': [1, None]} and json.dumps({'a': 'ä'}) == '{\"a\": \"\\\\u00e4\"}'",
    "datetime.strptime('2026-09-01 10:00:00', '%Y-%m-%d %H:%M:%S') + timedelta(days=1) == datetime.fromisoformat('2026-09-02T10:00:00')",
    "(datetime.fromisoformat('2026-09-02') - datetime.fromisoformat('2026-09-01')).total_seconds() == 86400",
    "event.udm('actor_user') == 'anaya' and event.udm('source_ip') == '192.0.2.7' and event.udm('nothing', default=1) == 1",
    "int('12') == 12 and int(3.9) == 3 and float('1.5') == 1.5 and str(None) == 'None' and bool('False')",
    "isinstance(True, int) and not isinstance(1, bool) and isinstance('x', (int, str)) and hasattr('x', 'upper')",
    "next((x for x in [1, 2] if x > 1), None) == 2 and next(iter([]), 5) == 5",
    "'x' in ['x'] and 'x' not in [['x']] and None in [None] and 1.0 in [1] and 'ell' in 'hello'",
];

/// Each of these raises in Python, or gives no boolean: no match.
const RAISES: &[&str] = &[
    "event['missing'] == 1",
    "event.get('missing').startswith('a')",
    "event.get('eventName').get('x') is None",
    "event.get('userIdentity') in {'a'}",
    "event.get('requestParameters')['items']['id'] == 1",
    "'a' in None",
    "1 < 'a'",
    "1 / 0 == 1",
    "'a' + 1 == 2",
    "[1][5] == 1",
    "int('x') == 1",
    "ip_address('no address').is_private",
    "event.get('userIdentity').append(1) is None",
    "event.get('eventName')",
    "event.get('eventName') and 1",
    "None",
    "json.loads('{') == {}",
    "[x['id'] for x in event['userIdentity']['tags']] == []",
    "event.undefined == 1 if False else event.get('a').lower() == 'a'",
    "len(5) == 1",
];

#[test]
fn expressions_mean_what_they_mean_in_python() {
    for expression in TRUE {
        let result = outcome(&rule_of(expression), &event());
        assert_eq!(result, Ok(FunctionResult::Text("true".to_owned())), "{expression}");
        let negated = outcome(&rule_of(&format!("not ({expression})")), &event());
        assert_eq!(negated, Ok(FunctionResult::Nothing), "not ({expression})");
    }
    for expression in RAISES.iter().filter(|expression| !expression.contains("undefined")) {
        let result = outcome(&rule_of(expression), &event());
        assert!(matches!(result, Ok(FunctionResult::Raised(_))), "{expression}: {result:?}");
    }
}

/// Statements, and what `rule` returns.
const STATEMENTS: &[(&str, bool)] = &[
    (
        "for x in [1, 2, 3]:\n        if x == 2:\n            break\n    else:\n        return False\n    return x == 2",
        true,
    ),
    (
        "try:\n        event['no']\n    except KeyError as error:\n        return str(error) == \"'no'\"\n    return False",
        true,
    ),
    (
        "try:\n        int('x')\n    except (TypeError, ValueError):\n        return True\n    finally:\n        y = 1",
        true,
    ),
    ("x = 0\n    while x < 5:\n        x += 1\n        if x == 3:\n            continue\n    return x == 5", true),
    ("a, (b, c) = 1, (2, 3)\n    return a + b + c == 6", true),
    (
        "def inner(n):\n        return 1 if n < 2 else n * inner2(n - 1)\n    inner2 = lambda n: n\n    return inner(3) == 6",
        true,
    ),
    ("if (n := event.get('count')) and n > 2:\n        return n == 3\n    return False", true),
    (
        "d = {}\n    d.setdefault('a', []).append(1)\n    d.update(b=2)\n    return d == {'a': [1], 'b': 2} and d.pop('a') == [1]",
        true,
    ),
    ("l = [3, 1]\n    l.sort()\n    l.extend([5])\n    return l == [1, 3, 5] and l.index(5) == 2", true),
    ("assert event.get('count') == 4\n    return True", false),
    ("raise ValueError('x')", false),
    (
        "def f(a, *rest, k=1, **named):\n        return (a, rest, k, named)\n    return f(1, 2, k=3, z=4) == (1, (2,), 3, {'z': 4})",
        true,
    ),
];

#[test]
fn statements_mean_what_they_mean_in_python() {
    for (statements, expected) in STATEMENTS {
        let module = format!("def rule(event):\n    {statements}\n");
        let result = outcome(&module, &event()).unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        assert_eq!(result == FunctionResult::Text("true".to_owned()), *expected, "{statements}: {result:?}");
    }
}

#[test]
fn what_rules_may_not_have_is_refused_by_place_and_name() {
    for (code, line, what) in [
        ("class A:\n    pass\ndef rule(event):\n    return A()", 1, "the class `A`"),
        ("def rule(event):\n    with open('x') as f:\n        return True", 2, "`open`"),
        ("import os\ndef rule(event):\n    return os.system('x')", 1, "`system` of the module `os`"),
        ("from subprocess import run\ndef rule(event):\n    return run(['x'])", 1, "`run` of the module `subprocess`"),
        ("def rule(event):\n    return eval('1')", 2, "`eval`"),
        ("def rule(event):\n    return exec('1')", 2, "`exec`"),
        ("def rule(event):\n    return __import__('os')", 2, "`__import__`"),
        ("def rule(event):\n    return event.__class__", 2, "`__class__`"),
        ("def rule(event):\n    return (yield 1)", 2, "`yield`"),
        ("async def rule(event):\n    return True", 1, "`async def`"),
        ("@x\ndef rule(event):\n    return True", 1, "a decorator"),
        ("def rule(event):\n    return event.nonsense()", 2, "`.nonsense`"),
        ("import re\ndef rule(event):\n    return re.search('(?=x)', 'x')", 3, "look-around"),
        ("from datetime import datetime\ndef rule(event):\n    return datetime.now()", 3, "`.now`"),
        (
            "from panther_detection_helpers.caching import get_string_set\ndef rule(event):\n    return get_string_set('x')",
            1,
            "stored",
        ),
        ("from x import *\ndef rule(event):\n    return y", 3, "`y`, which is not defined"),
        ("from .x import y\ndef rule(event):\n    return y", 1, "a relative import"),
        ("def rule(event):\n    return (", 2, "this is not Python"),
        ("def other(event):\n    return True", 0, "there is no function `rule`"),
        ("def rule(event):\n    match event:\n        case _:\n            return True", 2, "`match`"),
    ] {
        let error = outcome(code, &event()).unwrap_err();
        assert!(error.message.contains(what), "{code}: {error:?}");
        assert!(error.line == line || line == 0, "{code}: {error:?}");
    }
    // Code that the rule does not reach may be anything.
    let unreached =
        "import os\nclass A:\n    pass\ndef other(e):\n    return os.system('x')\ndef rule(event):\n    return True";
    assert_eq!(outcome(unreached, &event()), Ok(FunctionResult::Text("true".to_owned())));
}

#[test]
fn no_rule_takes_more_than_its_steps() {
    let endless = [
        "x = True\n    while x:\n        pass",
        "x = 'a'\n    for _ in range(100):\n        x = x + x\n    return True",
        "x = [0]\n    for _ in range(100):\n        x = x * 2\n    return True",
        "return 'a' * 10 ** 12 == ''",
        "return 10 ** 10 ** 10 == 1",
        "return [x for x in range(10 ** 9)] == []",
        "return f'{1:1000000000}' == ''",
        "x = []\n    x.append(x)\n    return str(x) == ''",
        "x = []\n    x.append(x)\n    return x == x[:]",
        "x = []\n    for _ in range(60):\n        x = [x, x]\n    return str(x) == ''",
        "x = ()\n    for _ in range(100000):\n        x = (x,)\n    return x == ()",
        "def f(n):\n        return f(n + 1)\n    return f(0)",
    ];
    for statements in endless {
        let module = format!("def rule(event):\n    {statements}\n");
        let result = outcome(&module, &event());
        assert!(!matches!(result, Ok(FunctionResult::Text(_))), "{statements}: {result:?}");
    }
}

/// A trail with records that the rules of `tests/data/python` are about.
fn trail(folder: &Path) -> PathBuf {
    let record = |id: usize, name: &str, rest: Value| {
        let mut record = json!({
            "eventID": format!("id-{id}"), "eventTime": format!("2026-09-01T10:{id:02}:00Z"), "eventName": name,
            "eventSource": "iam.amazonaws.com", "awsRegion": "eu-central-1", "recipientAccountId": "111122223333",
            "sourceIPAddress": "192.0.2.7", "eventVersion": "1.11", "userAgent": "it's", "requestParameters": null,
            "userIdentity": {"type": "IAMUser", "userName": "anaya", "accountId": "111122223333"},
        });
        for (key, value) in rest.as_object().unwrap() {
            record[key] = value.clone();
        }
        record
    };
    let denied =
        |id, name| record(id, name, json!({"errorCode": "AccessDenied", "requestParameters": {"b": 1, "a": 2}}));
    let shared = |id, items: Value| {
        let parameters = json!({"snapshotId": "snap-1", "createVolumePermission": {"add": {"items": items}}});
        record(id, "ModifySnapshotAttribute", json!({"requestParameters": parameters}))
    };
    let records = json!([
        denied(1, "ListUsers"),
        denied(2, "ListUsers"),
        denied(3, "ListRoles"),
        denied(4, "DeleteUser"),
        record(
            5,
            "ListUsers",
            json!({"errorCode": "AccessDenied", "userIdentity": {"type": "IAMUser", "userName": "ci"}})
        ),
        record(6, "ListUsers", json!({})),
        shared(7, json!([{"userId": "444455556666"}])),
        shared(8, json!([{"group": "all"}])),
        shared(9, json!(["all"])),
        shared(10, json!([])),
    ]);
    let path = folder.join("trail");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("a.json"), json!({"Records": records}).to_string()).unwrap();
    path
}

fn findings(output: &Output) -> Vec<Value> {
    let (text, messages) = shown(output);
    assert_eq!(output.status.code(), Some(0), "{messages}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_hunt_groups_counts_and_shows_as_the_functions_say() {
    let folder = tempfile::tempdir().unwrap();
    let trail = trail(folder.path());
    let trail = trail.to_str().unwrap();
    let found = findings(&tawny(&["hunt", trail, "--rules", RULES, "--format", "jsonl"]));
    let of = |id: &str| found.iter().filter(|finding| finding["rule_id"] == id).collect::<Vec<_>>();
    let [denied] = of("Example.DeniedCalls").try_into().unwrap();
    assert_eq!(denied["title"], "[anaya] was denied calls in [eu-ce-1]");
    assert_eq!(denied["severity"], "HIGH".to_owned().replace("HIGH", "High"));
    assert_eq!(denied["group"], json!({"dedup()": "anaya"}));
    assert_eq!((&denied["unique"], &denied["distinct"]), (&json!("unique()"), &json!(3)));
    assert_eq!(denied["event_ids"], json!(["id-1", "id-2", "id-3", "id-4"]));
    assert_eq!(denied["context"]["eventName"], "DeleteUser");
    assert_eq!(denied["context"]["parameters"], json!(["a", "b"]));
    assert_eq!(denied["context"]["runbook"], "Ask the owner of 111122223333.");
    let shared: Vec<_> =
        of("Example.SharedSnapshot").iter().map(|f| (f["event_ids"].clone(), f["severity"].clone())).collect();
    assert_eq!(shared, [(json!(["id-7", "id-8"]), json!("Info"))]);

    let lake = folder.path().join("lake");
    let lake = lake.to_str().unwrap();
    assert_eq!(tawny(&["convert", trail, "--lake", lake]).status.code(), Some(0));
    let mut of_lake = findings(&tawny(&["hunt", lake, "--rules", RULES, "--format", "jsonl"]));
    for finding in &mut of_lake {
        assert_eq!(finding.as_object_mut().unwrap().remove("table_version"), Some(json!(1)));
    }
    assert_eq!(of_lake, found, "as from the trail");
    for rule in ["denied_calls.yml", "shared_snapshot.yml"] {
        let rule = format!("{RULES}/{rule}");
        let alone = findings(&tawny(&["hunt", trail, "--rules", &rule, "--format", "jsonl"]));
        let wanted: Vec<Value> = found.iter().filter(|f| f["rule_id"] == alone[0]["rule_id"]).cloned().collect();
        assert_eq!(alone, wanted, "one rule is as many");
    }

    let tests = tawny(&["test", RULES]);
    let (table, messages) = shown(&tests);
    assert_eq!(tests.status.code(), Some(0), "{table}{messages}");
    assert!(messages.contains("4 passed, 0 failed"), "{messages}");
}

#[test]
fn sql_shows_the_code_and_other_engines_refuse_it_by_name() {
    let rule = format!("{RULES}/shared_snapshot.yml");
    let (sql, messages) = shown(&tawny(&["sql", "Example.SharedSnapshot", "--rules", &rule]));
    assert!(sql.contains("python('rule',") && sql.contains("ModifySnapshotAttribute"), "{sql}{messages}");
    let dialect = tawny(&["sql", "Example.SharedSnapshot", "--rules", &rule, "--dialect", "duckdb"]);
    let (_, messages) = shown(&dialect);
    assert_eq!(dialect.status.code(), Some(2), "{messages}");
    assert!(messages.contains("Python"), "{messages}");
}

#[test]
fn a_rule_that_fails_its_own_test_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let yaml = "AnalysisType: rule\nRuleID: R\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n\
        Filename: r.py\nTests:\n  - {Name: first, ExpectedResult: true, Log: {eventName: B}}\n";
    write("r.yml", yaml);
    write("r.py", "def rule(event):\n    return event.get('eventName') == 'A'\n");
    let path = folder.path().join("r.yml");
    let output = tawny(&["test", path.to_str().unwrap()]);
    let reason = "the rule fails its own tests: `first`";
    let (table, _) = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains(reason), "{table}");
    let output = tawny(&["rules", "lint", path.to_str().unwrap()]);
    let (_, messages) = shown(&output);
    assert_eq!(output.status.code(), Some(2), "{messages}");
    assert!(messages.contains(reason), "{messages}");
    for (filename, reason) in [("../r.py", "in the folder of the rule"), ("no.py", "cannot be read")] {
        write("r.yml", &yaml.replace("r.py", filename));
        let (_, messages) = shown(&tawny(&["test", path.to_str().unwrap()]));
        assert!(messages.contains(reason), "{messages}");
    }
}

#[test]
fn simple_logic_becomes_a_predicate_and_other_logic_one_that_holds_for_every_match() {
    let translated = |code: &str| {
        let files = ModuleFiles::default();
        let module = PythonModule::read("rule.py", code, &files).unwrap();
        translate::predicate(&module.function(EntryPoint::Rule).unwrap())
    };
    let exact = translated(
        "from panther_aws_helpers import aws_cloudtrail_success\nNAMES = {'A', 'B'}\ndef rule(event):\n\
         \x20   if event.get('eventSource') != 'iam.amazonaws.com' or not aws_cloudtrail_success(event):\n\
         \x20       return False\n    return event.get('eventName') in NAMES\n",
    );
    assert!(exact.is_exact, "{exact:?}");
    let required = exact.predicate.required_values(&["eventName"]).unwrap();
    assert_eq!(required, [("eventName", "A"), ("eventName", "B")]);
    let wider = translated(
        "def rule(event):\n    if event.get('eventName') != 'A':\n        return False\n\
         \x20   return len(event.get('resources') or []) > 1\n",
    );
    assert!(!wider.is_exact);
    assert_eq!(wider.predicate.required_values(&["eventName"]).unwrap(), [("eventName", "A")]);
}

#[test]
fn event_that_needs_too_many_steps_does_not_escape() {
    let folder = tempfile::tempdir().unwrap();
    let rule = "def rule(event):\n    wanted = 0\n    for item in event.deep_get('requestParameters', 'items', default=[]):\n        \
                wanted = wanted + item\n    return wanted == 7\n";
    std::fs::write(folder.path().join("r.py"), rule).unwrap();
    let yaml = "AnalysisType: rule\nRuleID: Many.Steps\nEnabled: true\nFilename: r.py\nLogTypes: [AWS.CloudTrail]\nSeverity: Low\n";
    std::fs::write(folder.path().join("r.yml"), yaml).unwrap();
    let record = |id: &str, items: Vec<u8>| json!({"eventID": id, "eventTime": "2026-09-01T10:00:00Z", "eventName": "A", "eventSource": "a.amazonaws.com", "requestParameters": {"items": items}});
    let records = [record("few", vec![1; 7]), record("others", vec![1; 8]), record("many", vec![0; 300_000])];
    let trail = folder.path().join("trail.json");
    std::fs::write(&trail, json!({ "Records": records }).to_string()).unwrap();
    let rules = folder.path().join("r.yml");
    let output = tawny(&["hunt", trail.to_str().unwrap(), "--rules", rules.to_str().unwrap(), "--format", "json"]);
    let warning =
        "warning: rule `Many.Steps` could not be evaluated for 1 event, such as `many`: each counts as a match";
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output).1);
    assert!(shown(&output).1.contains(warning), "{}", shown(&output).1);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut ids: Vec<String> = findings
        .iter()
        .flat_map(|finding| finding["event_ids"].as_array().unwrap().clone())
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["few", "many"]);

    // Every way to hunt says so, once for each rule, and only of events in the range.
    let (trail, rules) = (trail.to_str().unwrap(), rules.to_str().unwrap());
    let lake = folder.path().join("lake").display().to_string();
    assert_eq!(tawny(&["convert", trail, "--lake", &lake]).status.code(), Some(0));
    for arguments in [
        &["hunt", trail, "--rules", rules, "--window", "all"][..],
        &["hunt", &lake, "--rules", rules],
        &["hunt", &lake, "--rules", rules, "--risk"],
        &["backtest", &lake, "--rules", rules],
        &["backtest", &lake, "--rules", rules, "--risk"],
        &["backtest", trail, "--compare", rules, rules],
    ] {
        let output = tawny(arguments);
        let said = shown(&output).1;
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert_eq!(said.matches(warning).count(), 1, "{arguments:?}: {said}");
    }
    let elsewhere = tawny(&["hunt", &lake, "--rules", rules, "--from", "2026-09-02"]);
    assert_eq!(elsewhere.status.code(), Some(0), "{}", shown(&elsewhere).1);

    let config = format!("lake = '{lake}'\n[[source]]\npath = '{trail}'\n[rules]\npaths = ['{rules}']\n");
    let file = folder.path().join("tawny.toml");
    std::fs::write(&file, config).unwrap();
    let night = ["nightly", "--config", file.to_str().unwrap(), "--now", "2026-09-03"];
    let output = tawny(&[&night[..], &["--format", "json"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output).1);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["undecided"], json!([{"rule_id": "Many.Steps", "events": 1, "event_ids": ["many"]}]));
    // The next night hunts no events.
    assert_eq!(tawny(&night).status.code(), Some(0));
}
