//! Reads `Hunt`: what a rule counts, and in which windows.

use std::num::NonZeroU32;

use super::Reader;
use crate::error::Error;
use crate::rule::condition::{MappingMembers, Scope};
use crate::rule::yaml::{YamlContent, YamlNode};
use crate::rule::{Absence, AbsenceSide, Counts, FirstSeen, NewnessPeriods, Predicate, WindowKind};
use crate::time::Period;

/// The keys of `Hunt`.
const KEYS: [&str; 10] = [
    "Window",
    "Unique",
    "Sum",
    "MinEvents",
    "FollowedBy",
    "NotFollowedBy",
    "NotPrecededBy",
    "New",
    "History",
    "Learning",
];

/// The most fields in `New`.
const NEW_FIELDS: usize = 16;

impl Reader<'_> {
    fn hunt<'n>(&self, members: &MappingMembers<'n>) -> Result<Option<MappingMembers<'n>>, Error> {
        members.get("Hunt").map(|node| self.members(node, "`Hunt`", &KEYS)).transpose()
    }

    pub(super) fn kind(&self, members: &MappingMembers<'_>) -> Result<WindowKind, Error> {
        let Some(node) = self.hunt(members)?.and_then(|hunt| hunt.get("Window")) else {
            return Ok(WindowKind::default());
        };
        match WindowKind::ALL.into_iter().find(|kind| node.as_text() == Some(kind.to_string().as_str())) {
            Some(kind) => Ok(kind),
            None => self.error(node.mark, "`Window` must be sliding, dedup or tumbling"),
        }
    }

    /// Returns what is counted if nothing has to follow.
    pub(super) fn counted(&mut self, members: &MappingMembers<'_>) -> Result<Counts, Error> {
        let Some(hunt) = self.hunt(members)? else { return Ok(Counts::Matches) };
        match (hunt.get("Unique"), hunt.get("Sum")) {
            (None, None) => Ok(Counts::Matches),
            (Some(field), None) => self.path(field, "`Unique`", Scope::Record).map(Counts::Distinct),
            (None, Some(field)) => self.path(field, "`Sum`", Scope::Record).map(Counts::Sum),
            (Some(_), Some(field)) => self.error(field.mark, "a rule has `Unique` or `Sum`, not both"),
        }
    }

    pub(super) fn followed_by(&mut self, members: &MappingMembers<'_>) -> Result<Option<Predicate>, Error> {
        let Some(hunt) = self.hunt(members)? else { return Ok(None) };
        let Some(node) = hunt.given("FollowedBy") else { return Ok(None) };
        for other in ["Unique", "Sum", "Window"] {
            if let Some(other_node) = hunt.get(other)
                && (other != "Window" || self.kind(members)? != WindowKind::Sliding)
            {
                let message = format!("`{other}`: with `FollowedBy` matches are counted, in sliding windows");
                return self.error(other_node.mark, &message);
            }
        }
        self.event(node, "FollowedBy").map(Some)
    }

    /// Returns the predicate of another event, under a key of `Hunt`.
    fn event(&mut self, node: &YamlNode, key: &str) -> Result<Predicate, Error> {
        if node.is_null() || matches!(&node.content, YamlContent::List(expressions) if expressions.is_empty()) {
            return self.error(node.mark, &format!("`{key}` must hold at least one expression"));
        }
        self.conjunction(node, &format!("`{key}`"), Scope::Record)
    }

    /// Returns the events that must be absent near a match.
    pub(super) fn absence(&mut self, members: &MappingMembers<'_>) -> Result<Option<Absence>, Error> {
        let Some(hunt) = self.hunt(members)? else { return Ok(None) };
        let mut sides = [AbsenceSide::After, AbsenceSide::Before].into_iter();
        let Some((side, node)) = sides.find_map(|side| Some((side, hunt.given(side.key())?))) else {
            return Ok(None);
        };
        let key = side.key();
        let mut others = ["FollowedBy", "New"].into_iter().chain(sides.map(AbsenceSide::key));
        if let Some((other, node)) = others.find_map(|other| Some((other, hunt.given(other)?))) {
            return self.error(node.mark, &format!("a rule has `{key}` or `{other}`, not both"));
        }
        Ok(Some(Absence { side, event: self.event(node, key)? }))
    }

    /// Returns the least number of matches in a window.
    pub(super) fn min_events(&self, members: &MappingMembers<'_>) -> Result<Option<NonZeroU32>, Error> {
        let Some(hunt) = self.hunt(members)? else { return Ok(None) };
        let Some(node) = hunt.get("MinEvents") else { return Ok(None) };
        if hunt.get("Unique").or(hunt.get("Sum")).is_none() {
            return self
                .error(node.mark, "`MinEvents` stands beside `Unique` or `Sum`: elsewhere `Threshold` counts events");
        }
        match node.as_text().filter(|_| node.is_number()).and_then(|text| text.parse().ok()) {
            Some(events) => Ok(Some(events)),
            None => self.error(node.mark, "`MinEvents` must be a whole number from 1 to 4294967295"),
        }
    }

    /// Returns which matches are new.
    pub(super) fn first_seen(&mut self, members: &MappingMembers<'_>) -> Result<Option<FirstSeen>, Error> {
        let Some(hunt) = self.hunt(members)? else { return Ok(None) };
        let Some(node) = hunt.given("New") else {
            return match ["History", "Learning"].into_iter().find_map(|key| Some((key, hunt.get(key)?))) {
                Some((key, node)) => self.error(node.mark, &format!("`{key}` needs `New`, a list of fields")),
                None => Ok(None),
            };
        };
        let nodes = self.list(node, "`New`")?;
        if nodes.is_empty() || nodes.len() > NEW_FIELDS {
            return self.error(node.mark, &format!("`New` must name 1 to {NEW_FIELDS} fields"));
        }
        let fields = nodes.iter().map(|node| self.path(node, "`New`", Scope::Record)).collect::<Result<_, _>>()?;
        let history = self.time(self.required(&hunt, "History")?, "`History`")?;
        let learning = hunt.get("Learning").map(|node| self.time(node, "`Learning`")).transpose()?;
        Ok(Some(FirstSeen { fields, periods: NewnessPeriods { history, learning } }))
    }

    /// Returns a time to look back, such as `30d`.
    fn time(&self, node: &YamlNode, what: &str) -> Result<Period, Error> {
        match Period::parse_history(node.as_text().unwrap_or_default()) {
            Ok(period) => Ok(period),
            Err(error) => self.error(node.mark, &format!("{what}: {error}, such as `30d`")),
        }
    }
}
