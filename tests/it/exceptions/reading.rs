//! Files of exceptions: their errors and warnings.

use tawny::error::Error;
use tawny::nightly::version::version;
use tawny::rule::exceptions::{self, ExceptionFiles};
use tawny::rule::{Predicate, catalog};

const GOOD: &str = "Exceptions:
  - ID: scanner
    Rules: [AWS.Unsuccessful.MFA.attempt]
    When:
      - {Key: actor, Condition: Equals, Value: scanner}
    Reason: nightly scan
    Owner: platform team
    From: 2026-01-01
    Until: 2027-01-01
Lists:
  offices: {File: offices.csv, Column: cidr}
";

/// Reads a file of exceptions and applies it to the shipped rules. Returns the rules and warnings.
fn read(text: &str) -> Result<(Vec<catalog::Entry>, Vec<String>), Error> {
    read_with(text, "name,cidr\nhome,192.0.2.0/24\n")
}

fn read_with(text: &str, list: &str) -> Result<(Vec<catalog::Entry>, Vec<String>), Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exceptions.yml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.path().join("offices.csv"), list).unwrap();
    std::fs::write(folder.path().join("names.txt"), "alice\n").unwrap();
    let read = ExceptionFiles::read(&[path])?.exceptions()?;
    let mut entries = catalog::all(&[]).unwrap();
    let mut warnings = read.warnings;
    warnings.extend(exceptions::apply(&read.exceptions, &mut entries, false)?);
    Ok((entries, warnings))
}

#[test]
fn errors_name_file_line_and_cause() {
    read(GOOD).unwrap();
    for (good, bad, line, expected) in [
        ("ID: scanner", "Id: scanner", 2, "`Id` is not a key of an exception; did you mean `ID`?"),
        ("  - ID: scanner\n    Rules", "  - Rules", 2, "`ID` is missing"),
        ("ID: scanner", "ID: <b>", 2, "`ID` must be text without"),
        ("    Rules: [AWS.Unsuccessful.MFA.attempt]\n", "", 2, "`Rules` is missing"),
        ("[AWS.Unsuccessful.MFA.attempt]", "[]", 3, "`Rules` must name at least one rule"),
        ("[AWS.Unsuccessful.MFA.attempt]", "[\"*\", a]", 3, "the only one in `Rules`"),
        (
            "AWS.Unsuccessful.MFA.attempt",
            "AWS.Unsuccesful.MFA.attempt",
            3,
            "did you mean `AWS.Unsuccessful.MFA.attempt`?",
        ),
        ("Condition: Equals", "Condition: Equal", 5, "there is no condition `Equal`"),
        ("\n      - {Key: actor, Condition: Equals, Value: scanner}", " []", 4, "`When` must hold at least one"),
        ("    Reason: nightly scan\n", "", 2, "`Reason` is missing"),
        ("Reason: nightly scan", "Reason: \" \"", 6, "`Reason` must not be empty"),
        ("    Owner: platform team\n", "", 2, "`Owner` is missing"),
        ("    Until: 2027-01-01\n", "", 2, "`Until` is missing"),
        ("Until: 2027-01-01", "Until: soon", 9, "`Until` must be a date, such as 2027-01-01"),
        ("Until: 2027-01-01", "Until: 2026-01-01", 9, "`Until` must be later than `From`"),
        ("From: 2026-01-01", "From: 2026-13-01", 8, "`From` must be a date"),
        ("Exceptions:", "Exception:", 1, "did you mean `Exceptions`?"),
        (
            "Key: actor, Condition: Equals, Value: scanner",
            "Key: eventTime, Condition: Equals, Value: x",
            5,
            "`eventTime` has the conditions",
        ),
        (
            "Equals, Value: scanner",
            "IsIn, Values: {List: office}",
            5,
            "there is no value list `office`: `Lists` has `offices`",
        ),
        ("Equals, Value: scanner", "IsIn, Values: {Lists: offices}", 5, "did you mean `List`?"),
        ("Equals, Value: scanner", "Equals, Values: {List: offices}", 5, "`Equals` takes no list of values"),
        (
            "Key: actor, Condition: Equals, Value: scanner",
            "Key: readOnly, Condition: IsIn, Values: {List: offices}",
            5,
            "`readOnly` is a boolean",
        ),
        ("File: offices.csv", "Fil: offices.csv", 11, "`Fil` is not a key of a list"),
    ] {
        assert_eq!(GOOD.matches(good).count(), 1, "{good}");
        let Err(Error::Rules(errors)) = read(&GOOD.replace(good, bad)) else { panic!("{bad}") };
        let error = &errors[0];
        assert!(error.message.contains(expected), "{bad}: {}", error.message);
        assert_eq!((error.line, error.file.ends_with("exceptions.yml")), (line, true), "{bad}: {}", error.message);
    }
    let twice = GOOD.replace("Lists:", &format!("{}Lists:", &GOOD[12..GOOD.find("Lists:").unwrap()]));
    assert!(read(&twice).unwrap_err().to_string().contains("another exception has the ID `scanner`"));
    let all_at_once = GOOD.replace("Reason: nightly scan", "Reasons: x").replace("Until: 2027", "Until: x");
    assert!(read(&all_at_once).is_err());
    let two = GOOD.replace("Condition: Equals", "Condition: Equal").replace("Until: 2027", "Until: x");
    let Err(Error::Rules(errors)) = read(&two) else { panic!("two errors") };
    assert_eq!(errors.len(), 2);
}

