//! Table mappings: the columns in which Parquet of other tools keeps CloudTrail's fields.
//!
//! A mapping is a YAML file; those of `sql/layouts/` come with the program. It names columns by which such files are
//! recognised and, for our columns, the SQL that computes them. Columns that it leaves out are found by name, in any case
//! and with or without underscores: `sourceIPAddress` is `sourceipaddress` and `source_ip_address`.

use arrow::datatypes::{DataType, Schema};

use crate::error::Error;
use crate::event::{self, FieldLocation, identity};
use crate::path::Step;
use crate::rule::yaml::{YamlContent, YamlNode, YamlSource, nearest};
use crate::rule::{Field, Predicate, Rule};
use crate::sql_limits;

/// A table mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableLayout {
    /// Its name.
    pub name: String,
    /// A sentence that describes it.
    pub title: String,
    /// Columns by which files in this layout are recognised; with dots, members of structs.
    pub detected_by: Vec<String>,
    /// For each of our columns, SQL over the layout's columns. The first value that exists and is not null counts.
    pub columns: Vec<(String, Vec<String>)>,
    /// For each JSON column, the only members that it holds.
    pub only: Vec<(String, Vec<String>)>,
}

/// Returns the layouts that come with the program, the most specific first.
pub fn shipped() -> Result<Vec<TableLayout>, Error> {
    [
        ("sql/layouts/security-lake-1.yml", include_str!("../sql/layouts/security-lake-1.yml")),
        ("sql/layouts/security-lake-preview.yml", include_str!("../sql/layouts/security-lake-preview.yml")),
        ("sql/layouts/security-lake.yml", include_str!("../sql/layouts/security-lake.yml")),
        ("sql/layouts/glue.yml", include_str!("../sql/layouts/glue.yml")),
        ("sql/layouts/tailpipe.yml", include_str!("../sql/layouts/tailpipe.yml")),
        ("sql/layouts/panther.yml", include_str!("../sql/layouts/panther.yml")),
        ("sql/layouts/athena.yml", include_str!("../sql/layouts/athena.yml")),
        ("sql/layouts/umccr.yml", include_str!("../sql/layouts/umccr.yml")),
    ]
    .into_iter()
    .map(|(name, text)| parse(name, text))
    .collect()
}

/// Returns the layout, of those `known`, that files with these columns are in.
///
/// # Errors
/// The files are in none of them, or they are files of a lake.
pub fn of_columns(known: &[TableLayout], files: &[&Schema]) -> Result<TableLayout, Error> {
    let has = |name: &str| files.iter().any(|schema| has_column(schema, name));
    if has(event::CONTENT_ID) && has(event::OTHER_FIELDS) {
        return Err(Error::Usage {
            message: "the data have the columns of a lake, but no transaction log that lists its files".to_owned(),
            hint: Some(
                "name the lake by its own folder; what `tawny query` wrote is read with `--map FILE.yml`".to_owned(),
            ),
        });
    }
    let told = |layout: &&TableLayout| layout.detected_by.iter().all(|name| has(name));
    known.iter().find(told).cloned().ok_or_else(|| {
        let mut names: Vec<&str> = Vec::new();
        for field in files.iter().flat_map(|schema| schema.fields()) {
            if !names.contains(&field.name().as_str()) {
                names.push(field.name());
            }
        }
        Error::Usage {
            message: format!("the data are in no layout that is known; their columns are {}", names.join(", ")),
            hint: Some("describe it with `--map FILE.yml`; `tawny layouts` lists the known ones".to_owned()),
        }
    })
}

/// Whether there is a column of this name, or, with dots in it, a member of a struct: `actor.user.uuid`.
fn has_column(schema: &Schema, name: &str) -> bool {
    let mut parts = name.split('.');
    let mut column = parts.next().and_then(|part| schema.fields().find(part));
    for part in parts {
        column = column.and_then(|(_, field)| match field.data_type() {
            DataType::Struct(members) => members.find(part),
            _ => None,
        });
    }
    column.is_some()
}

const KEYS: [&str; 5] = ["layout", "title", "detected_by", "columns", "only"];

