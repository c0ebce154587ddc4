//! The records of some accounts and regions.

use crate::rule::Field;

use super::expression::Expression;
use super::fields::value;

/// Returns the condition for records of `accounts` and `regions`. An empty list admits all of them. A record without an
/// account or region belongs to none.
pub fn condition(accounts: &[String], regions: &[String]) -> Expression {
    let lists = [(value(&Field::Account), accounts), (Expression::column("awsRegion"), regions)];
    let lists = lists.into_iter().filter(|(_, wanted)| !wanted.is_empty());
    Expression::all(lists.map(|(value, wanted)| value.is_in(wanted)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_empty_lists_admit_everything() {
        assert_eq!(condition(&[], &[]).to_string(), "TRUE");
        let regions = condition(&[], &["eu-west-1".to_owned(), "x') OR ('' = '".to_owned()]).to_string();
        assert_eq!(regions, r#""awsRegion" IN ('eu-west-1', 'x'') OR ('''' = ''')"#);
    }
}
