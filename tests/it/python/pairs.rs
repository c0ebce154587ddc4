//! Evaluates rules on events from files, to compare them with another Python.
//!
//! `TAWNY_PYTHON_PAIRS` names a folder with `jobs.jsonl`: the rule, the events and the output of each job. Of each event
//! that matches, the output has what the functions give.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tawny::rule::python::event::Json;
use tawny::rule::python::{EntryPoint, Evaluator, FunctionResult, ModuleFiles, PythonModule};
use tawny::rule::yaml::YamlSource;

struct Rule {
    id: String,
    severity: String,
    functions: Vec<(EntryPoint, Evaluator)>,
}

fn read(path: &str, files: &ModuleFiles) -> Result<Rule, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let yaml = YamlSource { name: path, text: &text }.read().map_err(|error| error.to_string())?;
    let member = |key: &str| yaml.member(key).and_then(|node| node.as_text()).unwrap_or_default().to_owned();
    let file = Path::new(path).with_file_name(member("Filename"));
    let code = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let module = PythonModule::read(&file.display().to_string(), &code, files).map_err(|error| error.message)?;
    let mut functions = Vec::new();
    for entry in [EntryPoint::Rule, EntryPoint::Title, EntryPoint::Dedup, EntryPoint::Severity, EntryPoint::Unique] {
        if module.has(entry) {
            let function = module.function(entry).map_err(|error| format!("{entry:?}: {}", error.message))?;
            functions.push((entry, function.evaluator(&[])?));
        }
    }
    Ok(Rule { id: member("RuleID"), severity: member("Severity").to_uppercase(), functions })
}

/// The results of the functions for an event that matches.
fn results(rule: &Rule, number: usize, event: &Json) -> Option<Value> {
    let of = |entry: EntryPoint| {
        let function = rule.functions.iter().find(|(known, _)| *known == entry);
        function.map(|(_, evaluator)| match evaluator.evaluate(event) {
            FunctionResult::Text(text) => Some(text),
            _ => None,
        })
    };
    of(EntryPoint::Rule)??;
    let title = of(EntryPoint::Title).map(|title| title.unwrap_or_else(|| rule.id.clone()));
    let group = of(EntryPoint::Dedup).unwrap_or_else(|| title.clone()).filter(|group| !group.is_empty());
    Some(json!({
        "n": number,
        "title": title,
        "dedup": group.unwrap_or_else(|| format!("defaultDedupString:{}", rule.id)),
        "severity": of(EntryPoint::Severity)
            .map(|severity| severity.map_or_else(|| rule.severity.clone(), |severity| severity.to_uppercase())),
        "unique": of(EntryPoint::Unique).flatten(),
    }))
}

#[test]
#[ignore = "set TAWNY_PYTHON_PAIRS to a folder of jobs"]
fn python_pairs() {
    let Ok(folder) = std::env::var("TAWNY_PYTHON_PAIRS") else { return };
    let files = ModuleFiles::default();
    for job in std::fs::read_to_string(Path::new(&folder).join("jobs.jsonl")).unwrap().lines() {
        let job: Value = serde_json::from_str(job).unwrap();
        let path = |name: &str| job[name].as_str().unwrap().to_owned();
        let mut lines = String::new();
        match read(&path("rule"), &files) {
            Err(reason) => writeln!(lines, "{}", json!({"refused": reason})).unwrap(),
            Ok(rule) => {
                let events = std::fs::read_to_string(path("events")).unwrap();
                for (number, event) in events.lines().enumerate() {
                    if let Some(result) = results(&rule, number, &Json::parse(event).unwrap()) {
                        writeln!(lines, "{result}").unwrap();
                    }
                }
                writeln!(lines, "{}", json!({"events": events.lines().count()})).unwrap();
            }
        }
        std::fs::write(path("out"), lines).unwrap();
    }
}
