//! Random and mutated source: refused or read, in bounded time, without a panic.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tawny::rule::python::event::Json;
use tawny::rule::python::{EntryPoint, ModuleFiles, PythonModule, translate};

use super::{STATEMENTS, TRUE, rule_of};

/// The longest that one source may take, on a machine that does other work too.
const TIME: Duration = Duration::from_secs(20);

fn run(source: &str) {
    let start = Instant::now();
    let files = ModuleFiles::default();
    if let Ok(module) = PythonModule::read("rule.py", source, &files)
        && let Ok(function) = module.function(EntryPoint::Rule)
    {
        let _ = translate::predicate(&function);
        if let Ok(evaluator) = function.evaluator(&[]) {
            let _ = evaluator.evaluate(&Json::parse(&super::event().to_string()).unwrap());
        }
    }
    assert!(start.elapsed() < TIME, "{source}");
}

fn sources() -> Vec<String> {
    let statements = STATEMENTS.iter().map(|(code, _)| format!("def rule(event):\n    {code}\n"));
    let mut sources: Vec<String> = TRUE.iter().map(|code| rule_of(code)).chain(statements).collect();
    for file in ["denied_calls.py", "shared_snapshot.py"] {
        sources.push(std::fs::read_to_string(format!("tests/data/python/rules/{file}")).unwrap());
    }
    sources
}

const TOKENS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "not ",
    " in ",
    " is ",
    " and ",
    " or ",
    "lambda x: ",
    "event",
    ".get(",
    "'a'",
    "None",
    "1e999",
    "-",
    "*",
    "**",
    "//",
    "%",
    "\n    ",
    "\n",
    "return ",
    "if ",
    "else",
    ":",
    "for x in ",
    "while ",
    "yield ",
    "f'{",
    "}'",
    "\"\"\"",
    "global x",
    "def f():",
    "class A:",
    "import os",
    "@",
    "\\",
    "#",
    ":=",
    "...",
    "del x",
    "try:",
    "except:",
    "~",
    "\u{202e}",
    "é",
    "0x",
    "'\\ud800'",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_source_is_refused_or_read(
        source in prop::sample::select(sources()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(TOKENS)), 1..4),
    ) {
        let mut text: Vec<char> = source.chars().collect();
        for (place, removed, token) in edits {
            let at = place.index(text.len().max(1)).min(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, token.chars());
        }
        run(&text.into_iter().collect::<String>());
    }

    #[test]
    fn random_tokens_are_refused_or_read(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..60)) {
        run(&format!("def rule(event):\n    return {}\n", tokens.concat()));
    }
}

#[test]
fn source_that_nests_without_end_is_refused() {
    let many = 100_000;
    for part in ["(", "[", "{", "not ", "-", "lambda: ", "f'{", "x.", "x if x else ", "x ** ", "[x for x in ", "x("] {
        run(&format!("def rule(event):\n    return {}", part.repeat(many / part.len())));
    }
    for (part, end) in
        [("x + ", "x"), ("x.a", ""), ("x()", ""), ("x and ", "x"), ("x < ", "x"), ("'a' ", "'a'"), ("x, ", "x")]
    {
        run(&format!("x = 1\ndef rule(event):\n    return {}{end}", part.repeat(many / 4)));
    }
    let blocks = (0..400).map(|depth| " ".repeat(depth) + "if x:\n").collect::<Vec<_>>().concat();
    run(&format!("x = 1\n{blocks}{}pass\ndef rule(event):\n    return True", " ".repeat(400)));
    let clauses = "    elif x:\n        pass\n".repeat(5_000);
    run(&format!("x = 1\ndef rule(event):\n    if x:\n        pass\n{clauses}    return True"));
}
