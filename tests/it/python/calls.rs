//! Calls give what Python 3.11 gives for them: every expression here was evaluated with it.

use tawny::rule::python::FunctionResult;

use super::{event, outcome, rule_of};

const NUMBERS: &[&str] = &[
    "int(\"11\", 2) == 3 and int(\"0x1f\", 16) == 31 and int(\"1f\", base=16) == 31 and int(\"a\", 16) == 10",
    "int(\"0x1f\", 0) == 31 and int(\"0b11\", 0) == 3 and int(\"00\", 0) == 0 and int(\"-0o17\", 0) == -15 and int(\"z\", 36) == 35",
    "int(\"0x_1f\", 16) == 31 and int(\"1_000\") == 1000 and int(\" 12\\n\") == 12 and int(\"٣\") == 3 and int(b\"12\") == 12",
    "float(\"1_0.5\") == 10.5 and float(\" 1e3 \") == 1000.0 and float(\"٣\") == 3.0 and str(float(\"inf\")) == \"inf\"",
    "round(1234, -2) == 1200 and round(1250, -2) == 1200 and round(1350, -2) == 1400 and round(-1250, -2) == -1200",
    "round(1234.5, -2) == 1200.0 and round(2.5) == 2 and round(3.5) == 4 and round(2.675, 2) == 2.67 and round(7, 2) == 7",
    "round(5, -1) == 0 and round(15, -1) == 20 and round(50.5, -2) == 100.0 and round(12, -30) == 0 and round(True) == 1",
    "max([1, 3, 2]) == 3 and min([3, 1], key=lambda x: -x) == 3 and max(\"a\", \"bb\", key=len) == \"bb\" and max([], default=3) == 3",
    "max([1, 1.0]) is not None and str(max([1, 1.0])) == \"1\" and str(min([True, 1])) == \"True\" and max(2, 5, 3) == 5",
];

const ITERATORS: &[&str] = &[
    "(lambda m: (list(m), list(m)))(map(str, [1, 2])) == ([\"1\", \"2\"], [])",
    "(lambda z: (list(z), list(z)))(zip(\"ab\", [1, 2])) == ([(\"a\", 1), (\"b\", 2)], [])",
    "(lambda g: (next(g), list(g), list(g)))(x for x in [1, 2, 3]) == (1, [2, 3], [])",
    "(lambda g: (2 in g, list(g), 2 in g))(x for x in [1, 2, 3]) == (True, [3], False)",
    "(lambda g: (next(g), next(g), list(g)))((x, y) for x in [1, 2] for y in \"ab\") == ((1, \"a\"), (1, \"b\"), [(2, \"a\"), (2, \"b\")])",
    "(lambda i: (next(i), list(i), next(i, \"end\")))(iter([1, 2, 3])) == (1, [2, 3], \"end\")",
    "(lambda e: (next(e), list(e)))(enumerate(\"abc\", start=5)) == ((5, \"a\"), [(6, \"b\"), (7, \"c\")])",
    "(lambda r: (next(r), list(r)))(reversed([1, 2, 3])) == (3, [2, 1])",
    "(lambda f: (next(f), list(f)))(filter(None, [0, 1, 2])) == (1, [2])",
    "any(map(lambda x: x[\"a\"], [{\"a\": 1}, {}])) and bool(map(str, [])) and list(map(lambda a, b: a + b, [1, 2], [3, 4, 5])) == [4, 6]",
    "list(zip()) == [] and list(zip([1, 2], \"a\")) == [(1, \"a\")] and dict(zip(\"ab\", [1, 2])) == {\"a\": 1, \"b\": 2}",
    "sorted(map(abs, [-2, 1])) == [1, 2] and \"-\".join(map(str, [1, 2])) == \"1-2\" and sum(x for x in [1, 2]) == 3",
    "reduce(lambda a, b: a + b, map(int, [\"1\", \"2\"]), 10) == 13 and set(filter(lambda x: x > 1, [1, 2])) == {2}",
    "sorted([\"b\", \"A\", \"c\"], key=str.lower) == [\"A\", \"b\", \"c\"] and list(map(str.upper, [\"a\"])) == [\"A\"] and str.split(\"a b\") == [\"a\", \"b\"]",
    "sorted([3, 1, 2], reverse=True) == [3, 2, 1] and sorted([(\"b\", 1), (\"a\", 1)], key=lambda p: p[1]) == [(\"b\", 1), (\"a\", 1)]",
];

