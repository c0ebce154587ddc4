//! The values of events that a condition of an exception may name.

use std::collections::HashMap;

use crate::engine::Engine;
use crate::error::Error;
use crate::hunt::grid::GridMatches;
use crate::named_columns;
use crate::path::Step;
use crate::query::{self, Query};
use crate::rule::{Field, Rule};
use crate::table::Table;
use crate::text;
use crate::time::Range;

/// The longest value that a condition names, in bytes.
const MAX_VALUE: usize = 512;

/// A field that a condition may name, as the path of its keys. Derived fields have one key.
pub(super) type FieldKeys = Vec<String>;

/// A field and a value, by their numbers.
pub(super) type Value = (usize, u32);

/// The fields of each event, in the order in which equal conditions prefer them.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("sourceIPAddress", &["sourceIPAddress"]),
    ("userAgent", &["userAgent"]),
    ("eventName", &["eventName"]),
    ("arn", &["userIdentity", "arn"]),
    ("eventSource", &["eventSource"]),
    ("awsRegion", &["awsRegion"]),
];

/// Reads the values of the matches of a rule.
const VALUES: &str = r#"
SELECT coalesce("eventID", "contentID") AS id, "eventName", "eventSource", "awsRegion", "sourceIPAddress", "userAgent", userIdentity.arn AS arn
FROM cloudtrail
WHERE coalesce("eventID", "contentID") IN (SELECT "eventID" FROM matches)
"#;

/// The values of the matches of a rule.
#[derive(Debug, Default)]
pub(super) struct EventValues {
    pub(super) fields: Vec<FieldKeys>,
    /// For each field whether its values say who acted or what was acted on. A condition without such a field, such as one on
    /// the region alone, would hide the events of strangers.
    pub(super) is_identifying: Vec<bool>,
    /// For each field whether its values say who acted, rather than from where.
    pub(super) says_who: Vec<bool>,
    /// The values that all matches have.
    pub(super) of_all_matches: Vec<Value>,
    /// For each field the texts of its values.
    texts: Vec<Vec<String>>,
    numbers: Vec<HashMap<String, u32>>,
    /// For each match its values, sorted.
    pub(super) of_matches: Vec<Vec<Value>>,
}

impl EventValues {
    /// Reads the values of `matches`.
    pub(super) async fn read(
        engine: &Engine,
        table: &dyn Table,
        rule: &Rule,
        matches: &GridMatches,
    ) -> Result<EventValues, Error> {
        let mut values = EventValues::default();
        let actor = values.field(vec!["actor".to_owned()]);
        let columns: Vec<(&str, usize)> = COLUMNS
            .iter()
            .map(|(name, keys)| (*name, values.field(keys.iter().map(|key| (*key).to_owned()).collect())))
            .collect();
        let account = values.field(vec!["account".to_owned()]);
        values.is_identifying = values.fields.iter().map(|keys| is_identity(keys)).collect();
        let groups: Vec<Option<usize>> =
            rule.group_by.iter().map(|field| keys_of(field).map(|keys| values.field(keys))).collect();
        values.is_identifying.resize(values.fields.len(), true);
        let is_address = |keys: &FieldKeys| keys.as_slice() == ["sourceIPAddress"];
        let says_who = values.fields.iter().zip(&values.is_identifying);
        values.says_who = says_who.map(|(keys, is_identifying)| *is_identifying && !is_address(keys)).collect();
        values.of_matches = vec![Vec::new(); matches.times.len()];
        let mut by_id: HashMap<&str, Vec<usize>> = HashMap::new();
        for number in 0..matches.times.len() {
            by_id.entry(matches.id(number)).or_default().push(number);
            let (of_account, of_actor) = matches.who(number);
            values.add(number, actor, of_actor);
            values.add(number, account, of_account);
            let group = &matches.groups[matches.group_of[number]];
            for (field, value) in groups.iter().zip(group) {
                if let Some(field) = field {
                    values.add(number, *field, value.as_deref());
                }
            }
        }
        // Matches around the range of a hunt may be part of a finding.
        let span =
            matches.span.map_or_else(Range::default, |(first, last)| Range { from: Some(first), to: Some(last + 1) });
        let query = Query { sql: VALUES, rule: Some(rule), range: span, with_duplicates: false };
        let outcome = query::run(engine, table, query).await?;
        for batch in &outcome.answer.rows {
            let ids = named_columns::texts(batch, "id")?;
            for (name, field) in &columns {
                let texts = named_columns::texts(batch, name)?;
                for (id, text) in ids.iter().zip(texts.iter()) {
                    for number in id.and_then(|id| by_id.get(id)).into_iter().flatten() {
                        values.add(*number, *field, text);
                    }
                }
            }
        }
        values.order();
        values.of_all_matches = values.of_matches.first().cloned().unwrap_or_default();
        let EventValues { of_all_matches, of_matches, .. } = &mut values;
        of_all_matches.retain(|value| of_matches.iter().all(|own| own.binary_search(value).is_ok()));
        Ok(values)
    }

