//! YAML as a tree with positions, so that every error can point to its place.
//! YAML is read as version 1.2. `Yes` is a string, and so is a number with a leading zero.

use std::collections::{HashMap, HashSet};
use std::ops::{Add, Range};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::error::{Error, RuleError, RuleErrorKind};
use crate::raw::json;

/// The greatest nesting depth of a document.
const MAX_DEPTH: usize = 64;
/// The most values in a document, including values that aliases repeat.
const MAX_NODES: usize = 100_000;
/// The most bytes of text in all values together.
const MAX_BYTES: usize = 4 << 20;

/// A position in a text: line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value with its position.
#[derive(Debug, Clone, PartialEq)]
pub struct YamlNode {
    /// Its content.
    pub content: YamlContent,
    /// The position of its start.
    pub mark: Mark,
    /// The bytes of a scalar in the text.
    pub bytes: Range<usize>,
}

/// The content of a [`YamlNode`].
#[derive(Debug, Clone, PartialEq)]
pub enum YamlContent {
    /// A scalar.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Whether it has no quotes. Only then it may be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    List(Vec<YamlNode>),
    /// A mapping, in the order of the text.
    Map(Vec<(YamlNode, YamlNode)>),
}

/// A text to read, and its name in errors.
#[derive(Debug, Clone, Copy)]
pub struct YamlSource<'s> {
    /// Its name: the path of the file.
    pub name: &'s str,
    /// The text.
    pub text: &'s str,
}

impl YamlSource<'_> {
    /// Reads the document.
    ///
    /// # Errors
    /// The text is not valid YAML or not exactly one document, uses tags, or is too large.
    pub fn read(&self) -> Result<YamlNode, Error> {
        let mut documents = self.documents()?.into_iter();
        let Some((_, document)) = documents.next() else {
            return Err(self.error(Mark { line: 1, column: 1 }, "the file is empty"));
        };
        match documents.next() {
            Some((mark, _)) => Err(self.error(mark, "a second document begins here: one file holds one rule")),
            None => Ok(document),
        }
    }

    /// Reads all documents, each with the position of its start.
    ///
    /// # Errors
    /// The text is not valid YAML, uses tags, or is too large.
    pub fn documents(&self) -> Result<Vec<(Mark, YamlNode)>, Error> {
        let mut tree = Tree {
            source: *self,
            parser: Parser::new_from_str(self.text),
            anchors: HashMap::new(),
            held: Size::default(),
        };
        let mut documents = Vec::new();
        loop {
            match tree.next()? {
                (Event::StreamEnd, _) => return Ok(documents),
                (Event::DocumentStart(..), start) => {
                    let (event, span) = tree.next()?;
                    documents.push((mark(&start), tree.node(event, &span, 0)?));
                }
                _ => {}
            }
        }
    }

    /// Returns the error of an invalid rule, at a place in the text.
    pub fn error(&self, mark: Mark, message: &str) -> Error {
        self.rule_error(RuleErrorKind::Invalid, mark, message).into()
    }

    /// Returns an error at a place in the text.
    pub fn rule_error(&self, kind: RuleErrorKind, mark: Mark, message: &str) -> RuleError {
        let Mark { line, column } = mark;
        let text = self.text.lines().nth(line.saturating_sub(1)).map(str::to_owned);
        RuleError { kind, file: self.name.to_owned(), line, column, message: message.to_owned(), text }
    }
}

fn mark(span: &Span) -> Mark {
    Mark { line: span.start.line(), column: span.start.col() + 1 }
}

struct Tree<'s> {
    source: YamlSource<'s>,
    parser: Parser<'s, granit_parser::StrInput<'s>>,
    anchors: HashMap<usize, YamlNode>,
    held: Size,
}

/// The size of values.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

impl<'s> Tree<'s> {
    /// Returns the place of an error if a tab indents its line, or that of the tab in the next line if the error is at the end of its
    /// line.
    fn indenting_tab(&self, place: Mark) -> Option<Mark> {
        let mut lines = self.source.text.lines().skip(place.line.saturating_sub(1));
        let tab = |line: &str| {
            let column = line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t')?;
            (!line.trim().is_empty()).then_some(column + 1)
        };
        let line = lines.next()?;
        if tab(line).is_some() {
            return Some(place);
        }
        let is_at_the_end = place.column > line.trim_end().chars().count();
        let column = tab(lines.next()?).filter(|_| is_at_the_end)?;
        Some(Mark { line: place.line + 1, column })
    }