const TEXTS: &[&str] = &[
    "\"abcabc\".startswith(\"b\", 1) and not \"abcabc\".startswith(\"b\") and \"abcabc\".endswith(\"b\", 0, 2) and \"abc\".startswith((\"x\", \"b\"), 1)",
    "\"abcabc\".find(\"b\", 2) == 4 and \"abcabc\".rfind(\"b\", 0, 3) == 1 and \"abcabc\".index(\"c\", -2) == 5 and \"äbc\".find(\"c\", 1) == 2",
    "\"abcabc\".count(\"b\", 2) == 1 and \"aaa\".count(\"\", 1) == 3 and \"abc\".find(\"\", 4) == -1 and \"abc\".find(\"\", 3) == 3 and not \"a\".startswith(\"\", 2)",
    "\"½\".isnumeric() and not \"½\".isdigit() and \"²\".isdigit() and not \"²\".isdecimal() and \"٣\".isdecimal() and \"½\".isalnum()",
    "not \"e\\u0301\".isalpha() and \"ä\".isalpha() and \"三\".isnumeric() and \"三\".isalpha()",
    "\"ﬁ\".casefold() == \"fi\" and \"Straße\".casefold() == \"strasse\" and \"Σς\".casefold() == \"σσ\" and \"ǆ\".title() == \"ǅ\" and \"ﬁx\".capitalize() == \"Fix\"",
    "\"a\\u2028b\\x85c\\r\\nd\\x0be\".splitlines() == [\"a\", \"b\", \"c\", \"d\", \"e\"] and \"a\\nb\\n\".splitlines(True) == [\"a\\n\", \"b\\n\"] and \"\".splitlines() == []",
    "\"it's a test\".title() == \"It'S A Test\" and \"1a b2c\".title() == \"1A B2C\"",
    "[1, 2, 1].index(1, 1) == 2 and (1, 2, 1).index(1, 1, 3) == 2 and [1, 2, 3].index(3, -1) == 2",
];

const FORMATS: &[&str] = &[
    "f\"{1e20:,}\" == \"1e+20\" and f\"{True:5}\" == \"    1\" and f\"{1234.5:.2}\" == \"1.2e+03\" and f\"{255:#x}\" == \"0xff\" and f\"{-5:x}\" == \"-5\"",
    "f\"{1234567:_}\" == \"1_234_567\" and f\"{3:e}\" == \"3.000000e+00\" and f\"{0.5:g}\" == \"0.5\" and f\"{1234:08,}\" == \"0,001,234\" and format(5, \"+\") == \"+5\"",
    "\"%x\" % 255 == \"ff\" and \"%-5s|\" % \"a\" == \"a    |\" and \"%5.1f\" % 2.25 == \"  2.2\" and \"%05d\" % -3 == \"-0003\" and \"%d\" % 1.9 == \"1\"",
    "\"%(a)s-%(b)d\" % {\"a\": 1, \"b\": 2} == \"1-2\" and \"%s%%\" % 5 == \"5%\" and \"%.2s\" % \"abc\" == \"ab\" and \"%+d\" % 5 == \"+5\" and \"%#o\" % 8 == \"0o10\"",
    "\"%*d\" % (5, 3) == \"    3\" and \"%c\" % 65 == \"A\" and \"%e\" % 12345.0 == \"1.234500e+04\" and \"%.3d\" % -5 == \"-005\" and \"%a\" % \"ä\" == \"'\\\\xe4'\"",
    "\"{a[b]} {0[1]}\".format([1, 2], a={\"b\": \"x\"}) == \"x 2\" and \"{:>5}|{!r}\".format(1, \"a\") == \"    1|'a'\" and \"{{}}\".format() == \"{}\"",
    "json.dumps({\"b\": 1, \"a\": 2}, sort_keys=True) == '{\"a\": 2, \"b\": 1}' and json.dumps([1, 2], separators=(\",\", \":\")) == \"[1,2]\"",
    "json.dumps({\"b\": [1, {}]}, indent=2) == '{\\n  \"b\": [\\n    1,\\n    {}\\n  ]\\n}' and json.dumps(\"é\", ensure_ascii=False) == '\"é\"'",
    "json.dumps({\"a\": {1, 1}}, default=list) == '{\"a\": [1]}' and json.dumps(float(\"nan\")) == \"NaN\" and json.dumps({None: 1, True: 2}) == '{\"null\": 1, \"true\": 2}'",
];

