//! The arguments that functions and methods take, as in Python 3.11.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::exception::{Fault, Outcome};
use super::interpreter::Arguments;
use super::value::Value;

/// Functions and classes. A parameter with `=` is optional. Those before `/` have no name, those after `*` only a name.
/// `*name` and `**` take any others. Python has those with `!`, and this program does not.
const FUNCTIONS: &[&str] = &[
    "abs(x, /)",
    "all(iterable, /)",
    "any(iterable, /)",
    "bool(x=, /)",
    "dict(iterable=, /, **)",
    "divmod(x, y, /)",
    "enumerate(iterable, /, start=)",
    "filter(function, iterable, /)",
    "float(x=, /)",
    "format(value, format_spec=, /)",
    "frozenset(iterable=, /)",
    "getattr(object, name, default=, /)",
    "hasattr(object, name, /)",
    "int(x=, /, base=)",
    "isinstance(obj, class, /)",
    "iter(object, !sentinel=, /)",
    "len(obj, /)",
    "list(iterable=, /)",
    "map(function, iterable, /, *iterables)",
    "max(first, /, *others, key=, default=)",
    "min(first, /, *others, key=, default=)",
    "next(iterator, default=, /)",
    "print(*values, **)",
    "range(start, stop=, step=, /)",
    "repr(obj, /)",
    "reversed(sequence, /)",
    "round(number, ndigits=)",
    "set(iterable=, /)",
    "sorted(iterable, /, *, key=, reverse=)",
    "str(object=, /, !encoding=, !errors=)",
    "sum(iterable, /, start=)",
    "tuple(iterable=, /)",
    "type(object, !bases=, !dict=, /)",
    "zip(*iterables, !strict=)",
    "bytes(!source=, !encoding=, !errors=)",
    "base64.b64decode(s, !altchars=, !validate=)",
    "collections.OrderedDict(iterable=, /, **)",
    "datetime.datetime(year, month, day, hour=, minute=, second=, microsecond=, !tzinfo=, *, !fold=)",
    "datetime.datetime.fromisoformat(date_string, /)",
    "datetime.datetime.strptime(date_string, format, /)",
    "datetime.datetime.utcfromtimestamp(timestamp, /, !tz=)",
    "datetime.timedelta(days=, seconds=, microseconds=, milliseconds=, minutes=, hours=, weeks=)",
    "dict.fromkeys(iterable, value=, /)",
    "fnmatch.fnmatch(name, pat)",
    "fnmatch.fnmatchcase(name, pat)",
    "functools.reduce(function, iterable, initial=, /)",
    "ipaddress.IPv4Address(address)",
    "ipaddress.IPv4Network(address, strict=)",
    "ipaddress.IPv6Address(address)",
    "ipaddress.IPv6Network(address, strict=)",
    "ipaddress.ip_address(address)",
    "ipaddress.ip_network(address, strict=)",
    "json.dumps(obj, *, !skipkeys=, ensure_ascii=, !check_circular=, allow_nan=, !cls=, indent=, separators=, default=, sort_keys=)",
    "json.loads(s, *, !cls=, !object_hook=, !parse_float=, !parse_int=, !parse_constant=, !object_pairs_hook=)",
    "panther_base_helpers.deep_get(dictionary, *keys, default=)",
    "panther_base_helpers.deep_walk(obj, *keys, default=, return_val=)",
    "panther_base_helpers.is_ip_in_network(ip_addr, networks)",
    "panther_base_helpers.pattern_match(string_to_match, pattern)",
    "panther_base_helpers.pattern_match_list(string_to_match, patterns)",
    "panther_base_helpers.resolve_timestamp_string(timestamp)",
    "re.compile(pattern, flags=)",
    "re.escape(pattern)",
    "re.findall(pattern, string, flags=)",
    "re.fullmatch(pattern, string, flags=)",
    "re.match(pattern, string, flags=)",
    "re.search(pattern, string, flags=)",
    "re.split(pattern, string, maxsplit=, flags=)",
    "re.sub(pattern, repl, string, count=, flags=)",
];

