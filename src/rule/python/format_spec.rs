//! Python's format specifications, as in `f"{x:>8,.2f}"`.

use super::exception::{Fault, Outcome};
use super::library::time;
use super::text_format::{float, text};
use super::value::Value;

/// The widest field, and the most digits, that a format may ask for.
const WIDTH: usize = 1_000;

/// A format specification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FormatSpec {
    pub(super) fill: Option<char>,
    /// `<`, `>`, `^` or `=`.
    pub(super) align: Option<char>,
    /// `+`, `-` or a space.
    pub(super) sign: Option<char>,
    /// Whether zeros fill the number, after its sign.
    pub(super) zeros: bool,
    /// `#`
    pub(super) is_alternate: bool,
    pub(super) width: usize,
    /// `,` or `_` between groups of digits.
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    pub(super) kind: Option<char>,
}

impl FormatSpec {
    /// Reads a specification. `None` if it is none.
    pub(super) fn read(text: &str) -> Option<FormatSpec> {
        let mut spec = FormatSpec::default();
        let is_align = |c: char| matches!(c, '<' | '>' | '^' | '=');
        let mut chars = text.chars();
        let (first, second) = (chars.next(), chars.next());
        let mut rest = text;
        match (first, second) {
            (Some(fill), Some(align)) if is_align(align) => {
                (spec.fill, spec.align) = (Some(fill), Some(align));
                rest = &rest[fill.len_utf8() + 1..];
            }
            (Some(align), _) if is_align(align) => {
                spec.align = Some(align);
                rest = &rest[1..];
            }
            _ => {}
        }
        let mut take = |wanted: &[char]| {
            let found = rest.chars().next().filter(|c| wanted.contains(c))?;
            rest = &rest[found.len_utf8()..];
            Some(found)
        };
        spec.sign = take(&['+', '-', ' ']);
        spec.is_alternate = take(&['#']).is_some();
        spec.zeros = take(&['0']).is_some();
        let width = digits(&mut rest);
        spec.width = if width.is_empty() { 0 } else { width.parse().ok()? };
        let mut take = |wanted: &[char]| {
            let found = rest.chars().next().filter(|c| wanted.contains(c))?;
            rest = &rest[found.len_utf8()..];
            Some(found)
        };
        spec.grouping = take(&[',', '_']);
        if take(&['.']).is_some() {
            spec.precision = Some(digits(&mut rest).parse().ok()?);
        }
        spec.kind = rest.chars().next();
        let is_end = spec.kind.is_none_or(|kind| rest.len() == kind.len_utf8());
        is_end.then_some(spec)
    }
}

/// Takes the digits at the start of a text.
fn digits<'t>(rest: &mut &'t str) -> &'t str {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    digits
}

/// Returns `format(value, spec)`.
pub(super) fn with_format(value: &Value, spec: &str) -> Outcome<String> {
    if spec.is_empty() {
        return Ok(text(value));
    }
    if let Value::DateTime(at) = value {
        return time::strftime(*at, spec);
    }
    if !matches!(value, Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Float(_)) {
        let message = format!("unsupported format string passed to {}.__format__", value.type_name());
        return Err(Fault::type_error(message));
    }
    let Some(read) = FormatSpec::read(spec) else { return Err(Fault::value_error("Invalid format specifier")) };
    formatted(value, read)
}

/// Returns a text or a number in a format.
pub(super) fn formatted(value: &Value, spec: FormatSpec) -> Outcome<String> {
    if spec.width > WIDTH || spec.precision.is_some_and(|precision| precision > WIDTH) {
        return Err(Fault::Exhausted);
    }
    let unknown = |kind: char| {
        let name = value.type_name();
        Fault::value_error(format!("Unknown format code '{kind}' for object of type '{name}'"))
    };
    match value {
        Value::Text(text) => of_text(text, spec, unknown),
        Value::Float(number) => of_float(*number, spec, unknown),
        other => {
            let number = other.as_int().unwrap_or_default();
            match spec.kind {
                None | Some('b' | 'c' | 'd' | 'n' | 'o' | 'x' | 'X') => of_int(number, spec),
                #[allow(clippy::cast_precision_loss, reason = "Python rounds it too")]
                Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => of_float(number as f64, spec, unknown),
                Some(kind) => Err(unknown(kind)),
            }
        }
    }
}

fn of_text(text: &str, spec: FormatSpec, unknown: impl Fn(char) -> Fault) -> Outcome<String> {
    match spec.kind {
        None | Some('s') => {}
        Some(kind) => return Err(unknown(kind)),
    }
    if spec.sign.is_some() || spec.is_alternate || spec.grouping.is_some() || spec.align == Some('=') {
        return Err(Fault::value_error("this is not allowed in a format of text"));
    }
    let body: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
    let fill = spec.fill.unwrap_or(if spec.zeros { '0' } else { ' ' });
    Ok(padded("", &body, fill, spec.align.unwrap_or('<'), spec.width))
}

