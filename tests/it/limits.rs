//! Input that would overflow the stack or run for hours is refused at once, with the limit, the place and what to do.

use std::fmt::Write as _;
use std::path::Path;

use tawny::rule::{catalog, limits, panther, sigma};
use tawny::sql_limits::{CHAINED_OPERATORS, CLAUSES, NESTING};

use crate::tables::tawny;

/// Runs the program, which must exit normally, and returns its exit code and standard error.
fn run(arguments: &[&str]) -> (i32, String) {
    let output = tawny(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{:?}: {said}", output.status));
    assert!(!said.contains("panicked") && !said.contains("overflow"), "{said}");
    (code, said)
}

fn query(sql: &str) -> (i32, String) {
    run(&["query", sql, "tests/data/trail"])
}

#[test]
fn query_nesting_is_limited() {
    let chain = |term: &str, word: &str, count: usize| format!("SELECT {}", vec![term; count].join(word));
    let many = 8_000;
    for (sql, limit) in [
        (chain("true", " OR ", many), "more than 500 operators in one expression, at line 1, column "),
        (chain("1", "+", many), "more than 500 operators in one expression"),
        (chain("'a'", "||", many), "more than 500 operators in one expression"),
        (format!("SELECT 1{}", "::int".repeat(many)), "more than 500 operators in one expression"),
        (format!("SELECT CASE {}END", "WHEN true THEN 1 ".repeat(many / 2)), "more than 500 operators"),
        (chain("1", " UNION SELECT ", many / 2), "more than 150 SELECTs, joins and set operations"),
        (format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)), "more than 50 parentheses within one another"),
        (format!("SELECT {}1{}", "(SELECT ".repeat(many), ")".repeat(many)), "more than 50 parentheses"),
        (format!("SELECT {}true", "NOT ".repeat(many)), "more than 500 operators in one expression"),
    ] {
        let (code, said) = query(&sql);
        assert!(code == 2 && said.contains(limit) && said.contains("hint: "), "{}: {code} {said}", &sql[..60]);
    }
    let nested = NESTING - 1;
    for sql in [
        chain("\"eventName\"", "||", CHAINED_OPERATORS / 4) + " FROM cloudtrail",
        chain("true", " OR ", CHAINED_OPERATORS),
        chain("1", " UNION ALL SELECT ", CLAUSES / 3),
        format!("SELECT {}1{}", "abs(".repeat(nested), ")".repeat(nested)),
        format!("SELECT \"eventName\" IN ('{}') FROM cloudtrail", vec!["a"; 5_000].join("','")),
    ] {
        let (code, said) = query(&sql);
        assert_eq!(code, 0, "{}: {said}", &sql[..60]);
    }
    // The parser's own limit, for nesting without parentheses.
    let (code, said) = query(&format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(200), " END".repeat(200)));
    assert_eq!(code, 2, "{said}");
}

#[test]
fn table_mapping_nesting_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("map.yml");
    let terms = |count: usize| vec!["eventname"; count].join(" || ");
    for (columns, limit) in [
        (format!("  eventName: {}\n", terms(4_000)), "map.yml:4:14: more than 500 operators in one expression"),
        (format!("  eventName: [{}]\n", vec!["x"; 40].join(", ")), "a column has more than 32 pieces of SQL"),
        (format!("  eventName: [{}]\n", vec![terms(400); 20].join(", ")), "more than 5000 operators in all columns"),
    ] {
        std::fs::write(&map, format!("layout: x\ntitle: x\ncolumns:\n{columns}")).unwrap();
        let (code, said) = run(&["hunt", "tests/data/trail", "--map", map.to_str().unwrap()]);
        assert!(code == 2 && said.contains(limit), "{code} {said}");
    }
}

const PANTHER: &str = "AnalysisType: rule\nRuleID: A\nEnabled: true\nSeverity: Info\nLogTypes: [AWS.CloudTrail]\n";
const SIGMA: &str = "title: x\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n";

/// Returns `count` lines, each made by `line` from its number.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "{}", line(number)).unwrap();
        text
    })
}

fn condition(number: usize) -> String {
    format!("{{Key: userAgent, Condition: Contains, Value: a{number}}}")
}

/// Returns a condition inside `lists` list conditions.
fn within_lists(lists: usize) -> String {
    (0..lists).fold("{Key: a, Condition: Equals, Value: b}".to_owned(), |inner, _| {
        format!("{{Key: resources, Condition: AnyElement, Expressions: [{inner}]}}")
    })
}

