//! Constructs that would not do what they do in Python are refused where the rule is read, by place and name.

use super::{event, outcome, shown, tawny};

/// The body of `rule`, and what is refused on its last line, from this column.
const REFUSED: &[(&str, usize, &str)] = &[
    ("return event.get('a').startswith('a', 1, 2, 3)", 27, "`.startswith` with 4 arguments"),
    ("return event.get('a').replace('a', 'b', count=1) == ''", 27, "`.replace` with `count`"),
    ("return event.get('a').lower('x') == ''", 27, "`.lower` with 1 argument"),
    ("return event.get('a').get() == ''", 27, "`.get` with no arguments"),
    ("return event.get('a').isoformat(sep=' ') == ''", 27, "`.isoformat` with `sep`"),
    ("return event.get('a').split(',', 1, 2) == []", 27, "`.split` with 3 arguments"),
    ("return re.compile('a').search('a', 1) is None", 28, "`.search` with `pos`"),
    ("return re.sub('a', 'b', 'c', cound=1) == ''", 15, "`re.sub` with `cound`"),
    ("return re.sub('a', 'b') == ''", 15, "`re.sub` with 2 arguments"),
    ("return sub('a', '\\\\0', 'c') == ''", 12, "an octal number in the replacement of `re.sub`"),
    ("return re.search('a++', 'a') is None", 15, "a possessive or a double quantifier"),
    ("return re.search('\\\\h', 'a') is None", 15, "an escape that Python does not have"),
    ("return search('(?=a)', 'a') is None", 12, "look-around"),
    ("return json.dumps({}, cls=None) == ''", 17, "`json.dumps` with `cls`"),
    ("return json.loads('{}', object_hook=None) == {}", 17, "`json.loads` with `object_hook`"),
    ("return b64decode('', validate=True) == b''", 12, "`base64.b64decode` with `validate`"),
    ("return sorted([], cmp=None) == []", 12, "`sorted` with `cmp`"),
    ("return len([], []) == 0", 12, "`len` with 2 arguments"),
    ("return list(zip([], strict=True)) == []", 17, "`zip` with `strict`"),
    ("return str(b'', 'utf-8') == ''", 12, "`str` with `encoding`"),
    ("return bytes([1]) == b''", 12, "a call of `bytes`"),
    ("return isinstance(event, (str, frozenset))", 12, "`isinstance` with `frozenset`"),
    ("return hasattr(event, '__iter__')", 12, "the attribute `__iter__`"),
    ("return event.get('a').decode('cp1252') == ''", 27, "`.decode` with `cp1252`"),
    ("return '{a.b}'.format(a=1) == ''", 20, "the format `{a.b}`"),
    ("return '{:{}}'.format(1, 2) == ''", 20, "the format `{:{}`"),
    ("return datetime.strptime('', '%G') == 1", 21, "the time format `%G`"),
    ("return datetime.strptime('', '%Z') == 1", 21, "the time format `%Z`"),
    ("return event.get('a').strftime('%G') == ''", 27, "the time format `%G`"),
    ("return f\"{event.get('a'):%G}\" == ''", 12, "the time format `%G`"),
    ("return datetime(2026, 1, 1, tzinfo=None) == 1", 12, "`datetime.datetime` with `tzinfo`"),
    ("return event.get('a').keys() & {'a'} == set()", 12, "an operator on `.keys()`"),
    ("while True:\n        x = 1", 11, "a loop without an end"),
];

#[test]
fn arguments_that_are_not_taken_are_refused_where_the_rule_is_read() {
    for (body, column, what) in REFUSED {
        let imports = "import re, json\nfrom re import search, sub\nfrom base64 import b64decode\nfrom datetime import datetime\n";
        let module = format!("{imports}def rule(event):\n    {body}\n");
        let error = outcome(&module, &event()).expect_err(body);
        assert!(error.message.contains(what), "{body}: {error:?}");
        assert!(error.message.ends_with(" is not supported in rules"), "{body}: {error:?}");
        assert_eq!((error.line, error.column, error.file.as_str()), (6, *column, "rule.py"), "{body}: {error:?}");
    }
}

#[test]
fn functions_of_the_rule_take_what_they_say() {
    for module in [
        "def sorted(a, b):\n    return a\ndef rule(event):\n    return sorted(True, 1)",
        "def rule(event):\n    search = lambda *a: True\n    return search('(?=', 1, 2)",
        "def rule(event):\n    import re\n    return re.search('a', 'a') is not None",
        "def rule(event):\n    from re import search\n    return search('a', 'a') is not None",
        "def rule(event, len=lambda *a: True):\n    return len(1, 2, 3)",
        "def rule(event):\n    while True:\n        return True",
        "def rule(event):\n    pair = ['a b', ' ']\n    return str.split(*pair) == ['a', 'b']",
        "def rule(event):\n    names = {'reverse': True}\n    return sorted([1, 2], **names) == [2, 1]",
    ] {
        let result = outcome(module, &event());
        assert!(matches!(&result, Ok(tawny::rule::python::FunctionResult::Text(_))), "{module}: {result:?}");
    }
}

#[test]
fn values_that_events_would_share_are_refused() {
    for (module, line, what) in [
        ("NAMES = (x for x in ['a'])\ndef rule(event):\n    return 'a' in NAMES", 1, "an iterator in a variable"),
        ("NAMES = map(str, [1])\ndef rule(event):\n    return '1' in NAMES", 1, "an iterator in a variable"),
        (
            "def seen(name, known=[]):\n    known.append(name)\n    return len(known)\ndef rule(event):\n    return seen('a') == 1",
            1,
            "a change of the default of `known`",
        ),
    ] {
        let error = outcome(module, &event()).expect_err(module);
        assert!(error.message.contains(what) && error.line == line, "{module}: {error:?}");
    }
    let unchanged = "def has(name, known=[]):\n    return name in known\ndef rule(event):\n    return not has('a')";
    assert!(outcome(unchanged, &event()).is_ok());
}

#[test]
fn lint_names_the_rule_that_a_module_stops() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("helper.py", "class A:\n    pass\n");
    for name in ["one", "two"] {
        let filename = format!("{name}.py");
        write(&filename, "from helper import A\ndef rule(event):\n    return A()\n");
        let yaml = "AnalysisType: rule\nEnabled: true\nSeverity: High\nLogTypes: [AWS.CloudTrail]\n";
        write(&format!("{name}.yml"), &format!("{yaml}RuleID: {name}\nFilename: {filename}\n"));
    }
    let path = folder.path().to_str().unwrap();
    let (_, messages) = shown(&tawny(&["rules", "lint", path]));
    let (json, _) = shown(&tawny(&["rules", "lint", path, "--format", "json"]));
    for name in ["one", "two"] {
        let message = format!("the class `A` is not supported in rules (rule `{path}/{name}.yml`)");
        assert!(messages.contains(&format!("{path}/helper.py:1:7: {message}")), "{messages}");
        assert!(json.contains(&message), "{json}");
    }
}