fn of_int(number: i128, spec: FormatSpec) -> Outcome<String> {
    if spec.precision.is_some() {
        return Err(Fault::value_error("Precision not allowed in integer format specifier"));
    }
    let magnitude = number.unsigned_abs();
    if spec.kind == Some('c') {
        if spec.sign.is_some() || spec.is_alternate || spec.grouping.is_some() {
            return Err(Fault::value_error("this is not allowed with the format code 'c'"));
        }
        let c = u32::try_from(number).ok().and_then(char::from_u32);
        let c = c.ok_or_else(|| Fault::raise(super::exception::ExceptionKind::OverflowError, "%c arg not in range"))?;
        let fill = spec.fill.unwrap_or(if spec.zeros { '0' } else { ' ' });
        let align = spec.align.unwrap_or(if spec.zeros { '=' } else { '<' });
        return Ok(padded("", &c.to_string(), fill, align, spec.width));
    }
    let (digits, prefix, size) = match spec.kind {
        Some('b') => (format!("{magnitude:b}"), "0b", 4),
        Some('o') => (format!("{magnitude:o}"), "0o", 4),
        Some('x') => (format!("{magnitude:x}"), "0x", 4),
        Some('X') => (format!("{magnitude:X}"), "0X", 4),
        _ => (magnitude.to_string(), "", 3),
    };
    if spec.grouping == Some(',') && size == 4 || spec.grouping.is_some() && spec.kind == Some('n') {
        return Err(Fault::value_error("Cannot specify ',' with this format code"));
    }
    let sign = sign(number < 0, spec);
    let prefix = format!("{sign}{}", if spec.is_alternate { prefix } else { "" });
    Ok(number_padded(&prefix, &digits, "", size, spec))
}

fn of_float(number: f64, spec: FormatSpec, unknown: impl Fn(char) -> Fault) -> Outcome<String> {
    let magnitude = number.abs();
    let (kind, is_upper) = match spec.kind {
        None => ('r', false),
        Some('n') if spec.grouping.is_some() => return Err(Fault::value_error("Cannot specify ',' with 'n'.")),
        Some('n') => ('g', false),
        Some(kind @ ('e' | 'f' | 'g' | '%')) => (kind, false),
        Some(kind @ ('E' | 'F' | 'G')) => (kind.to_ascii_lowercase(), true),
        Some(kind) => return Err(unknown(kind)),
    };
    let precision = spec.precision.unwrap_or(6);
    let mut body = if magnitude.is_finite() {
        match (kind, spec.precision) {
            ('f', _) => format!("{magnitude:.precision$}"),
            ('%', _) => format!("{:.precision$}%", magnitude * 100.0),
            ('e', _) => scientific(magnitude, precision),
            ('r', None) => float(magnitude),
            ('r', Some(digits)) => general(magnitude, digits.max(1), true, spec.is_alternate),
            _ => general(magnitude, precision.max(1), false, spec.is_alternate),
        }
    } else {
        let percent = if kind == '%' { "%" } else { "" };
        format!("{}{percent}", if magnitude.is_nan() { "nan" } else { "inf" })
    };
    if spec.is_alternate && !body.contains('.') && magnitude.is_finite() {
        let end = body.find(['e', '%']).unwrap_or(body.len());
        body.insert(end, '.');
    }
    if is_upper {
        body = body.to_uppercase();
    }
    let end = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
    let (whole, rest) = body.split_at(end);
    let is_negative = number.is_sign_negative() && !number.is_nan();
    Ok(number_padded(&sign(is_negative, spec), whole, rest, 3, spec))
}