/// Methods, by the kind of value.
const METHODS: &[&str] = &[
    "str.capitalize()",
    "str.casefold()",
    "str.count(sub, start=, end=, /)",
    "str.endswith(suffix, start=, end=, /)",
    "str.find(sub, start=, end=, /)",
    "str.format(*values, **)",
    "str.index(sub, start=, end=, /)",
    "str.isalnum()",
    "str.isalpha()",
    "str.isdecimal()",
    "str.isdigit()",
    "str.islower()",
    "str.isnumeric()",
    "str.isspace()",
    "str.isupper()",
    "str.join(iterable, /)",
    "str.ljust(width, fillchar=, /)",
    "str.lower()",
    "str.lstrip(chars=, /)",
    "str.partition(sep, /)",
    "str.removeprefix(prefix, /)",
    "str.removesuffix(suffix, /)",
    "str.replace(old, new, count=, /)",
    "str.rfind(sub, start=, end=, /)",
    "str.rjust(width, fillchar=, /)",
    "str.rpartition(sep, /)",
    "str.rsplit(sep=, maxsplit=)",
    "str.rstrip(chars=, /)",
    "str.split(sep=, maxsplit=)",
    "str.splitlines(keepends=)",
    "str.startswith(prefix, start=, end=, /)",
    "str.strip(chars=, /)",
    "str.title()",
    "str.upper()",
    "str.zfill(width, /)",
    "bytes.decode(encoding=, errors=)",
    "record.copy()",
    "record.deep_get(*keys, default=)",
    "record.get(key, default=)",
    "record.items()",
    "record.keys()",
    "record.to_dict()",
    "record.values()",
    "record.deep_walk(*keys, default=, return_val=)",
    "record.event_time_epoch(force_utc=)",
    "record.lookup(lookup_name, lookup_key)",
    "record.udm(*key, default=)",
    "record.udm_path(key)",
    "frozen_list.as_list()",
    "frozen_list.copy()",
    "frozen_list.count(value)",
    "frozen_list.index(value, start=, stop=)",
    "list.append(object, /)",
    "list.clear()",
    "list.copy()",
    "list.count(value, /)",
    "list.extend(iterable, /)",
    "list.index(value, start=, stop=, /)",
    "list.insert(index, object, /)",
    "list.pop(index=, /)",
    "list.remove(value, /)",
    "list.reverse()",
    "list.sort(*, key=, reverse=)",
    "tuple.count(value, /)",
    "tuple.index(value, start=, stop=, /)",
    "dict.clear()",
    "dict.copy()",
    "dict.get(key, default=, /)",
    "dict.items()",
    "dict.keys()",
    "dict.pop(key, default=, /)",
    "dict.setdefault(key, default=, /)",
    "dict.update(iterable=, /, **)",
    "dict.values()",
    "set.add(element, /)",
    "set.clear()",
    "set.copy()",
    "set.difference(*others)",
    "set.discard(element, /)",
    "set.intersection(*others)",
    "set.isdisjoint(other, /)",
    "set.issubset(other, /)",
    "set.issuperset(other, /)",
    "set.remove(element, /)",
    "set.symmetric_difference(other, /)",
    "set.union(*others)",
    "set.update(*others)",
    "pattern.findall(string, !pos=, !endpos=)",
    "pattern.fullmatch(string, !pos=, !endpos=)",
    "pattern.match(string, !pos=, !endpos=)",
    "pattern.search(string, !pos=, !endpos=)",
    "pattern.split(string, maxsplit=)",
    "pattern.sub(repl, string, count=)",
    "match.end(group=, /)",
    "match.group(*groups)",
    "match.groupdict(default=)",
    "match.groups(default=)",
    "match.span(group=, /)",
    "match.start(group=, /)",
    "datetime.isoformat(!sep=, !timespec=)",
    "datetime.strftime(format, /)",
    "datetime.timestamp()",
    "timedelta.total_seconds()",
    "network.overlaps(other)",
    "network.subnet_of(other)",
];

/// A parameter.
struct Parameter {
    name: &'static str,
    is_optional: bool,
    is_supported: bool,
    has_name: bool,
}

/// The arguments that a function takes.
#[derive(Default)]
pub(super) struct Signature {
    /// Those that may be given by position.
    positional: Vec<Parameter>,
    /// Those that have only a name.
    named: Vec<Parameter>,
    takes_more: bool,
    takes_any_name: bool,
}

/// Why a function cannot be called with some arguments.
pub(super) enum Mismatch {
    /// Python raises.
    Wrong(String),
    /// Python takes them, and this program does not.
    Unsupported(String),
}