#[test]
fn panther_rules_are_limited() {
    let any = "Detection: [{Key: eventName, Condition: Exists}]\n";
    let panther = |count: usize| {
        let conditions =
            |key: &str| format!("{key}\n{}", lines(count, |number| format!("      - {}", condition(number))));
        let changes = lines(count, |number| format!("  - {{ChangeTo: High, Conditions: [{}]}}", condition(number)));
        [
            (conditions("Detection:\n  - All:"), limits::CONDITIONS, "too many conditions: at most 1000 are allowed"),
            (conditions("Detection:\n  - OnlyOne:"), limits::CONDITIONS, "too many conditions"),
            (
                conditions(&format!("{any}Hunt:\n  FollowedBy:\n  - None:")),
                limits::CONDITIONS - 1,
                "too many conditions",
            ),
            (format!("{any}DynamicSeverities:\n{changes}"), limits::CONDITIONS - 1, "too many conditions"),
            (
                format!("{any}GroupBy:\n{}", lines(count, |n| format!("  - {{KeyPath: requestParameters.a{n}}}"))),
                limits::GROUP_KEYS,
                "entries of `GroupBy`: at most 32 are allowed",
            ),
            (
                format!(
                    "{any}AlertContext:\n{}",
                    lines(count, |n| format!("  - {{KeyName: a{n}, KeyValue: {{Key: eventName}}}}"))
                ),
                limits::OUTPUT_FIELDS,
                "entries of `AlertContext`: at most 64 are allowed",
            ),
            (
                format!("{any}SummaryAttributes:\n{}", lines(count, |n| format!("  - requestParameters.a{n}"))),
                limits::OUTPUT_FIELDS,
                "entries of `SummaryAttributes`: at most 64 are allowed",
            ),
            (
                format!("{any}AlertTitle: '{}'\n", "{eventName}".repeat(count)),
                limits::OUTPUT_FIELDS,
                "fields in `AlertTitle`: at most 64 are allowed",
            ),
        ]
    };
    for kind in 0..panther(1).len() {
        let (_, limit, reason) = panther(1)[kind].clone();
        let read = |count: usize| panther::parse("rule.yml", &format!("{PANTHER}{}", panther(count)[kind].0));
        assert!(read(limit).is_ok(), "{reason}: {}", read(limit).unwrap_err());
        let error = read(limit + 1).unwrap_err().to_string();
        assert!(error.starts_with("rule.yml:") && error.contains(reason), "{error}");
    }
    // Conditions inside lists count by their planning time.
    let nested = |lists: usize, count: usize| {
        let conditions = vec![within_lists(lists); count].join(", ");
        panther::parse("rule.yml", &format!("{PANTHER}Detection: [{conditions}]\n"))
    };
    assert!(nested(11, 1).is_ok() && nested(8, 8).is_ok());
    for (lists, count) in [(11, 2), (8, 9)] {
        let error = nested(lists, count).unwrap_err().to_string();
        assert!(error.contains("too many conditions within lists") && error.contains("at most 4096"), "{error}");
    }
    // Values and tests are not nested.
    let values = vec!["a"; 50_000].join(", ");
    let many = format!("{PANTHER}Detection: [{{Key: userAgent, Condition: IsIn, Values: [{values}]}}]\n");
    assert!(panther::parse("rule.yml", &many).is_ok());
    let tests = lines(5_000, |n| format!("  - {{Name: a{n}, ExpectedResult: true, Log: {{eventName: A}}}}"));
    assert!(panther::parse("rule.yml", &format!("{PANTHER}{any}Tests:\n{tests}")).is_ok());
}