/// Returns a number with an exponent of at least two digits.
fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Returns a number with so many significant digits, with an exponent if it is very large or very small.
fn general(number: f64, digits: usize, keeps_point: bool, keeps_zeros: bool) -> String {
    let scaled = scientific(number, digits - 1);
    let (mantissa, exponent) = scaled.split_once('e').unwrap_or((&scaled, "+00"));
    let power: i64 = exponent.parse().unwrap_or(0);
    let most = i64::try_from(digits).unwrap_or(i64::MAX);
    // Without a code, one digit after the point stays.
    let is_plain = -4 <= power && power < if keeps_point { most.saturating_sub(1).max(1) } else { most };
    let trimmed = |text: &str| {
        if keeps_zeros || !text.contains('.') {
            return text.to_owned();
        }
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if is_plain {
        let places = usize::try_from(most - 1 - power).unwrap_or(0);
        let text = trimmed(&format!("{number:.places$}"));
        return if keeps_point && !text.contains('.') { format!("{text}.0") } else { text };
    }
    format!("{}e{exponent}", trimmed(mantissa))
}

fn sign(is_negative: bool, spec: FormatSpec) -> String {
    match (is_negative, spec.sign) {
        (true, _) => "-".to_owned(),
        (false, Some(sign @ ('+' | ' '))) => sign.to_string(),
        _ => String::new(),
    }
}

/// Fills a number up to the width. `prefix` is its sign, and `rest` what follows its whole digits.
fn number_padded(prefix: &str, digits: &str, rest: &str, size: usize, spec: FormatSpec) -> String {
    let fill = spec.fill.unwrap_or(if spec.zeros { '0' } else { ' ' });
    let align = spec.align.unwrap_or(if spec.zeros { '=' } else { '>' });
    let is_number = digits.starts_with(|c: char| c.is_ascii_hexdigit());
    let Some(separator) = spec.grouping.filter(|_| is_number) else {
        return padded(prefix, &format!("{digits}{rest}"), fill, align, spec.width);
    };
    let mut digits = digits.to_owned();
    // Zeros that fill a number are in groups, too.
    if fill == '0' && align == '=' {
        let grouped = |count: usize| count + (count - 1) / size;
        let others = prefix.chars().count() + rest.chars().count();
        while grouped(digits.len()) + others < spec.width {
            digits.insert(0, '0');
        }
    }
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(size) {
            grouped.push(separator);
        }
        grouped.push(digit);
    }
    padded(prefix, &format!("{grouped}{rest}"), fill, align, spec.width)
}

fn padded(prefix: &str, body: &str, fill: char, align: char, width: usize) -> String {
    let missing = width.saturating_sub(prefix.chars().count() + body.chars().count());
    let pad = |count: usize| fill.to_string().repeat(count);
    match align {
        '<' => format!("{prefix}{body}{}", pad(missing)),
        '^' => format!("{}{prefix}{body}{}", pad(missing / 2), pad(missing - missing / 2)),
        '=' => format!("{prefix}{}{body}", pad(missing)),
        _ => format!("{}{prefix}{body}", pad(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &Value, spec: &str) -> String {
        match with_format(value, spec) {
            Ok(text) => text,
            Err(_) => "raises".to_owned(),
        }
    }

    #[test]
    fn formats_are_those_of_python() {
        for (value, spec, expected) in [
            (Value::Float(1e20), ",", "1e+20"),
            (Value::Float(1_234_567.0), ",", "1,234,567.0"),
            (Value::Float(1e15), "_", "1_000_000_000_000_000.0"),
            (Value::Float(2.34159), ".2f", "2.34"),
            (Value::Float(2.34159), ".3", "2.34"),
            (Value::Float(1.0), ".3", "1.0"),
            (Value::Float(1234.5), ".2", "1.2e+03"),
            (Value::Float(1234.5), ".4", "1.234e+03"),
            (Value::Float(1234.5), ".4g", "1234"),
            (Value::Float(0.00001), "g", "1e-05"),
            (Value::Float(100_000.0), "g", "100000"),
            (Value::Float(1e6), "g", "1e+06"),
            (Value::Float(0.5), "%", "50.000000%"),
            (Value::Float(0.25), ".0%", "25%"),
            (Value::Float(12345.678), "012,.2f", "0,012,345.68"),
            (Value::Float(-1.5), "08.2f", "-0001.50"),
            (Value::Float(1e100), "E", "1.000000E+100"),
            (Value::Float(2.0), "#.0f", "2."),
            (Value::Float(f64::NAN), "06.1f", "000nan"),
            (Value::Float(f64::NEG_INFINITY), "", "-inf"),
            (Value::Float(1.5), "d", "raises"),
            (Value::Bool(true), "5", "    1"),
            (Value::Bool(true), "d", "1"),
            (Value::Int(5), "03d", "005"),
            (Value::Int(-5), "x", "-5"),
            (Value::Int(255), "#x", "0xff"),
            (Value::Int(255), "#010b", "0b11111111"),
            (Value::Int(65_536), "_x", "1_0000"),
            (Value::Int(65), "c", "A"),
            (Value::Int(1234), "08,", "0,001,234"),
            (Value::Int(1_234_567), "+,d", "+1,234,567"),
            (Value::Int(3), ".2f", "3.00"),
            (Value::Int(3), ".2", "raises"),
            (Value::Int(3), "s", "raises"),
            (Value::text("ab"), ">4", "  ab"),
            (Value::text("ab"), "*^5", "*ab**"),
            (Value::text("abc"), ".2", "ab"),
            (Value::text("ab"), "05", "ab000"),
            (Value::text("ab"), "=5", "raises"),
            (Value::text("ab"), "d", "raises"),
            (Value::text("ab"), "5!", "raises"),
            (Value::None, "5", "raises"),
        ] {
            assert_eq!(shown(&value, spec), expected, "{spec} of {}", text(&value));
        }
    }
}