impl Mismatch {
    /// Returns the arguments, for a message: "2 arguments".
    pub(super) fn what(&self) -> &str {
        match self {
            Mismatch::Wrong(what) | Mismatch::Unsupported(what) => what,
        }
    }
}

static KNOWN_FUNCTIONS: LazyLock<HashMap<&'static str, Signature>> =
    LazyLock::new(|| FUNCTIONS.iter().filter_map(|text| named(text)).collect());
/// The methods by name, each with the kinds of values that have it.
static KNOWN_METHODS: LazyLock<HashMap<&'static str, Vec<(&'static str, Signature)>>> = LazyLock::new(|| {
    let mut known: HashMap<&str, Vec<(&str, Signature)>> = HashMap::new();
    for (name, signature) in METHODS.iter().filter_map(|text| named(text)) {
        if let Some((kind, name)) = name.split_once('.') {
            known.entry(name).or_default().push((kind, signature));
        }
    }
    known
});

fn named(text: &'static str) -> Option<(&'static str, Signature)> {
    text.split_once('(').map(|(name, rest)| (name, read(rest)))
}

/// Reads the parameters of a signature, which end with a bracket.
fn read(text: &'static str) -> Signature {
    let mut signature = Signature::default();
    let mut only_names = false;
    for part in text.trim_end_matches(')').split(", ").filter(|part| !part.is_empty()) {
        match part {
            "/" => signature.positional.iter_mut().for_each(|parameter| parameter.has_name = false),
            "*" => only_names = true,
            "**" => signature.takes_any_name = true,
            _ if part.starts_with('*') => (only_names, signature.takes_more) = (true, true),
            _ => {
                let parameter = Parameter {
                    name: part.trim_start_matches('!').trim_end_matches('='),
                    is_optional: part.ends_with('='),
                    is_supported: !part.starts_with('!'),
                    has_name: true,
                };
                if only_names { signature.named.push(parameter) } else { signature.positional.push(parameter) }
            }
        }
    }
    signature
}

/// The arguments of a call, as far as its text shows them.
pub(super) struct GivenArguments<'a> {
    pub(super) positional: usize,
    pub(super) names: Vec<&'a str>,
    /// Whether there may be others: `*values` or `**entries`.
    pub(super) has_others: bool,
}

impl Signature {
    /// Checks the arguments of a call.
    ///
    /// # Errors
    /// The function cannot be called with them.
    pub(super) fn check(&self, given: &GivenArguments<'_>) -> Result<(), Mismatch> {
        let count = || match given.positional {
            1 => "1 argument".to_owned(),
            count => format!("{count} arguments"),
        };
        if given.positional > self.positional.len() && !self.takes_more {
            return Err(Mismatch::Wrong(count()));
        }
        for (index, parameter) in self.positional.iter().chain(&self.named).enumerate() {
            let at_position = index < given.positional.min(self.positional.len());
            let by_name = parameter.has_name && given.names.contains(&parameter.name);
            if !parameter.is_supported && (at_position || by_name) {
                return Err(Mismatch::Unsupported(format!("`{}`", parameter.name)));
            }
            if at_position && by_name {
                return Err(Mismatch::Wrong(format!("`{}` twice", parameter.name)));
            }
            if !parameter.is_optional && !given.has_others && !at_position && !by_name {
                let is_first = given.positional == 0 && given.names.is_empty();
                return Err(Mismatch::Wrong(if is_first { "no arguments".to_owned() } else { count() }));
            }
        }
        let is_known = |name: &&str| {
            let mut all = self.positional.iter().chain(&self.named);
            self.takes_any_name || all.any(|parameter| parameter.has_name && parameter.name == *name)
        };
        match given.names.iter().find(|name| !is_known(name)) {
            Some(name) => Err(Mismatch::Wrong(format!("`{name}`"))),
            None => Ok(()),
        }
    }
}

/// Returns the signature of a function.
pub(super) fn function(name: &str) -> Option<&'static Signature> {
    KNOWN_FUNCTIONS.get(name)
}

