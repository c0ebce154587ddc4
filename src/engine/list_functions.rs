//! The function that tests texts against a value list of rules.

use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::prelude::SessionContext;

use super::functions::{register_text_function, truths};
use crate::rule::value_lists::ValueList;
use crate::sql::predicate::IN_VALUE_LIST;

/// Registers `in_value_list(text, key)`.
pub(super) fn register(context: &SessionContext) {
    register_text_function(context, IN_VALUE_LIST, 1, DataType::Boolean, |texts, constants| {
        let key = constants.first().copied().unwrap_or_default();
        match ValueList::loaded(key) {
            Some(list) => truths(&texts, |text| list.contains(text)),
            None => {
                exec_err!("the value list `{key}` is not loaded: only a hunt of a rule that uses it has its values")
            }
        }
    });
}