    fn next(&mut self) -> Result<(Event<'s>, Span), Error> {
        match self.parser.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let place = Mark { line: error.marker().line(), column: error.marker().col() + 1 };
                if let Some(tab) = self.indenting_tab(place) {
                    return Err(self.source.error(tab, "invalid YAML: a tab indents this line; use spaces"));
                }
                Err(self.source.error(place, &format!("invalid YAML: {}", error.info())))
            }
            None => Err(Error::Internal("the YAML parser ended within a value".to_owned())),
        }
    }

    fn node(&mut self, event: Event<'s>, span: &Span, depth: usize) -> Result<YamlNode, Error> {
        let mark = mark(span);
        if !matches!(event, Event::Scalar(..) | Event::Alias(_)) {
            self.count(Size { nodes: 1, bytes: 0 }, mark)?;
        }
        if depth > MAX_DEPTH {
            return Err(self.source.error(mark, "this is nested too deeply"));
        }
        let (mut content, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(Size { nodes: 1, bytes: text.len() }, mark)?;
                let plain = style == ScalarStyle::Plain;
                (YamlContent::Scalar { text: text.into_owned(), plain }, anchor, tag)
            }
            Event::SequenceStart(_, anchor, tag) => (YamlContent::List(self.list(depth)?), anchor, tag),
            Event::MappingStart(_, anchor, tag) => (YamlContent::Map(self.map(depth)?), anchor, tag),
            Event::Alias(anchor) => {
                let Some(size) = self.anchors.get(&anchor).map(size) else {
                    return Err(self.source.error(mark, "an alias within the value it stands for"));
                };
                // Before the copy, which may be large.
                self.count(size, mark)?;
                return Ok(self.anchors[&anchor].clone());
            }
            _ => return Err(Error::Internal("the YAML parser gave no value".to_owned())),
        };
        if let (Some(tag), YamlContent::Scalar { plain, .. }) = (&tag, &mut content)
            && tag.is_yaml_core_schema()
            && tag.suffix() == "str"
        {
            *plain = false;
        } else if tag.is_some() {
            return Err(self.source.error(mark, "YAML tags (`!`) are not supported"));
        }
        let node = YamlNode { content, mark, bytes: span.byte_range().unwrap_or_default() };
        if anchor != 0 {
            self.count(size(&node), mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<YamlNode>, Error> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(elements),
                (event, span) => elements.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(YamlNode, YamlNode)>, Error> {
        let mut members: Vec<(YamlNode, YamlNode)> = Vec::new();
        let mut known = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(members);
            }
            let key = self.node(event, &span, depth + 1)?;
            let YamlContent::Scalar { text, .. } = &key.content else {
                return Err(self.source.error(key.mark, "a key must be a text"));
            };
            if !known.insert(text.clone()) {
                return Err(self.source.error(key.mark, &format!("`{text}` is given twice")));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, &span, depth + 1)?;
            members.push((key, value));
        }
    }

    fn count(&mut self, more: Size, mark: Mark) -> Result<(), Error> {
        self.held = self.held + more;
        if self.held.nodes > MAX_NODES {
            return Err(self.source.error(mark, &format!("the document holds more than {MAX_NODES} values")));
        }
        if self.held.bytes > MAX_BYTES {
            let most = MAX_BYTES >> 20;
            return Err(self.source.error(mark, &format!("the document's texts hold more than {most} MiB together")));
        }
        Ok(())
    }
}

impl Add for Size {
    type Output = Size;

    fn add(self, other: Size) -> Size {
        Size { nodes: self.nodes + other.nodes, bytes: self.bytes + other.bytes }
    }
}

fn size(node: &YamlNode) -> Size {
    let one = Size { nodes: 1, bytes: 0 };
    match &node.content {
        YamlContent::Scalar { text, .. } => Size { nodes: 1, bytes: text.len() },
        YamlContent::List(elements) => elements.iter().map(size).fold(one, Size::add),
        YamlContent::Map(members) => {
            members.iter().flat_map(|(key, value)| [key, value]).map(size).fold(one, Size::add)
        }
    }
}

impl YamlNode {
    /// Returns whether it is null or empty.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, YamlContent::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Returns the value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.content {
            YamlContent::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the text of a scalar that is not null.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            YamlContent::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Returns whether it is a number.
    pub fn is_number(&self) -> bool {
        matches!(&self.content, YamlContent::Scalar { text, plain: true } if json::number(text).is_some())
    }

    /// Returns the value of a key. `None` if this is not a mapping, or lacks the key.
    pub fn member(&self, key: &str) -> Option<&YamlNode> {
        let YamlContent::Map(members) = &self.content else {
            return None;
        };
        members.iter().find(|(given, _)| given.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// Returns the name of its type, for errors.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            YamlContent::List(_) => "a list",
            YamlContent::Map(_) => "a mapping",
            YamlContent::Scalar { .. } if self.is_null() => "nothing",
            YamlContent::Scalar { .. } if self.as_bool().is_some() => "a boolean",
            YamlContent::Scalar { .. } if self.is_number() => "a number",
            YamlContent::Scalar { .. } => "a text",
        }
    }

    /// Returns the value as JSON text. Numbers keep their spelling.
    pub fn to_json(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match &self.content {
            YamlContent::List(elements) => {
                format!("[{}]", elements.iter().map(YamlNode::to_json).collect::<Vec<_>>().join(","))
            }
            YamlContent::Map(members) => {
                let member = |(key, value): &(YamlNode, YamlNode)| {
                    let key = match &key.content {
                        YamlContent::Scalar { text, .. } => text.as_str(),
                        YamlContent::List(_) | YamlContent::Map(_) => "",
                    };
                    format!("{}:{}", quoted(key), value.to_json())
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
            YamlContent::Scalar { .. } if self.is_null() => "null".to_owned(),
            YamlContent::Scalar { text, .. } => match self.as_bool() {
                Some(flag) => flag.to_string(),
                None if self.is_number() => text.clone(),
                None => quoted(text),
            },
        }
    }
}

/// Returns the name in `known` that the user probably meant by `given`.
pub fn nearest<'k>(given: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let alike = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &given.to_lowercase());
    known
        .map(|name| (alike(name), name))
        .filter(|(alike, _)| *alike > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