#[test]
fn errors_of_lists_name_the_file_and_the_value() {
    let networks = GOOD.replace("Equals, Value: scanner", "IsIPAddressInCIDR, Values: {List: offices}");
    read(&networks).unwrap();
    let error = read_with(&networks, "cidr\nhome\n").unwrap_err().to_string();
    assert!(error.contains("`home`") && error.contains("offices.csv"), "{error}");
    for (good, bad, expected) in [
        ("offices.csv", "missing.csv", "missing.csv"),
        (", Column: cidr", "", "a CSV file needs the `Column`"),
        ("Column: cidr", "Column: cidrs", "there is no column `cidrs`"),
    ] {
        let error = read(&GOOD.replace(good, bad)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_exception_is_part_of_the_version_of_its_rules_alone() {
    let plain = catalog::all(&[]).unwrap();
    let versions =
        |entries: &[catalog::Entry]| -> Vec<String> { entries.iter().map(|entry| version(&entry.rule)).collect() };
    let (excepted, warnings) = read(GOOD).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let differing: Vec<&str> = plain
        .iter()
        .zip(versions(&plain).into_iter().zip(versions(&excepted)))
        .filter(|(_, (before, after))| before != after)
        .map(|(entry, _)| entry.rule.id.as_str())
        .collect();
    assert_eq!(differing, ["AWS.Unsuccessful.MFA.attempt"]);
    let all = read(&GOOD.replace("[AWS.Unsuccessful.MFA.attempt]", "\"*\"")).unwrap().0;
    assert!(all.iter().all(|entry| matches!(entry.rule.detection, Predicate::Except { .. })));
    // The id, the reason and the owner do not decide findings.
    let same = GOOD.replace("nightly scan", "x").replace("platform team", "x").replace("ID: scanner", "ID: x");
    assert_eq!(versions(&read(&same).unwrap().0), versions(&excepted));
    let of_list = GOOD.replace("Equals, Value: scanner", "IsIn, Values: {List: offices}");
    let mut distinct = vec![versions(&plain), versions(&excepted), versions(&read(&of_list).unwrap().0)];
    for (good, other) in [("2027-01-01", "2027-01-02"), ("2026-01-01", "2026-01-02"), ("Value: scanner", "Value: x")] {
        distinct.push(versions(&read(&GOOD.replace(good, other)).unwrap().0));
    }
    let other_values = read_with(&of_list, "cidr\n192.0.2.0/25\n").unwrap().0;
    assert_eq!(versions(&read_with(&of_list, "cidr\n192.0.2.0/24\n").unwrap().0), distinct[2], "the same values");
    distinct.push(versions(&other_values));
    let count = distinct.len();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), count);
}
