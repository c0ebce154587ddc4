//! Which rules a run uses: the shipped ones, or those in files and folders.

use std::path::{Path, PathBuf};

use super::{Rule, panther};
use crate::error::Error;
use crate::store;

/// The rules that come with the program, by path and text.
const SHIPPED: &[(&str, &str)] = &[(
    "rules/aws_cloudtrail_unsuccessful_mfa_attempt.yml",
    include_str!("../../rules/aws_cloudtrail_unsuccessful_mfa_attempt.yml"),
)];

/// What was chosen, and what to tell the user about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// The rules, by id.
    pub rules: Vec<Rule>,
    /// Notices, such as that a named rule is disabled.
    pub notices: Vec<String>,
}

/// The rules that come with the program.
pub fn shipped() -> Result<Vec<Rule>, Error> {
    SHIPPED.iter().map(|(name, text)| panther::parse(name, text)).collect()
}

/// Chooses rules: from `paths` (files and folders), or the shipped ones where there are none; of
/// those the ones with an id in `ids`, or all where there are none. What is named, as a file or by
/// id, is chosen even where it is disabled; of a folder, only what is enabled.
pub fn choose(paths: &[PathBuf], ids: &[String]) -> Result<Choice, Error> {
    let found = find(paths)?;
    for id in ids {
        if !found.iter().any(|(rule, _)| rule.id == *id) {
            let known = found.iter().map(|(rule, _)| format!("`{}`", rule.id)).collect::<Vec<_>>().join(", ");
            return Err(Error::Usage {
                message: format!("there is no rule `{id}`"),
                hint: Some(format!("there are {known}")),
            });
        }
    }
    let mut choice = Choice::default();
    for (rule, named_by_file) in found {
        let named = named_by_file || ids.contains(&rule.id);
        if (ids.is_empty() || ids.contains(&rule.id)) && (rule.enabled || named) {
            if !rule.enabled {
                choice.notices.push(format!("the rule `{}` is disabled; it runs because it was named", rule.id));
            }
            choice.rules.push(rule);
        }
    }
    if choice.rules.is_empty() {
        return Err(Error::Usage {
            message: "there are no rules to run".to_owned(),
            hint: Some("name a folder with enabled rules, a rule file, or leave `--rules` out".to_owned()),
        });
    }
    Ok(choice)
}

/// All rules of `paths`, or the shipped ones where there are none, disabled ones included.
pub fn all(paths: &[PathBuf]) -> Result<Vec<Rule>, Error> {
    Ok(find(paths)?.into_iter().map(|(rule, _)| rule).collect())
}

/// The rules by id, each with whether its file was named.
fn find(paths: &[PathBuf]) -> Result<Vec<(Rule, bool)>, Error> {
    let mut found: Vec<(Rule, bool)> = Vec::new();
    if paths.is_empty() {
        found.extend(shipped()?.into_iter().map(|rule| (rule, false)));
    }
    for path in paths {
        if path.is_dir() {
            for file in rule_files(path)? {
                found.push((read(&file)?, false));
            }
        } else {
            found.push((read(path)?, true));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    match found.windows(2).find(|pair| pair[0].0.id == pair[1].0.id) {
        Some(twice) => Err(Error::usage(format!("the rule `{}` is there twice", twice[0].0.id))),
        None => Ok(found),
    }
}

fn read(path: &Path) -> Result<Rule, Error> {
    panther::parse(&path.display().to_string(), &store::read_text(path)?)
}

fn rule_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let found = store::find(&folder.display().to_string())?;
    if let Some(fault) = found.faults.first() {
        return Err(Error::usage(format!("a rule cannot be read: {fault}")));
    }
    let is_yaml = |path: &PathBuf| {
        let end = path.extension().unwrap_or_default();
        end.eq_ignore_ascii_case("yml") || end.eq_ignore_ascii_case("yaml")
    };
    Ok(found.objects.into_iter().map(|object| object.path).filter(is_yaml).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_file_is_shipped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
        let files: Vec<String> = rule_files(&folder)
            .unwrap()
            .iter()
            .map(|path| path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string())
            .collect();
        let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, shipped);
    }
}