    /// Numbers the values of each field in the order of their texts, and sorts those of each match. The order in which they
    /// were read does not matter then.
    fn order(&mut self) {
        let mut renumbered: Vec<Vec<u32>> = Vec::with_capacity(self.texts.len());
        for (texts, numbers) in self.texts.iter_mut().zip(&mut self.numbers) {
            let before = texts.clone();
            texts.sort_unstable();
            *numbers = texts.iter().cloned().zip(0..).collect();
            renumbered.push(before.iter().map(|text| numbers[text]).collect());
        }
        for values in &mut self.of_matches {
            for (field, index) in values.iter_mut() {
                *index = renumbered[*field][*index as usize];
            }
            values.sort_unstable();
            values.dedup();
        }
    }

    /// Returns the number of a field.
    fn field(&mut self, keys: FieldKeys) -> usize {
        if let Some(known) = self.fields.iter().position(|field| *field == keys) {
            return known;
        }
        self.fields.push(keys);
        self.texts.push(Vec::new());
        self.numbers.push(HashMap::new());
        self.fields.len() - 1
    }

    /// Adds a value of a match, unless a condition should not name it.
    fn add(&mut self, number: usize, field: usize, value: Option<&str>) {
        let is_usable = |value: &&str| !value.is_empty() && value.len() <= MAX_VALUE && !text::has_hidden(value);
        let Some(value) = value.filter(is_usable) else {
            return;
        };
        let texts = &mut self.texts[field];
        let index = *self.numbers[field].entry(value.to_owned()).or_insert_with(|| {
            texts.push(value.to_owned());
            u32::try_from(texts.len() - 1).unwrap_or(u32::MAX)
        });
        self.of_matches[number].push((field, index));
    }

    /// Returns the text of a value.
    pub(super) fn text(&self, (field, index): Value) -> &str {
        self.texts[field].get(index as usize).map_or("", String::as_str)
    }
}

/// Returns whether the values of a field, other than one of `GroupBy`, say who acted.
fn is_identity(keys: &[String]) -> bool {
    matches!(keys, [key] if key == "actor" || key == "sourceIPAddress")
        || matches!(keys, [first, second] if first == "userIdentity" && second == "arn")
}

/// Returns the keys of a field of a group, if a condition can name it by keys.
fn keys_of(field: &Field) -> Option<FieldKeys> {
    match field {
        Field::Account => Some(vec!["account".to_owned()]),
        Field::Actor => Some(vec!["actor".to_owned()]),
        Field::Path(path) => path
            .0
            .iter()
            .map(|step| match step {
                Step::Key(key) => Some(key.clone()),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_in_which_values_are_read_does_not_matter() {
        let read = |rows: &[(usize, usize, &str)]| {
            let mut values = EventValues::default();
            let fields = ["actor", "userAgent"].map(|name| values.field(vec![name.to_owned()]));
            values.of_matches = vec![Vec::new(); 2];
            for (number, field, value) in rows {
                values.add(*number, fields[*field], Some(value));
            }
            values.order();
            values
        };
        let mut rows = [(0, 0, "ci"), (1, 0, "backup"), (0, 1, "curl"), (1, 1, "aws-cli"), (1, 0, "backup")];
        let values = read(&rows);
        rows.reverse();
        let reversed = read(&rows);
        assert_eq!(values.of_matches, reversed.of_matches);
        assert_eq!(values.of_matches, [[(0, 1), (1, 1)], [(0, 0), (1, 0)]]);
        assert_eq!((values.text((0, 0)), reversed.text((0, 0))), ("backup", "backup"));
    }
}
