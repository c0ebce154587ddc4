//! Predicates in a dialect. A predicate that the dialect cannot express exactly is refused.

use crate::event::{ColumnKind, FieldLocation, HOT};
use crate::path::Step;
use crate::raw::json;
use crate::rule::{Field, Operand, Predicate, Test, Value};
use crate::time::Instant;

use super::export::{DialectColumns, FieldSource};

/// The part of a predicate that the dialect cannot express, in words that follow "asks for".
pub(super) type Refused = String;

/// The place of a field's value.
enum Reading {
    /// A column of text, or an expression of columns; null if there is no value.
    Text(String),
    /// A boolean.
    Flag(String),
    /// Below a column of JSON.
    Json { column: String, keys: Vec<String>, hot: Option<String> },
}

impl DialectColumns {
    /// A predicate, indented by `depth` steps where it breaks lines.
    pub(super) fn predicate(&self, predicate: &Predicate, depth: usize) -> Result<String, Refused> {
        let parts = |parts: &[Predicate]| {
            parts.iter().map(|part| self.predicate(part, depth + 1)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match predicate {
            Predicate::All(all) => joined(&parts(all)?, "AND", "TRUE", depth),
            Predicate::Any(any) => joined(&parts(any)?, "OR", "FALSE", depth),
            Predicate::None(none) => not(&joined(&parts(none)?, "OR", "FALSE", depth)),
            Predicate::OnlyOne(one) => {
                let counted: Vec<String> =
                    parts(one)?.iter().map(|part| format!("CASE WHEN {part} THEN 1 ELSE 0 END")).collect();
                format!("{} = 1", joined(&counted, "+", "0", depth))
            }
            Predicate::Test { field, test, negated } => {
                let positive = self.test(field, test)?;
                if *negated { not(&positive) } else { positive }
            }
            Predicate::Elements { list, .. } => return Err(format!("elements of the list `{list}`")),
            Predicate::During(range) => {
                let micros = self.micros();
                let bound = |(sign, bound): (&str, Option<Instant>)| {
                    bound.map(|bound| format!("{micros} {sign} {}", bound.micros()))
                };
                let bounds: Vec<String> = [(">=", range.from), ("<", range.to)].into_iter().filter_map(bound).collect();
                joined(&bounds, "AND", "TRUE", depth)
            }
            Predicate::Except { matches, exceptions } => {
                return self.predicate(&Predicate::excepted(matches, exceptions), depth);
            }
        })
    }

    fn test(&self, field: &Field, test: &Test) -> Result<String, Refused> {
        match test {
            Test::Present => self.present(field),
            Test::Filled => match self.reading(field)? {
                Reading::Text(own) => Ok(format!("{own} <> ''")),
                _ => Err(format!("`{field}`, below a column of JSON, not to be empty")),
            },
            Test::Equals(Operand::Value(value)) => self.equals(field, &value.texts().collect::<Vec<_>>()),
            Test::Equals(Operand::Folded(value)) => {
                let texts: Vec<&str> = value.texts().collect();
                let own = self.compared(field, &texts)?;
                ascii(field, &value.text)?;
                Ok(format!("{} IN ({})", self.dialect.lower(&own), self.dialect.list(&texts)))
            }
            Test::Equals(Operand::Field(other)) => Ok(format!("{} = {}", self.column(field)?, self.column(other)?)),
            Test::Equals(Operand::FoldedField(other)) => {
                let lower = |field| Ok::<_, Refused>(self.dialect.lower(&self.column(field)?));
                Ok(format!("{} = {}", lower(field)?, lower(other)?))
            }
            Test::Equals(Operand::AnyText { field: other, .. }) => Err(any_text(other)),
            Test::In(values) => self.is_in(field, values),
            Test::StartsWith(operand) => self.part(field, operand, super::Dialect::starts_with),
            Test::EndsWith(operand) => self.part(field, operand, super::Dialect::ends_with),
            Test::Contains(operand) => match self.reading(field)? {
                Reading::Json { .. } => Err(format!("what `{field}`, a text or a list below a column of JSON, holds")),
                _ => self.part(field, operand, super::Dialect::contains),
            },
            Test::Matches(_) => Err(format!("a regular expression in `{field}`, which engines read differently")),
            Test::Number(..) => Err(format!("`{field}` as a number")),
            Test::InList(list) => Err(format!("the list `{}`, which is not in the text", list.name())),
            Test::Address(_) | Test::Within(_) | Test::AnyWithin(_) | Test::WithinList(_) | Test::AnyWithinList(_) => {
                Err(format!("`{field}` as an address"))
            }
        }
    }

    fn present(&self, field: &Field) -> Result<String, Refused> {
        match (field, field.location()) {
            (Field::Path(_), Some(FieldLocation::Time)) => Ok("TRUE".to_owned()),
            (Field::Path(_), Some(FieldLocation::Column(name, _))) => {
                Ok(format!("{} IS NOT NULL", self.source(name).ok_or_else(|| untold(field))?.whole()))
            }
            _ => match self.reading(field)? {
                Reading::Text(text) | Reading::Flag(text) => Ok(format!("{text} IS NOT NULL")),
                Reading::Json { column, keys, .. } => Ok(self.dialect.present(&column, &of(&keys))),
            },
        }
    }

    fn equals(&self, field: &Field, texts: &[&str]) -> Result<String, Refused> {
        if let Reading::Flag(flag) = self.reading(field)? {
            let wanted: Vec<String> = texts.iter().map(|text| text.to_ascii_lowercase()).collect();
            return Ok(format!("{flag} IN ({})", self.dialect.list(&of(&wanted))));
        }
        let text = self.compared(field, texts)?;
        Ok(match texts {
            [one] => format!("{text} = {}", self.dialect.quoted(one)),
            several => format!("{text} IN ({})", self.dialect.list(several)),
        })
    }

    fn is_in(&self, field: &Field, values: &[Value]) -> Result<String, Refused> {
        let texts: Vec<&str> = values.iter().flat_map(Value::texts).collect();
        let Reading::Json { column, keys, hot } = self.reading(field)? else {
            return self.equals(field, &texts);
        };
        if hot.is_none() && !self.dialect.distinguishes_strings() {
            return Err(format!("`{field}`, below a column of JSON, to be one of several or a list of them"));
        }
        for text in &texts {
            if only_strings(text) && !text.is_empty() {
                continue;
            }
            return Err(format!("`{text}` among the values of `{field}`, below a column of JSON"));
        }
        let list = self.dialect.has_any(&column, &of(&keys), &texts);
        let one = self.compared(field, &texts)?;
        Ok(format!("({one} IN ({}) OR ({one} IS NULL AND {list}))", self.dialect.list(&texts)))
    }

    /// A test of a part of a string.
    fn part(
        &self,
        field: &Field,
        operand: &Operand,
        test: fn(super::Dialect, &str, &str) -> String,
    ) -> Result<String, Refused> {
        let string = match self.reading(field)? {
            Reading::Text(own) => own,
            Reading::Flag(_) => return Ok("FALSE".to_owned()),
            Reading::Json { hot: Some(hot), .. } => hot,
            Reading::Json { column, keys, hot: None } if self.dialect.distinguishes_strings() => {
                self.dialect.string(&column, &of(&keys))
            }
            Reading::Json { .. } => return Err(format!("a part of `{field}`, below a column of JSON")),
        };
        let lower = |text: &str| self.dialect.lower(text);
        Ok(match operand {
            Operand::Value(value) => test(self.dialect, &string, &self.dialect.quoted(&value.text)),
            Operand::Folded(value) => {
                ascii(field, &value.text)?;
                test(self.dialect, &lower(&string), &self.dialect.quoted(&value.text))
            }
            Operand::Field(other) => test(self.dialect, &string, &self.column(other)?),
            Operand::FoldedField(other) => test(self.dialect, &lower(&string), &lower(&self.column(other)?)),
            Operand::AnyText { field: other, .. } => return Err(any_text(other)),
        })
    }

    /// The text of a field, to compare with `texts`.
    fn compared(&self, field: &Field, texts: &[&str]) -> Result<String, Refused> {
        let (column, keys, hot) = match self.reading(field)? {
            Reading::Text(text) | Reading::Flag(text) => return Ok(text),
            Reading::Json { column, keys, hot } => (column, keys, hot),
        };
        let is_flag = |text: &&str| matches!(*text, "true" | "false");
        if let Some(text) = texts.iter().find(|text| !is_flag(text) && !only_strings(text)) {
            return Err(format!("`{text}` as a value of `{field}`, which JSON spells in several ways"));
        }
        Ok(match hot {
            _ if texts.iter().any(is_flag) => self.dialect.flag_or_string(&column, &of(&keys)),
            Some(hot) => hot,
            None => self.dialect.string(&column, &of(&keys)),
        })
    }

    /// A column of text, also to group by.
    pub(super) fn column(&self, field: &Field) -> Result<String, Refused> {
        match self.reading(field)? {
            Reading::Text(text) | Reading::Flag(text) => Ok(text),
            Reading::Json { .. } => Err(format!("`{field}`, below a column of JSON, to group by or to compare with")),
        }
    }

    fn reading(&self, field: &Field) -> Result<Reading, Refused> {
        let source = |name: &str| self.source(name).ok_or_else(|| untold(field));
        match (field, field.location()) {
            (Field::Account, _) => Ok(Reading::Text(self.account())),
            (Field::Actor, _) => Ok(Reading::Text(self.actor())),
            (Field::Network | Field::Act | Field::Origin, _) => Err(format!("the derived field `{field}`")),
            (Field::MapText(column), _) => Err(format!("`{column}` as one text")),
            (Field::TimePart(part, zone), _) => Ok(Reading::Text(self.time_part(*part, *zone)?)),
            (Field::Alias(alias), _) => Err(format!("`{}`, an alias of different fields", alias.name)),
            (Field::Python(function), _) => Err(format!("`{}()`, which is Python", function.entry.function())),
            (Field::Element(_), _) | (_, None) => Err("elements of a list".to_owned()),
            (_, Some(FieldLocation::Time)) => Err("`eventTime` as a text".to_owned()),
            (_, Some(FieldLocation::Column(name, ColumnKind::Text))) => Ok(Reading::Text(source(name)?.whole())),
            (_, Some(FieldLocation::Column(name, ColumnKind::Flag))) => {
                Ok(Reading::Flag(self.dialect.as_text(&source(name)?.whole())))
            }
            (_, Some(FieldLocation::Column(..))) => Err(format!("`{field}` as a whole")),
            (_, Some(FieldLocation::Below { column, path, hot })) => {
                let as_cloudtrail_spells =
                    hot.and_then(|hot| HOT.iter().find(|(name, ..)| *name == hot)).map(|(_, _, keys)| *keys);
                let keys = match as_cloudtrail_spells {
                    Some(keys) => keys.iter().map(|key| (*key).to_owned()).collect(),
                    None => plain(path).ok_or_else(|| format!("the path `{field}`"))?,
                };
                match source(column)? {
                    FieldSource::Struct(column) => {
                        self.member(&column, &of(&keys)).map(Reading::Text).ok_or_else(|| untold(field))
                    }
                    FieldSource::Column(column) => {
                        let hot = hot.map(|_| self.string_below(&column, &of(&keys), hot));
                        let exact = hot.filter(|_| self.dialect.distinguishes_strings() || self.has_hot());
                        Ok(Reading::Json { column, keys, hot: exact })
                    }
                }
            }
        }
    }
}

fn any_text(field: &Field) -> Refused {
    format!("any text in `{field}`, to compare with")
}

fn untold(field: &Field) -> Refused {
    format!("`{field}`, which is in no column of its own there")
}

fn of(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// The keys of a path that holds nothing but plain keys.
fn plain(path: &[Step]) -> Option<Vec<String>> {
    let key = |step: &Step| match step {
        Step::Key(key) if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            Some(key.clone())
        }
        _ => None,
    };
    path.iter().map(key).collect()
}

/// Whether only a string can have this text, and no number, boolean, object or list.
fn only_strings(text: &str) -> bool {
    !matches!(text, "true" | "false" | "null") && !text.starts_with(['{', '[']) && json::number(text).is_none()
}

/// Engines agree on the lower case of plain letters only.
fn ascii(field: &Field, text: &str) -> Result<(), Refused> {
    if text.is_ascii() { Ok(()) } else { Err(format!("`{field}` to be `{text}` in any case")) }
}

fn not(condition: &str) -> String {
    format!("NOT coalesce({condition}, FALSE)")
}

fn joined(parts: &[String], word: &str, none: &str, depth: usize) -> String {
    match parts {
        [] => none.to_owned(),
        [one] => one.clone(),
        _ => format!("({})", parts.join(&format!("\n{}{word} ", "  ".repeat(depth + 2)))),
    }
}