const JSON_AND_BYTES: &[&str] = &[
    "json.loads('{\"a\": 1, \"a\": 2}') == {\"a\": 2} and list(json.loads('{\"a\": 1, \"b\": 2, \"a\": 3}').items()) == [(\"a\", 3), (\"b\", 2)]",
    "str(json.loads(\"[1.0, 1e2, NaN, -Infinity]\")) == \"[1.0, 100.0, nan, -inf]\" and json.loads('\"\\\\u00e9\\\\ud83d\\\\ude00\"') == \"é😀\"",
    "json.loads(b'{\"a\": 1}') == {\"a\": 1} and json.loads(\" [] \") == [] and json.loads(\"-0\") == 0 and str(json.loads(\"1.50\")) == \"1.5\"",
    "b64decode(\"YWJj\\nZGVm\") == b\"abcdef\" and b64decode(\"YW-Jj\") == b\"abc\" and b64decode(\"YQ==YWJj\") == b\"a\" and b64decode(\"\") == b\"\"",
    "b64decode(\"YWI=\").decode() == \"ab\" and b\"\\xff\\x41\".decode(\"utf-8\", \"ignore\") == \"A\" and b\"\\xe9\".decode(\"latin-1\") == \"é\" and b\"a\\x00b\\x00\".decode(\"utf-16-le\") == \"ab\"",
    "ip_address(\"10.1.2.3\") in ip_network(\"10.1.2.9/24\", strict=False) and str(ip_network(\"10.1.2.9/24\", False)) == \"10.1.2.0/24\"",
    "datetime(2026, 9, 1, hour=5, minute=3).isoformat() == \"2026-09-01T05:03:00\"",
];

