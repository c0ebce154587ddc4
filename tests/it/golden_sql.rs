//! Reviewed SQL of the default rule and of a rule that uses every feature, for every window kind.

use std::path::Path;

use tawny::rule::{Rule, Setting, Window, WindowKind, panther};
use tawny::sql::{self, WindowShape, columns::RuleColumns, grid::GridCell};
use tawny::time::Range;

fn rule(path: &Path) -> Rule {
    panther::parse("rule", &std::fs::read_to_string(path).unwrap()).unwrap().rule
}

fn range() -> Range {
    Range { from: Some("2026-09-01".parse().unwrap()), to: Some("2026-09-02".parse().unwrap()) }
}

fn check(path: &Path, kinds: &[WindowKind]) {
    let mut rule = rule(path);
    for kind in kinds {
        rule.window.kind = *kind;
        let name = format!("{}.{kind}", path.file_stem().unwrap().to_str().unwrap());
        insta::assert_snapshot!(name, sql::hunt(&rule, range(), range()).unwrap());
    }
}

#[test]
fn rule_sql_is_reviewed() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../golden");
    settings.bind(|| {
        check(Path::new("rules/credential_access/aws_cloudtrail_unsuccessful_mfa_attempt.yml"), &WindowKind::ALL);
        check(Path::new("rules/discovery/aws_new_calls_of_actor.yml"), &[WindowKind::Sliding]);
        let everything = Path::new("tests/data/everything.yml");
        check(everything, &WindowKind::ALL);
        let rule_of_all = rule(everything);
        let shape = WindowShape::of(&rule_of_all);
        let columns = RuleColumns::new(&rule_of_all).names();
        let anchors =
            sql::unanchored_matched(shape.with_kind(WindowKind::Dedup), &columns, range().from.unwrap(), range().from)
                .unwrap();
        insta::assert_snapshot!("everything.anchors", anchors);
        for kind in WindowKind::ALL {
            let cell = |(number, (period, threshold)): (usize, (&str, u32))| {
                let (period, threshold) = (period.parse().unwrap(), threshold.try_into().unwrap());
                let window = Window { kind, period, threshold };
                GridCell {
                    number,
                    setting: Setting { window, newness: None, absence: None },
                    read: range(),
                    known: Range::default(),
                }
            };
            let cells: Vec<_> = [("5m", 2), ("5m", 3), ("1h", 2)].into_iter().enumerate().map(cell).collect();
            let grid = sql::grid(shape.with_kind(kind), &cells, range()).unwrap();
            insta::assert_snapshot!(format!("grid.{kind}"), grid);
        }
    });
}

/// Each template has one mode: what differs is a step of its own, which Rust puts into the list of steps.
#[test]
fn templates_have_few_tags_and_no_branches() {
    let files: Vec<_> =
        glob::glob("sql/**/*.*").unwrap().map(|path| std::fs::read_to_string(path.unwrap()).unwrap()).collect();
    assert!(files.len() > 20, "{}", files.len());
    let count = |tag: &str| files.iter().map(|text| text.matches(tag).count()).sum::<usize>();
    assert_eq!(count("{%"), 0);
    assert!(count("{{") <= 40, "{}", count("{{"));
}
