//! Conditions on value lists.

use super::super::value_lists::ValueListError;
use super::super::yaml::YamlNode;
use super::super::{Predicate, Test};
use super::{Condition, MappingMembers, Reach, Reader, Scope};
use crate::error::Error;
use crate::event::{ColumnKind, FieldLocation};

use Condition::{In, Network};

impl Reader<'_> {
    /// Returns a test against a value list, which `Values: {List: name}` names.
    pub(super) fn listed(
        &mut self,
        members: &MappingMembers<'_>,
        values: &YamlNode,
        (name, condition, negated): (&str, Condition, bool),
        scope: Scope,
    ) -> Result<Predicate, Error> {
        if !matches!(condition, In | Network(_)) || members.get("Value").is_some() {
            return self.error(values.mark, &format!("`{name}` takes no list of values"));
        }
        let Some(list) = self.members(values, "`Values`", &["List"])?.get("List") else {
            return self.error(values.mark, "`Values` is a list of values, or names a value list: `{List: name}`");
        };
        let list_name = self.text(list, "`List`")?;
        let failed = |error: ValueListError| self.source.error(list.mark, &error.to_string());
        let test = match condition {
            Network(Reach::One) => Test::WithinList(self.value_lists.networks(&list_name).map_err(failed)?),
            Network(Reach::Any) => Test::AnyWithinList(self.value_lists.networks(&list_name).map_err(failed)?),
            _ => Test::InList(self.value_lists.names(&list_name).map_err(failed)?),
        };
        let field = self.key(members, scope)?;
        match field.location() {
            Some(FieldLocation::Time) => {
                self.error(values.mark, "`eventTime` is in no list: an exception has `From` and `Until`")?;
            }
            Some(FieldLocation::Column(_, ColumnKind::Flag)) => {
                self.error(values.mark, &format!("`{field}` is a boolean: compare it with `true` or `false`"))?;
            }
            _ => {}
        }
        Ok(Predicate::Test { field, test, negated })
    }
}