const PATTERNS: &[&str] = &[
    "re.match(r\"(?P<x>\\w+)Login\", \"ConsoleLogin\")[\"x\"] == \"Console\" and re.match(\"(a)(b)\", \"ab\")[2] == \"b\" and re.match(\"a\", \"a\")[0] == \"a\"",
    "re.match(r\"(?P<x>a)(b)\", \"ab\").group(\"x\", 2) == (\"a\", \"b\") and re.match(\"(a)?b\", \"b\").groups(\"-\") == (\"-\",) and re.match(\"(?P<n>a)?b\", \"b\").groupdict(\"-\") == {\"n\": \"-\"}",
    "re.search(\"b\", \"ab\").span() == (1, 2) and re.search(\"(ä)(b)\", \"xäb\").start(2) == 2 and re.search(\"(a)(b)?\", \"xa\").end(\"x\" and 1) == 2 and re.search(\"(b)?a\", \"a\").start(1) == -1",
    "re.sub(\"C\", lambda m: \"X\", \"aCc\") == \"aXc\" and re.sub(\"[a-c]\", lambda m: m.group(0).upper(), \"abd\") == \"ABd\" and re.sub(\"a\", str, \"ba\").startswith(\"b<\")",
    "re.sub(\"a\", \"b\", \"aaa\", count=1) == \"baa\" and re.sub(\"a\", \"b\", \"aaa\", 2) == \"bba\" and re.compile(\"a\").sub(\"b\", \"aa\", 1) == \"ba\"",
    "re.sub(r\"(a)(b)\", r\"\\2\\1\", \"abab\") == \"baba\" and re.sub(\"(?P<x>a)\", r\"<\\g<x>\\g<0>\\g<1>>\", \"a\") == \"<aaa>\" and re.sub(\"a\", r\"\\n\", \"a\") == \"\\n\"",
    "re.split(\"a\", \"1a2a3\", maxsplit=1) == [\"1\", \"2a3\"] and re.split(\"(a)\", \"1a2\") == [\"1\", \"a\", \"2\"] and re.compile(\",\").split(\"a,b,c\", 1) == [\"a\", \"b,c\"] and re.split(\"x*\", \"axb\") == [\"\", \"a\", \"\", \"b\", \"\"]",
    "re.findall(\"a|\", \"aa\") == [\"a\", \"a\", \"\"] and re.sub(\"x*\", \"-\", \"abxd\") == \"-a-b--d-\" and re.findall(\"(a)(b)?\", \"aba\") == [(\"a\", \"b\"), (\"a\", \"\")]",
    "re.search(r\"^\\w+$\", \"½\") is not None and re.search(r\"\\w\", \"\\u0301\") is None and re.findall(r\"[\\w.]\", \"½.!\") == [\"½\", \".\"] and re.search(r\"\\s\", \"\\x1c\") is not None and re.findall(r\"\\W\", \"½!\") == [\"!\"]",
    "re.match(\"(?x) a # one\\n b # two\", \"ab\") is not None and re.fullmatch(\"a|ab\", \"ab\") is not None and re.search(\"a.b\", \"a\\nb\", flags=re.S | re.I) is not None",
];

const TYPES: &[&str] = &[
    "type(None) != str and type(None) == type(None) and type([]) == list and type({}) is dict and type(()) == tuple and type(\"\") is str",
    "type(1) == int and type(True) == bool and type(1.5) == float and type(1) in (int, float) and type(set()) == set and type(b\"\") == bytes",
    "isinstance(None, type(None)) and str(type(\"\")) == \"<class 'str'>\" and type(str) == type and str(type(None)) == \"<class 'NoneType'>\"",
    "type(lambda: 1) != str and type(re.match(\"a\", \"a\")) != dict and type(x for x in []) != list and type(ValueError(\"x\")) == ValueError",
    "1 == True and 0 == False and not ([] == {}) and [1] == [True]",
];

