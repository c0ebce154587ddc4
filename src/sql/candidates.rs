//! One scan for many rules: the query for all records that any of them matches.

use crate::rule::Rule;
use crate::time::Range;

use super::quote::{Ident, Instant, Literal};
use super::{expression, expressions, predicate};

/// A query for the records that any of some rules matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Its text. The result's columns are [`Candidates::OWN`], then one for each distinct
    /// expression that the rules need, then for each rule a flag whether it is matched.
    pub sql: String,
    /// How many expressions there are.
    pub expressions: usize,
    /// For each rule, which expressions it needs, in the order of [`super::layout::Layout::names`].
    pub needs: Vec<Vec<usize>>,
    /// For each rule, the expression of which it counts distinct values.
    pub unique: Vec<Option<usize>>,
}

impl Candidates {
    /// The columns that every rule needs.
    pub const OWN: [&'static str; 5] = ["eventTime", "eventID", "sourceIPAddress", "userAgent", "awsRegion"];

    /// The query for `rules` and the records with a time in `read`.
    pub fn new(rules: &[Rule], read: Range) -> Candidates {
        let mut all: Vec<String> = Vec::new();
        let mut index_of = |expression: String| {
            all.iter().position(|known| *known == expression).unwrap_or_else(|| {
                all.push(expression);
                all.len() - 1
            })
        };
        let needs = rules.iter().map(|rule| expressions(rule).into_iter().map(&mut index_of).collect()).collect();
        let unique = rules.iter().map(|rule| Some(index_of(expression::value(rule.unique.as_ref()?)))).collect();
        Candidates { sql: text(rules, &all, read), expressions: all.len(), needs, unique }
    }
}

fn text(rules: &[Rule], expressions: &[String], read: Range) -> String {
    let mut columns =
        vec!["\"eventTime\"".to_owned(), "coalesce(\"eventID\", \"contentID\") AS \"eventID\"".to_owned()];
    columns.extend(Candidates::OWN.iter().skip(2).map(|column| Ident((*column).to_owned()).to_string()));
    let named = |(number, expression)| format!("{expression} AS {}", Ident(format!("value.{number}")));
    columns.extend(expressions.iter().enumerate().map(named));
    columns.extend(rules.iter().enumerate().map(|(number, rule)| {
        format!("({}) IS TRUE AS {}", predicate::text(&rule.detection, 0), Ident(format!("matches.{number}")))
    }));

    let mut all = vec!["\"eventTime\" IS NOT NULL".to_owned()];
    all.extend(read.from.and_then(Instant::bound).map(|from| format!("\"eventTime\" >= {from}")));
    all.extend(read.to.and_then(Instant::bound).map(|to| format!("\"eventTime\" < {to}")));
    all.push(any_of(rules));
    format!("SELECT\n  {}\nFROM cloudtrail\nWHERE {}", columns.join(",\n  "), all.join("\n  AND "))
}

/// The condition that a record is matched by any of `rules`. Those that ask for certain calls or
/// services come behind a condition on these names: it is cheap to test, and where no rule does
/// without, it lets whole row groups and pages be left unread.
fn any_of(rules: &[Rule]) -> String {
    let mut by_column = [("eventName", Vec::new()), ("eventSource", Vec::new())];
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for rule in rules {
        let text = format!("({})", predicate::text(&rule.detection, 0));
        let required =
            by_column.iter_mut().find_map(|(column, all)| Some((rule.detection.required_values(column)?, all)));
        let group = match required {
            Some((required, all)) => {
                all.extend(required);
                &mut named
            }
            None => &mut others,
        };
        if !group.contains(&text) {
            group.push(text);
        }
    }
    let lists = by_column.into_iter().filter(|(_, values)| !values.is_empty()).map(|(column, mut values)| {
        values.sort_unstable();
        values.dedup();
        let literals: Vec<String> = values.iter().map(|value| Literal(value).to_string()).collect();
        format!("{} IN ({})", Ident(column.to_owned()), literals.join(", "))
    });
    let by_name = lists.collect::<Vec<_>>().join(" OR ");
    let (named, others) = (named.join("\n    OR "), others.join("\n    OR "));
    match (named.is_empty(), others.is_empty()) {
        (true, true) => "FALSE".to_owned(),
        (true, false) => format!("({others})"),
        (false, true) => format!("({by_name})\n  AND ({named})"),
        (false, false) => format!("((({by_name}) AND ({named}))\n    OR {others})"),
    }
}
