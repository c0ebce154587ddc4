//! The records of some accounts and regions.

use crate::rule::Field;

use super::expression::{column, value};
use super::quote::Literal;

/// The query for the records of `accounts` and `regions`; for those of all where there are none. A record without an
/// account or region belongs to none.
pub fn selected(accounts: &[String], regions: &[String]) -> String {
    let list = |texts: &[String]| texts.iter().map(|text| Literal(text).to_string()).collect::<Vec<_>>().join(", ");
    let conditions = [(value(&Field::Account), accounts), (column("awsRegion"), regions)];
    let conditions = conditions.into_iter().filter(|(_, wanted)| !wanted.is_empty());
    let conditions: Vec<String> =
        conditions.map(|(expression, wanted)| format!("{expression} IN ({})", list(wanted))).collect();
    let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    format!("SELECT * FROM cloudtrail WHERE {conditions}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_absent_ones_select_everything() {
        assert!(selected(&[], &[]).ends_with("WHERE true"));
        let sql = selected(&[], &["eu-west-1".to_owned(), "x') OR ('' = '".to_owned()]);
        assert!(sql.ends_with(r#"WHERE "awsRegion" IN ('eu-west-1', 'x'') OR ('''' = ''')"#), "{sql}");
    }
}
