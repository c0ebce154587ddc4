//! Checks that the files of a table have the columns that rules ask for.

use std::collections::BTreeSet;

use super::{OpenedTable, identity};
use crate::error::Error;
use crate::rule::Rule;
use crate::statistics::number_of;

impl OpenedTable {
    /// Returns the members that decide who acted and that `userIdentity` lacks in some of the files.
    pub(super) fn identity_lacks(&self) -> BTreeSet<&'static str> {
        self.parts.iter().flat_map(|part| identity::lacking(&part.layout, part.schema.table_schema())).collect()
    }

    /// Returns the names of the layouts, with the number of files in each.
    pub(super) fn layouts(&self) -> Vec<(String, usize)> {
        let mut layouts: Vec<(String, usize)> = Vec::new();
        for part in &self.parts {
            match layouts.iter_mut().find(|(name, _)| *name == part.layout.name) {
                Some((_, count)) => *count += part.files.len(),
                None => layouts.push((part.layout.name.clone(), part.files.len())),
            }
        }
        layouts
    }

    /// Checks that some of the files have the fields that decide whether `rule` matches, unless there are no files.
    ///
    /// # Errors
    /// No file has one of them.
    pub fn check(&self, rule: &Rule) -> Result<(), Error> {
        let mut refusal = Ok(());
        for part in self.parts.iter().rev() {
            refusal = part.layout.check(rule, &part.missing);
            if refusal.is_ok() {
                return Ok(());
            }
        }
        refusal
    }

    /// Returns one sentence for each kind of file that lacks fields that `rules` ask for and other files have.
    pub(super) fn unanswered(&self, rules: &[Rule]) -> Vec<String> {
        let total: usize = self.parts.iter().map(|part| part.files.len()).sum();
        let mut notes = Vec::new();
        for part in &self.parts {
            for shape in &part.shapes {
                let (mut fields, mut asking) = (BTreeSet::new(), 0_usize);
                for rule in rules {
                    let unanswered = part.layout.unanswered(rule, &shape.missing);
                    asking += usize::from(!unanswered.is_empty());
                    fields.extend(unanswered);
                }
                if asking > 0 {
                    let fields = fields.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
                    notes.push(format!(
                        "{} of {total} files, such as `{}` (layout {}), lack {fields}: their records cannot match {}",
                        shape.count,
                        shape.example.display(),
                        part.layout.name,
                        number_of(asking, "rule"),
                    ));
                }
            }
        }
        notes
    }
}