/// Reads a layout.
///
/// # Errors
/// The text is invalid YAML, or has unknown keys or columns.
pub fn parse(name: &str, text: &str) -> Result<TableLayout, Error> {
    let source = YamlSource { name, text };
    let tree = source.read()?;
    let YamlContent::Map(entries) = &tree.content else {
        return Err(source.error(tree.mark, "a layout is a mapping with the keys `layout`, `title` and `columns`"));
    };
    let mut layout = TableLayout::default();
    for (key, value) in entries {
        let text = || value.as_text().map(str::to_owned).ok_or_else(|| source.error(value.mark, "a text is expected"));
        match key.as_text() {
            Some("layout") => layout.name = text()?,
            Some("title") => layout.title = text()?,
            Some("detected_by") => layout.detected_by = texts(&source, value)?,
            Some("columns") => {
                layout.columns = by_column(&source, value)?;
                check_sql(&source, value)?;
            }
            Some("only") => layout.only = by_column(&source, value)?,
            other => {
                let given = other.unwrap_or_default();
                let hint = nearest(given, KEYS.into_iter()).map(|known| format!(": did you mean `{known}`?"));
                let message = format!("a layout has no key `{given}`{}", hint.unwrap_or_default());
                return Err(source.error(key.mark, &message));
            }
        }
    }
    if layout.name.is_empty() {
        return Err(source.error(tree.mark, "the key `layout` is missing: the layout's name"));
    }
    Ok(layout)
}

fn texts(source: &YamlSource<'_>, node: &YamlNode) -> Result<Vec<String>, Error> {
    let one = |node: &YamlNode| {
        let text = node.as_text().map(str::to_owned);
        text.ok_or_else(|| source.error(node.mark, "a text or a list of texts is expected"))
    };
    match &node.content {
        YamlContent::List(nodes) => nodes.iter().map(one).collect(),
        _ => Ok(vec![one(node)?]),
    }
}

fn by_column(source: &YamlSource<'_>, node: &YamlNode) -> Result<Vec<(String, Vec<String>)>, Error> {
    let YamlContent::Map(entries) = &node.content else {
        return Err(source.error(node.mark, "a mapping of columns is expected"));
    };
    let schema = event::schema();
    let known = || schema.fields().iter().map(|field| field.name().as_str());
    let one = |(key, value): &(YamlNode, YamlNode)| {
        let given = key.as_text().unwrap_or_default();
        if !known().any(|name| name == given) {
            let hint = nearest(given, known()).map(|known| format!(": did you mean `{known}`?"));
            let message = format!("there is no column `{given}`{}", hint.unwrap_or_default());
            return Err(source.error(key.mark, &message));
        }
        Ok((given.to_owned(), texts(source, value)?))
    };
    entries.iter().map(one).collect()
}

/// A column may have this many pieces of SQL.
const ALTERNATIVES: usize = 32;

/// Checks that the SQL of the columns is not too complex for DataFusion, each piece and all together.
fn check_sql(source: &YamlSource<'_>, columns: &YamlNode) -> Result<(), Error> {
    let YamlContent::Map(entries) = &columns.content else {
        return Ok(());
    };
    let mut operators = 0;
    for (_, value) in entries {
        let pieces = match &value.content {
            YamlContent::List(pieces) => pieces.as_slice(),
            _ => std::slice::from_ref(value),
        };
        if let Some(piece) = pieces.get(ALTERNATIVES) {
            let message = format!("a column has more than {ALTERNATIVES} pieces of SQL: leave some out");
            return Err(source.error(piece.mark, &message));
        }
        for piece in pieces {
            let measured = sql_limits::check(piece.as_text().unwrap_or_default());
            operators += measured.map_err(|error| source.error(piece.mark, &format!("{error}: {}", error.advice())))?;
            if operators > sql_limits::OPERATORS {
                let message = format!("more than {} operators in all columns together", sql_limits::OPERATORS);
                return Err(source.error(piece.mark, &message));
            }
        }
    }
    Ok(())
}

