//! The ATT&CK tactics and techniques that rules cover.
//! Tactics are those of ATT&CK for Enterprise, version 17 (<https://attack.mitre.org/tactics/enterprise/>). A layer
//! is a file for its Navigator, format 4.5 (<https://github.com/mitre-attack/attack-navigator/tree/master/layers>).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Rule;

/// The tactics in ATT&CK's order: id, and name as in the Navigator.
const TACTICS: [(&str, &str); 14] = [
    ("TA0043", "reconnaissance"),
    ("TA0042", "resource-development"),
    ("TA0001", "initial-access"),
    ("TA0002", "execution"),
    ("TA0003", "persistence"),
    ("TA0004", "privilege-escalation"),
    ("TA0005", "defense-evasion"),
    ("TA0006", "credential-access"),
    ("TA0007", "discovery"),
    ("TA0008", "lateral-movement"),
    ("TA0009", "collection"),
    ("TA0011", "command-and-control"),
    ("TA0010", "exfiltration"),
    ("TA0040", "impact"),
];

/// Returns the id of the tactic with this name. Its words are joined by `-` or `_`.
pub fn tactic_id(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    TACTICS.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
}

/// A technique of a tactic, and the rules that cover it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered<'r> {
    /// The tactic's name, or its id if ATT&CK does not have it.
    pub tactic: &'r str,
    /// The id of the technique or sub-technique.
    pub technique: &'r str,
    /// The ids of the rules.
    pub rules: Vec<&'r str>,
}

/// Returns the techniques that `rules` cover, by tactic, and the ids of rules without a technique.
pub fn coverage<'r>(rules: impl Iterator<Item = &'r Rule>) -> (Vec<Covered<'r>>, Vec<&'r str>) {
    let mut covered: BTreeMap<(usize, &str, &str), Vec<&str>> = BTreeMap::new();
    let mut silent = Vec::new();
    for rule in rules {
        if rule.mitre().is_empty() {
            silent.push(rule.id.as_str());
        }
        for named in rule.mitre() {
            let (tactic, technique) = named.split_once(':').unwrap_or(("", named));
            let place = TACTICS.iter().position(|(id, _)| *id == tactic);
            let name = place.map_or(tactic, |place| TACTICS[place].1);
            let rules = covered.entry((place.unwrap_or(TACTICS.len()), name, technique)).or_default();
            if rules.last() != Some(&rule.id.as_str()) {
                rules.push(&rule.id);
            }
        }
    }
    let covered = covered.into_iter().map(|((_, tactic, technique), rules)| Covered { tactic, technique, rules });
    (covered.collect(), silent)
}

/// Returns a layer for the Navigator. A technique's score is the number of its rules.
pub fn layer(covered: &[Covered<'_>]) -> Value {
    let most = covered.iter().map(|covered| covered.rules.len()).max().unwrap_or(1);
    let technique = |covered: &Covered<'_>| {
        let tactic = TACTICS.iter().find(|(_, name)| *name == covered.tactic).map(|(_, name)| *name);
        let mut technique = json!({
            "techniqueID": covered.technique,
            "score": covered.rules.len(),
            "comment": covered.rules.join("\n"),
            "enabled": true,
            "showSubtechniques": true,
        });
        if let Some(tactic) = tactic {
            technique["tactic"] = Value::from(tactic);
        }
        technique
    };
    json!({
        "name": "tawny",
        "description": "What the rules look for; the score is their number.",
        "domain": "enterprise-attack",
        "versions": { "attack": "17", "navigator": "5.1.0", "layer": "4.5" },
        "techniques": covered.iter().map(technique).collect::<Vec<_>>(),
        "gradient": { "colors": ["#ffe5b4ff", "#b5651dff"], "minValue": 1, "maxValue": most },
        "filters": { "platforms": ["IaaS", "Identity Provider"] },
    })
}