#[test]
fn sigma_rules_are_limited() {
    let selections = |count: usize| lines(count, |n| format!("  s{n}: {{userAgent: a{n}}}"));
    let listed =
        |key: &str, count: usize| format!("  s:\n    {key}:\n{}", lines(count, |n| format!("      - 'a{n}*b*c'")));
    for (detection, condition, reason) in [
        (selections(3), vec!["s0"; 1_001].join(" or "), "words of a condition: at most 1000 are allowed"),
        (
            selections(100),
            vec!["1 of s*"; 200].join(" or "),
            "values to compare with, in all selections of a condition",
        ),
        (listed("userAgent", 1_001), "s".to_owned(), "values to compare with"),
        (listed("userAgent", 501), "s".to_owned(), "too many regular expressions and wildcards: at most 500"),
        (listed("requestParameters.x|re", 501), "s".to_owned(), "too many regular expressions and wildcards"),
        (listed("requestParameters.x|contains|cased", 1_001), "s".to_owned(), "values to compare with"),
        (selections(1), format!("{}s0{}", "(".repeat(100), ")".repeat(100)), "exceeds maximum depth"),
        ("  s: {'userAgent|re': '(\\w{500}){100}'}\n".to_owned(), "s".to_owned(), "exceeds size limit"),
    ] {
        let error = sigma::read(&[("a.yml", &format!("{SIGMA}{detection}  condition: {condition}\n"))]).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.status().code(), 2);
    }
    for (detection, condition) in [
        (selections(100), "1 of s*".to_owned()),
        (selections(100), ["1 of s*"; 10].join(" or ")),
        (listed("userAgent", 300), "s".to_owned()),
    ] {
        let read = sigma::read(&[("a.yml", &format!("{SIGMA}{detection}  condition: {condition}\n"))]);
        assert!(read.is_ok(), "{}", read.unwrap_err());
    }
    let names = vec!["x"; 101].join(", ");
    let correlation = format!(
        "title: y\ncorrelation: {{type: event_count, rules: [{names}], group-by: [eventName], timespan: 1h, condition: {{gte: 2}}}}\n"
    );
    let rule = format!("name: x\n{SIGMA}  s: {{userAgent: a}}\n  condition: s\n");
    let error = sigma::read(&[("a.yml", &rule), ("b.yml", &correlation)]).unwrap_err().to_string();
    assert!(error.contains("entries of `rules`: at most 100 are allowed"), "{error}");
    let mapping = format!("{SIGMA}  s:\n    requestParameters:\n      bucketName: x\n  condition: s\n");
    let error = sigma::read(&[("a.yml", &mapping)]).unwrap_err().to_string();
    assert!(
        error.contains("a.yml:6:7")
            && error
                .contains("a mapping is not a value to compare with: write `requestParameters.bucketName` as one key"),
        "{error}"
    );
}

#[test]
fn hundreds_of_regular_expressions_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("patterns.yml");
    let rule = |count: usize| {
        let patterns = lines(count, |n| format!("      - 'x{n}.*[a-z]+$'"));
        format!("id: patterns\n{SIGMA}  s:\n    userAgent|re:\n{patterns}      - 'Mozi.+'\n  condition: s\n")
    };
    let mut found = Vec::new();
    for count in [1, 100] {
        std::fs::write(&file, rule(count)).unwrap();
        let output = tawny(&["hunt", "tests/data/trail", "--rules", file.to_str().unwrap(), "--format", "csv"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        found.push(output.stdout);
    }
    assert!(found[0] == found[1] && found[0].len() > 500, "{}", String::from_utf8_lossy(&found[0]));
}

#[test]
fn number_of_rules_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..=limits::RULES {
        std::fs::write(folder.path().join(format!("{number}.yml")), "").unwrap();
    }
    let error = catalog::all(&[folder.path().to_path_buf()]).unwrap_err();
    assert_eq!(error.status().code(), 2);
    assert!(error.to_string().contains("more than 10000 rule files"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("name fewer files")));
}

#[test]
fn backtest_grid_is_limited() {
    let many = vec!["1..9999"; 12_000].join(",");
    let wide = (0..20_000).map(|number| (number + 1).to_string()).collect::<Vec<_>>().join(",");
    for (thresholds, reason) in [
        ("1..1000000", "has more than 10000 thresholds"),
        ("1..4294967295", "has more than 10000 thresholds"),
        (&wide, "cells exceed the limit of 10000"),
        (&many, "cells exceed the limit of 10000"),
    ] {
        let (code, said) = run(&["backtest", "tests/data/trail", "--thresholds", thresholds]);
        assert!(code == 2 && said.contains(reason), "{code} {}", &said[..said.len().min(300)]);
    }
}

#[test]
fn limits_are_documented() {
    let security = std::fs::read_to_string(Path::new("SECURITY.md")).unwrap();
    for limit in [
        limits::RULES,
        limits::CONDITIONS,
        limits::WEIGHTED_CONDITIONS,
        limits::GROUP_KEYS,
        limits::OUTPUT_FIELDS,
        limits::PATTERNS,
        limits::CONDITION_WORDS,
        limits::CORRELATED,
        CHAINED_OPERATORS,
        NESTING,
        CLAUSES,
    ] {
        let digits = limit.to_string();
        let told = if limit < 1_000 {
            digits
        } else {
            format!("{},{}", &digits[..digits.len() - 3], &digits[digits.len() - 3..])
        };
        assert!(security.contains(&format!(" {told} ")), "{told}");
    }
}
