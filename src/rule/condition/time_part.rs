//! Reads conditions on the hour and the weekday of an event.

use super::{MappingMembers, Reader, Scope};
use crate::error::Error;
use crate::event::FieldLocation;
use crate::rule::yaml::{self, Mark, YamlNode};
use crate::rule::{Field, Predicate, Test, TimePart, Value};
use crate::time::TimeZone;

/// The days of the week, from Monday.
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Reader<'_> {
    /// Returns the predicate of a condition that takes hours or weekdays, in a time zone.
    pub(super) fn time_part(
        &mut self,
        members: &MappingMembers<'_>,
        mark: Mark,
        (name, part): (&str, TimePart),
        scope: Scope,
    ) -> Result<Predicate, Error> {
        if self.key(members, scope)?.location() != Some(FieldLocation::Time) {
            return self.error(mark, &format!("`{name}` is about the time of the event: its key is `eventTime`"));
        }
        let single;
        let nodes = match (members.given("Value"), members.get("Values")) {
            (Some(value), None) => {
                single = [value.clone()];
                &single[..]
            }
            (None, Some(values)) => self.list(values, "`Values`")?,
            _ => &[],
        };
        if nodes.is_empty() {
            return self.error(mark, &format!("`{name}` takes one `Value`, or a list of `Values` with at least one"));
        }
        let mut numbers = Vec::new();
        for node in nodes {
            numbers.extend(self.numbers(node, name, part)?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        let values = numbers.iter().map(|number| Value { text: number.to_string(), shortest: None }).collect();
        let zone = members.get("Zone").map_or(Ok(TimeZone::UTC), |node| self.zone(node))?;
        Ok(Predicate::Test { field: Field::TimePart(part, zone), test: Test::In(values), negated: false })
    }

    /// Returns the numbers of a value: one, or those of a range. A range may continue from the greatest to the least.
    fn numbers(&self, node: &YamlNode, name: &str, part: TimePart) -> Result<Vec<u32>, Error> {
        let (least, greatest) = part.bounds();
        let number = |text: &str| {
            let weekday = WEEKDAYS.iter().zip(1..).find(|(day, _)| {
                part == TimePart::Weekday && [day, &day[..3]].iter().any(|day| day.eq_ignore_ascii_case(text))
            });
            let number = weekday.map(|(_, number)| number).or_else(|| text.parse().ok());
            number.filter(|number| (least..=greatest).contains(number))
        };
        let text = node.as_text().unwrap_or_default();
        let range = match text.split_once('-') {
            Some((from, to)) => number(from.trim()).zip(number(to.trim())),
            None => number(text).map(|number| (number, number)),
        };
        match range {
            Some((from, to)) if from <= to => Ok((from..=to).collect()),
            Some((from, to)) => Ok((from..=greatest).chain(least..=to).collect()),
            None => {
                let wanted = match part {
                    TimePart::Weekday => "days such as `Saturday`, `Sat` or 6, or ranges such as `Sat-Sun`",
                    _ => "hours from 0 to 23, or ranges such as `22-5`",
                };
                self.error(node.mark, &format!("`{name}` takes {wanted}, not `{text}`"))
            }
        }
    }

    fn zone(&self, node: &YamlNode) -> Result<TimeZone, Error> {
        let name = self.text(node, "`Zone`")?;
        name.parse().or_else(|error| {
            let hint = match yaml::nearest(&name, TimeZone::names()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            self.error(node.mark, &format!("`Zone`: {error}, and this is `{name}`{hint}"))
        })
    }
}
