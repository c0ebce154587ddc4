//! Python source: its bounds, its parsing and its places.

use ruff_python_ast as ast;
use ruff_python_parser::parse_module;
use ruff_text_size::{Ranged as _, TextRange};

/// Bytes of a source file. The largest in public packs have a tenth of it.
const BYTES: usize = 512 << 10;

/// How deep brackets and blocks may nest, and how many operators and keywords that nest one statement may have.
const NESTING: usize = 100;
const NESTED_PARTS: usize = 1_500;

/// Stack for the parser, which recurses as deep as the source nests.
const STACK: usize = 256 << 20;

/// A place in a source: line and column, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Returns the place where a range begins.
pub(super) fn place(text: &str, range: TextRange) -> Place {
    let before = text.get(..usize::from(range.start())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
}

/// Parses the statements of a module.
///
/// # Errors
/// The place of what is not Python, or is too large, and why.
pub(super) fn parse(text: &str) -> Result<Vec<ast::Stmt>, (Place, String)> {
    check_bounds(text)?;
    let parsed = std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(STACK);
        let parser = parser.spawn_scoped(scope, || {
            let module = parse_module(text).map_err(|error| (place(text, error.range()), error.error.to_string()))?;
            Ok(module.into_syntax().body.into_iter().collect::<Vec<_>>())
        });
        match parser.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(parsed)) => parsed,
            _ => Err((Place::default(), "the parser could not run".to_owned())),
        }
    });
    parsed.map_err(|(place, what)| (place, format!("this is not Python: {what}")))
}

/// Checks what makes the parser recurse. Within strings, which may be f-strings, brackets are only counted.
fn check_bounds(text: &str) -> Result<(), (Place, String)> {
    if text.len() > BYTES {
        return Err((Place::default(), format!("more than {BYTES} bytes of Python")));
    }
    let too_deep = |at: usize| {
        let at = u32::try_from(at).unwrap_or_default().into();
        (place(text, TextRange::empty(at)), "this is nested too deep, or too long for one statement".to_owned())
    };
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut parts) = (0, 0_usize, 0_usize);
    let mut indents: Vec<usize> = vec![0];
    let mut line_starts = true;
    while let Some(byte) = bytes.get(at) {
        if line_starts && depth == 0 {
            let indent = bytes[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\x0c')).count();
            while indents.last().is_some_and(|last| *last > indent) {
                indents.pop();
            }
            if indents.last().is_some_and(|last| *last < indent) {
                indents.push(indent);
            }
            if indents.len() > NESTING {
                return Err(too_deep(at));
            }
            parts = 0;
        }
        line_starts = false;
        match byte {
            b'\n' => line_starts = true,
            b'#' => {
                at += bytes[at..].iter().take_while(|byte| **byte != b'\n').count();
                continue;
            }
            b'"' | b'\'' => {
                let end = string_end(bytes, at);
                let inner = &bytes[at..end];
                if inner.iter().filter(|byte| matches!(byte, b'{' | b'(' | b'[')).count() > NESTING
                    && inner.contains(&b'{')
                    && has_deep_braces(inner)
                {
                    return Err(too_deep(at));
                }
                parts += inner.split(|byte| *byte == b'{').count() - 1;
                at = end;
                continue;
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                parts += usize::from(*byte != b'{');
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'+' | b'~' | b'*' | b'/' | b'%' | b'@' | b'|' | b'&' | b'^' | b'<' | b'>' | b'.' | b'=' | b'\\' => {
                parts += 1;
            }
            byte if byte.is_ascii_alphabetic() => {
                let end =
                    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
                if matches!(
                    &bytes[at..end],
                    b"not"
                        | b"lambda"
                        | b"else"
                        | b"if"
                        | b"elif"
                        | b"for"
                        | b"await"
                        | b"yield"
                        | b"while"
                        | b"with"
                        | b"def"
                        | b"class"
                        | b"try"
                        | b"match"
                        | b"case"
                        | b"async"
                        | b"and"
                        | b"or"
                        | b"in"
                        | b"is"
                ) {
                    parts += 1;
                }
                at = end;
                continue;
            }
            _ => {}
        }
        if depth > NESTING || parts > NESTED_PARTS {
            return Err(too_deep(at));
        }
        at += 1;
    }
    Ok(())
}

/// Returns whether brackets within a string nest deeper than f-strings of rules do.
fn has_deep_braces(string: &[u8]) -> bool {
    string.iter().filter(|byte| matches!(byte, b'{' | b'(' | b'[')).count() > NESTED_PARTS
}

/// Returns the end of the string that begins at a quote. A string of one line ends at the line.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let triple = [quote; 3];
    let is_triple = bytes[start..].starts_with(&triple);
    let mut at = start + if is_triple { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' if !is_triple => return at,
            byte if *byte == quote && !is_triple => return at + 1,
            _ if is_triple && bytes[at..].starts_with(&triple) => return at + 3,
            _ => at += 1,
        }
    }
    bytes.len()
}