impl TableLayout {
    /// Returns the SQL that the layout has for a column, if any.
    pub fn sql(&self, column: &str) -> Option<&[String]> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, texts)| texts.as_slice())
    }

    /// Checks that data in this layout without the columns `missing` have the fields that decide whether `rule` matches.
    /// Fields that findings only show may be missing.
    ///
    /// # Errors
    /// A field that decides is missing.
    pub fn check(&self, rule: &Rule, missing: &[String]) -> Result<(), Error> {
        if missing.iter().any(|name| name == event::EVENT_TIME) {
            return Err(Error::Usage {
                message: format!("the data have no column for `eventTime` that the layout `{}` knows", self.name),
                hint: Some("give the SQL of the time with `--map FILE.yml`: a timestamp, or text".to_owned()),
            });
        }
        let unanswered = self.unanswered(rule, missing);
        if unanswered.is_empty() {
            return Ok(());
        }
        Err(Error::Usage {
            message: format!(
                "rule `{}` asks for {}, which data in the layout `{}` do not have",
                rule.id,
                unanswered.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(" and "),
                self.name
            ),
            hint: Some("hunt the raw trail, or name the column with `--map FILE.yml`".to_owned()),
        })
    }

    /// Returns the fields that decide whether `rule` matches and that data in this layout without the columns `missing` lack.
    pub fn unanswered(&self, rule: &Rule, missing: &[String]) -> Vec<String> {
        let mut unanswered = Vec::new();
        let mut ask = |field: &Field| {
            if !self.answers(field, missing) && !unanswered.contains(&field.to_string()) {
                unanswered.push(field.to_string());
            }
        };
        let has_type = !missing.iter().any(|name| name == "eventType");
        fields_of(&rule.scanned(), has_type, &mut |field| ask(field));
        let of_numbers = rule.counts.summed().or(rule.counts.statistic().map(|(field, _)| field));
        rule.group_by.iter().chain(rule.counts.distinct()).chain(of_numbers).for_each(ask);
        unanswered
    }

    fn answers(&self, field: &Field, missing: &[String]) -> bool {
        let has = |column: &str| !missing.iter().any(|name| name == column);
        match (field, field.location()) {
            (Field::Account, _) => has("recipientAccountId") || has("userIdentity.accountId"),
            (Field::Actor | Field::Origin, _) => {
                has("userIdentity") && identity::DECIDING.iter().all(|member| self.has("userIdentity", member))
            }
            (Field::Network, _) => has("sourceIPAddress"),
            (Field::Act, _) => has(event::SHARED_EVENT_ID),
            (Field::MapText(column), _) => has(column),
            (Field::TimePart(..), _) => has(event::EVENT_TIME),
            (Field::Alias(alias), _) => alias.fields.iter().all(|(_, field)| self.answers(field, missing)),
            (Field::Python(function), _) => function.deciding_columns().all(has),
            (Field::Element(_), _) | (_, None) => true,
            (_, Some(FieldLocation::Time)) => has(event::EVENT_TIME),
            (_, Some(FieldLocation::Column(name, _))) => has(name),
            (_, Some(FieldLocation::Below { hot: Some(hot), .. })) if has(hot) => true,
            (_, Some(FieldLocation::Below { column, path, .. })) => has(column) && self.has_path(column, path),
        }
    }

    fn has_path(&self, column: &str, path: &[Step]) -> bool {
        match path.iter().find(|step| **step != Step::Through) {
            Some(Step::Key(key)) => self.has(column, key),
            None => true,
            _ => path.is_empty() || !self.only.iter().any(|(name, _)| name == column),
        }
    }

    /// Whether data in this layout have a member of a JSON column.
    fn has(&self, column: &str, member: &str) -> bool {
        let members = self.only.iter().find(|(name, _)| name == column).map(|(_, members)| members);
        members.is_none_or(|members| members.iter().any(|known| known.eq_ignore_ascii_case(member)))
    }
}

/// Visits the fields that a predicate looks at. Network activity shows in `eventType` too: if the data have that column
/// (`has_type`), a test for it needs no other field.
fn fields_of<'p>(predicate: &'p Predicate, has_type: bool, visit: &mut dyn FnMut(&'p Field)) {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) | Predicate::None(parts) | Predicate::OnlyOne(parts) => {
            for part in parts {
                fields_of(part, has_type, visit);
            }
        }
        Predicate::Test { field, test, .. } if has_type && test.is_network_activity(field) => {}
        Predicate::Except { matches, exceptions } => {
            fields_of(matches, has_type, visit);
            for exception in exceptions {
                fields_of(&exception.when, has_type, visit);
            }
        }
        Predicate::Test { .. } | Predicate::Elements { .. } | Predicate::During(_) => predicate.fields(visit),
    }
}

/// Returns a name in lower case and without underscores.
pub fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}