const RAISES: &[&str] = &[
    "int(\"x\", 16) == 1",
    "int(\"0x1f\") == 31",
    "int(\"012\", 0) == 1",
    "int(12, 10) == 12",
    "int(\"1__0\") == 10",
    "float(\"_1\") == 1",
    "round(\"a\") == 1",
    "next([1]) == 1",
    "len(map(str, [])) == 0",
    "zip([1])[0] == (1,)",
    "reversed({1}) == 1",
    "[1, \"a\"] == sorted([1, \"a\"])",
    "max([]) == 1",
    "str.lower(1) == \"1\"",
    "\"%d\" % \"a\" == \"1\"",
    "\"%z\" % 1 == \"1\"",
    "\"%s\" % () == \"\"",
    "\"%s %s\" % \"a\" == \"\"",
    "f\"{'a':d}\" == \"a\"",
    "f\"{1.5:d}\" == \"1\"",
    "\"{a[b]}\".format(a={}) == \"\"",
    "json.loads('{\"a\": 1,}') == {}",
    "json.loads(\"[1] x\") == [1]",
    "json.loads('\"a\\nb\"') == \"\"",
    "json.loads(\"01\") == 1",
    "json.dumps({1}) == \"\"",
    "json.dumps({(1, 2): 1}) == \"\"",
    "b64decode(\"YWJjZ\") == b\"\"",
    "b64decode(\"YW\") == b\"\"",
    "b64decode(\"ä\") == b\"\"",
    "b\"\\xff\".decode() == \"\"",
    "re.match(\"a\", \"a\")[\"x\"] == \"a\"",
    "re.match(\"a\", \"a\").group(1) == \"a\"",
    "re.sub(\"a\", r\"\\1\", \"a\") == \"\"",
    "re.sub(\"a\", 1, \"a\") == \"\"",
    "\"abc\".index(\"a\", 1) == 0",
    "\"abc\".startswith(\"a\", \"b\")",
    "[1].index(1, 1) == 0",
    "{1: 2} < {1: 3}",
    "ip_network(\"10.1.2.9/24\") is None",
    "b\"a\" + \"a\" == \"aa\"",
    "\"{\".format() == \"\"",
    "datetime(2026, 13, 1) is None",
    "datetime(\"2026\", 1, 1) is None",
];

fn module_of(expression: &str) -> String {
    format!("from base64 import b64decode\nfrom functools import reduce\n{}", rule_of(expression))
}

#[test]
fn calls_give_what_python_gives() {
    let all = [NUMBERS, ITERATORS, TEXTS, FORMATS, JSON_AND_BYTES, PATTERNS, TYPES];
    let wrong = all.concat().into_iter().flat_map(|expression| {
        let matches = FunctionResult::Text("true".to_owned());
        let both = [(expression.to_owned(), matches), (format!("not ({expression})"), FunctionResult::Nothing)];
        both.into_iter().filter_map(|(expression, expected)| {
            let result = outcome(&module_of(&expression), &event());
            (result.as_ref() != Ok(&expected)).then(|| format!("{expression}: {result:?}"))
        })
    });
    assert_eq!(wrong.collect::<Vec<_>>().join("\n"), "");
}

#[test]
fn calls_raise_where_python_raises() {
    let wrong = RAISES.iter().filter_map(|expression| {
        let result = outcome(&module_of(expression), &event());
        (!matches!(result, Ok(FunctionResult::Raised(_)))).then(|| format!("{expression}: {result:?}"))
    });
    assert_eq!(wrong.collect::<Vec<_>>().join("\n"), "");
}

#[test]
fn types_of_the_event_are_those_of_panther() {
    for (expression, expected) in [
        ("type(event.get('missing')) == str", false),
        ("type(event.get('errorCode')) == dict", false),
        ("type(event['userIdentity']['tags']) == list", false),
        ("type(event['userIdentity']) == dict", false),
        ("type(event['eventName']) == str", true),
        ("type(event['count']) == int", true),
        ("type(event.get('missing')) == type(None)", true),
        ("type(event.deep_walk('requestParameters', 'items', 'id')) == list", true),
    ] {
        let expected = if expected { FunctionResult::Text("true".to_owned()) } else { FunctionResult::Nothing };
        assert_eq!(outcome(&module_of(expression), &event()), Ok(expected), "{expression}");
    }
}

#[test]
fn objects_of_the_event_are_not_json() {
    let raises = |expression: &str| matches!(outcome(&module_of(expression), &event()), Ok(FunctionResult::Raised(reason)) if reason.contains("not JSON"));
    assert!(raises("json.dumps(event.get('userIdentity')) == ''"));
    assert!(raises("json.dumps([event['userIdentity']['tags']]) == ''"));
    let shown = "json.dumps(event['userIdentity']['tags'], default=str) == '\"ImmutableList((\\'a\\', \\'b\\'))\"'";
    assert_eq!(outcome(&module_of(shown), &event()), Ok(FunctionResult::Text("true".to_owned())));
}
