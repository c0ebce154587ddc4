//! The SQL of every shipped rule, as reviewed.

use tawny::rule::panther;
use tawny::sql;
use tawny::time::{Range, parse_instant};

#[test]
fn the_sql_of_every_rule_is_the_reviewed_one() {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../golden");
    settings.bind(|| {
        insta::glob!("../../rules", "**/*.yml", |path| {
            let rule = panther::parse("rule", &std::fs::read_to_string(path).unwrap()).unwrap().rule;
            let range = Range {
                from: Some(parse_instant("2026-09-01").unwrap()),
                to: Some(parse_instant("2026-09-02").unwrap()),
            };
            let name = format!("{}.sliding", path.file_stem().unwrap().to_str().unwrap());
            insta::assert_snapshot!(name, sql::hunt(&rule, range, range).unwrap());
        });
    });
}