/// Returns the signatures of the methods with this name.
pub(super) fn methods(name: &str) -> impl Iterator<Item = &'static Signature> {
    KNOWN_METHODS.get(name).into_iter().flatten().map(|(_, signature)| signature)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "str",
        Value::Bytes(_) => "bytes",
        Value::Record(_) => "record",
        Value::FrozenList(_) => "frozen_list",
        Value::List(_) => "list",
        Value::Tuple(_) => "tuple",
        Value::Dict(_) => "dict",
        Value::Set(_) => "set",
        Value::Pattern(_) => "pattern",
        Value::Match(_) => "match",
        Value::DateTime(_) => "datetime",
        Value::TimeDelta(_) => "timedelta",
        Value::Network(_) => "network",
        _ => "",
    }
}

/// Checks the arguments of a call of a function.
///
/// # Errors
/// It cannot be called with them.
pub(super) fn check_function(name: &str, arguments: &Arguments) -> Outcome<()> {
    function(name).map_or(Ok(()), |signature| checked(signature, name, arguments))
}

/// Checks the arguments of a call of a method.
///
/// # Errors
/// It cannot be called with them.
pub(super) fn check_method(value: &Value, name: &str, arguments: &Arguments) -> Outcome<()> {
    let kind = kind(value);
    let known = KNOWN_METHODS.get(name).and_then(|known| known.iter().find(|(known, _)| *known == kind));
    known.map_or(Ok(()), |(_, signature)| checked(signature, name, arguments))
}

fn checked(signature: &Signature, name: &str, arguments: &Arguments) -> Outcome<()> {
    let names = arguments.named.iter().map(|(name, _)| &**name).collect();
    let given = GivenArguments { positional: arguments.positional.len(), names, has_others: false };
    signature.check(&given).map_err(|mismatch| match mismatch {
        Mismatch::Wrong(what) => Fault::type_error(format!("{name}() with {what}")),
        Mismatch::Unsupported(what) => Fault::Refused(format!("`{name}` with {what}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<'a>(positional: usize, names: &[&'a str]) -> GivenArguments<'a> {
        GivenArguments { positional, names: names.to_vec(), has_others: false }
    }

    fn outcome(name: &str, positional: usize, names: &[&str]) -> String {
        match function(name).unwrap().check(&given(positional, names)) {
            Ok(()) => "ok".to_owned(),
            Err(Mismatch::Wrong(what)) => format!("wrong: {what}"),
            Err(Mismatch::Unsupported(what)) => format!("unsupported: {what}"),
        }
    }

    #[test]
    fn arguments_are_checked_as_python_checks_them() {
        for (name, positional, names, expected) in [
            ("len", 1, &[][..], "ok"),
            ("len", 0, &[], "wrong: no arguments"),
            ("len", 2, &[], "wrong: 2 arguments"),
            ("len", 0, &["obj"], "wrong: 0 arguments"),
            ("int", 1, &["base"], "ok"),
            ("int", 1, &["bass"], "wrong: `bass`"),
            ("sorted", 2, &[], "wrong: 2 arguments"),
            ("sorted", 1, &["key", "reverse"], "ok"),
            ("re.sub", 3, &["count"], "ok"),
            ("re.sub", 3, &["string"], "wrong: `string` twice"),
            ("re.sub", 2, &["string"], "ok"),
            ("json.dumps", 1, &["skipkeys"], "unsupported: `skipkeys`"),
            ("json.dumps", 2, &[], "wrong: 2 arguments"),
            ("datetime.datetime", 8, &[], "unsupported: `tzinfo`"),
            ("dict", 1, &["anything"], "ok"),
            ("print", 5, &["end"], "ok"),
        ] {
            assert_eq!(outcome(name, positional, names), expected, "{name} {positional} {names:?}");
        }
    }

    #[test]
    fn every_function_has_one_signature() {
        assert_eq!(KNOWN_FUNCTIONS.len(), FUNCTIONS.len());
        for (name, signatures) in KNOWN_METHODS.iter() {
            let kinds: std::collections::BTreeSet<_> = signatures.iter().map(|(kind, _)| kind).collect();
            assert_eq!(kinds.len(), signatures.len(), "{name}");
        }
        let methods: usize = KNOWN_METHODS.values().map(Vec::len).sum();
        assert_eq!(methods, METHODS.len());
        assert!(check_method(&Value::text("a"), "lower", &Arguments::of(vec![Value::None])).is_err());
        assert!(check_method(&Value::text("a"), "lower", &Arguments::default()).is_ok());
    }
}
