//! One scan for many rules: the query for all records that any of them matches.

use crate::event;
use crate::rule::Rule;
use crate::time::Range;

use super::quote::{Ident, Instant, Literal};
use super::{columns_read, predicate};

/// The name under which the query tells whether the record satisfies the rule at `index`.
pub fn flag_column(index: usize) -> String {
    format!("matches.{index}")
}

/// The query for all records that any of `rules` matches, with a time in `read`: the columns that
/// the rules' own queries read, and for each rule a flag whether it is matched. Other columns are null.
pub fn text(rules: &[Rule], read: Range) -> String {
    let predicates: Vec<String> = rules.iter().map(|rule| predicate::text(&rule.detection, 0)).collect();
    let needed: Vec<&str> = rules.iter().flat_map(columns_read).collect();
    let schema = event::schema();
    let mut columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let column = Ident(field.name().clone()).to_string();
            if needed.contains(&field.name().as_str()) {
                column
            } else {
                format!("arrow_cast(NULL, {}) AS {column}", Literal(&field.data_type().to_string()))
            }
        })
        .collect();
    columns.extend(
        predicates
            .iter()
            .enumerate()
            .map(|(index, predicate)| format!("coalesce({predicate}, FALSE) AS {}", Ident(flag_column(index)))),
    );
    let mut all = vec!["\"eventTime\" IS NOT NULL".to_owned()];
    all.extend(read.from.and_then(Instant::bound).map(|from| format!("\"eventTime\" >= {from}")));
    all.extend(read.to.and_then(Instant::bound).map(|to| format!("\"eventTime\" < {to}")));
    all.extend(names(rules));
    all.push(format!("(({}))", predicates.join(")\n    OR (")));
    format!("SELECT\n  {}\nFROM cloudtrail\nWHERE {}", columns.join(",\n  "), all.join("\n  AND "))
}

/// A condition on the names of calls and their services that every match satisfies, if there is
/// one: it is cheap to test, and lets whole row groups and pages be left unread.
fn names(rules: &[Rule]) -> Option<String> {
    let mut by_column = [("eventName", Vec::new()), ("eventSource", Vec::new())];
    for rule in rules {
        let known =
            by_column.iter_mut().find_map(|(column, values)| Some((rule.detection.required_values(column)?, values)));
        let (required, values) = known?;
        values.extend(required);
    }
    let lists = by_column.into_iter().filter(|(_, values)| !values.is_empty()).map(|(column, mut values)| {
        values.sort_unstable();
        values.dedup();
        let literals: Vec<String> = values.iter().map(|value| Literal(value).to_string()).collect();
        format!("{} IN ({})", Ident(column.to_owned()), literals.join(", "))
    });
    Some(format!("({})", lists.collect::<Vec<_>>().join(" OR ")))
}
