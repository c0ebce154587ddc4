//! Changes a configuration's overrides without changing its comments and formatting.

use toml_edit::{DocumentMut, Item, Table, value};

use super::Config;
use crate::error::Error;
use crate::rule::Window;

/// Returns the text of a configuration in which `rule` has the threshold and the period of `window`. `name` is its path.
///
/// # Errors
/// The text is not a configuration.
pub fn with_window(name: &str, text: &str, rule: &str, window: Window) -> Result<String, Error> {
    let invalid = |reason: &str| Error::usage(format!("invalid configuration `{name}`: {reason}"));
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| invalid(error.message()))?;
    // What follows the last key, such as comments, stays before a new table.
    let end = document.trailing().as_str().unwrap_or_default().to_owned();
    let overrides = document.entry("overrides").or_insert_with(|| {
        let mut table = Table::new();
        // It has no line of its own, only the tables in it do.
        table.set_implicit(true);
        Item::Table(table)
    });
    let Some(overrides) = overrides.as_table_like_mut() else {
        return Err(invalid("`overrides` must be a table"));
    };
    let mut is_new = false;
    let item = overrides.entry(rule).or_insert_with(|| {
        is_new = true;
        let mut table = Table::new();
        table.decor_mut().set_prefix(format!("{end}\n"));
        Item::Table(table)
    });
    let Some(settings) = item.as_table_like_mut() else {
        return Err(invalid(&format!("the override of `{rule}` must be a table")));
    };
    // The user may have written the keys in another case.
    let mut put = |name: &str, item: Item| {
        let written = settings.iter().map(|(key, _)| key).find(|key| key.eq_ignore_ascii_case(name));
        let key = written.unwrap_or(name).to_owned();
        settings.insert(&key, item);
    };
    put("Threshold", value(i64::from(window.threshold.get())));
    put("Period", value(window.period.to_string()));
    if let Some(inline) = item.as_inline_table_mut() {
        inline.fmt();
    }
    if is_new {
        document.set_trailing("");
    }
    let changed = document.to_string();
    toml::from_str::<Config>(&changed).map_err(|error| invalid(error.message()))?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nightly::config::TEMPLATE;
    use crate::rule::WindowKind;
    use crate::time::Period;

    const WINDOW: Window =
        Window { kind: WindowKind::Sliding, period: Period::HOUR, threshold: std::num::NonZeroU32::new(5).unwrap() };

    #[test]
    fn other_lines_stay_as_they_are() {
        let changed = with_window("tawny.toml", TEMPLATE, "A.b", WINDOW).unwrap();
        let added = changed.strip_prefix(TEMPLATE);
        assert!(
            added.is_some_and(|added| added.contains("[overrides.\"A.b\"]\nThreshold = 5\nPeriod = \"1h\"\n")),
            "{changed}"
        );
        let smaller = Window { threshold: std::num::NonZeroU32::MIN, ..WINDOW };
        let again = with_window("tawny.toml", &changed, "A.b", smaller).unwrap();
        assert_eq!(again, changed.replace("Threshold = 5\nPeriod", "Threshold = 1\nPeriod"));
    }

    #[test]
    fn settings_that_stand_there_are_changed_in_place() {
        let text =
            "lake = 'l' # ours\n[[source]]\npath = 'p'\n[overrides]\nA = { Threshold = 2, Severity = 'Low' } # quiet\n";
        let changed = with_window("t", text, "A", WINDOW).unwrap();
        assert!(changed.contains("Threshold = 5, Severity = 'Low', Period = \"1h\" } # quiet"), "{changed}");
        for (text, expected) in [
            ("lake = ", "invalid configuration `t`"),
            ("lake = 'l'\noverrides = 3\n", "`overrides` must be a table"),
            ("lake = 'l'\n[overrides]\nA = 3\n", "must be a table"),
            ("sauce = 1\n", "unknown field `sauce`"),
        ] {
            let error = with_window("t", text, "A", WINDOW).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
