//! `python(function, code, default, columns, column, …)`: what a function of a rule in Python gives for a record, as text. With
//! `?` after its name, it says whether the function cannot be evaluated.
//!
//! The code is text in the query, so a query says all that it computes, and the nodes of a cluster know it. It is read as
//! [`crate::rule::python`] reads rules. Nothing of it is executed.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringBuilder};
use arrow::compute;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;

use super::functions::constant;
use crate::event::{self, ColumnKind};
use crate::rule::python::event::{Json, JsonObject};
use crate::rule::python::{self, EntryPoint, Evaluator, FunctionResult, MATCHED};
use crate::time::Instant;

/// The log type that Panther gives CloudTrail records.
const LOG_TYPE: (&str, &str) = ("p_log_type", "AWS.CloudTrail");
/// The time of an event in Panther.
const EVENT_TIME: &str = "p_event_time";

pub(super) fn register(context: &SessionContext) {
    context.register_udf(ScalarUDF::from(Python { signature: Signature::variadic_any(Volatility::Immutable) }));
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Python {
    signature: Signature,
}

impl ScalarUDFImpl for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [function, code, default, names, columns @ ..] = arguments.args.as_slice() else {
            return exec_err!("python: a function, its code, a default and names of columns are expected");
        };
        let text = |argument| constant("python", argument);
        let [function, code, default, names] = [text(function)?, text(code)?, text(default)?, text(names)?];
        let (name, asks_if_undecided) = match function.strip_suffix('?') {
            Some(name) => (name, true),
            None => (function, false),
        };
        let Some(entry) = EntryPoint::named(name) else {
            return exec_err!("python: there is no function `{function}`");
        };
        let evaluator = python::evaluator_of_text(entry, code).map_err(|reason| {
            DataFusionError::Execution(format!("python: the code of `{function}` cannot be read: {reason}"))
        })?;
        let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        if names.len() != columns.len() {
            return exec_err!("python: {} names are given for {} columns", names.len(), columns.len());
        }
        let rows = arguments.number_rows;
        let columns = names.iter().zip(columns).map(|(name, column)| EventColumn::new(name, &column.to_array(rows)?));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let default = Some(default).filter(|default| !default.is_empty());
        let mut values = StringBuilder::with_capacity(rows, 0);
        for row in 0..rows {
            let result = evaluator.evaluate(&event(&columns, row));
            let value = if asks_if_undecided {
                matches!(result, FunctionResult::Stopped(_)).then(|| MATCHED.to_owned())
            } else {
                value(&evaluator, result)
            };
            values.append_option(value.as_deref().or(default));
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }
}

fn value(evaluator: &Rc<Evaluator>, result: FunctionResult) -> Option<String> {
    match result {
        FunctionResult::Text(text) => Some(text),
        FunctionResult::Nothing | FunctionResult::Raised(_) => None,
        FunctionResult::Stopped(reason) => {
            tracing::debug!("a function of a rule in Python cannot be evaluated for an event: {reason}");
            // An event must not escape a rule by its size.
            evaluator.decides_matches().then(|| MATCHED.to_owned())
        }
    }
}

/// A column of records, as a field of events.
struct EventColumn {
    name: Arc<str>,
    values: Values,
}

enum Values {
    Text(ArrayRef),
    Flag(ArrayRef),
    Json(ArrayRef),
    Time(ArrayRef),
    TimeText(ArrayRef),
    Others(ArrayRef),
}

impl EventColumn {
    fn new(name: &str, column: &ArrayRef) -> Result<EventColumn> {
        let cast = |data_type: &DataType| compute::cast(column, data_type);
        let values = match name {
            event::EVENT_TIME => Values::Time(cast(&event::time_type())?),
            event::EVENT_TIME_TEXT => Values::TimeText(cast(&DataType::Utf8)?),
            event::OTHER_FIELDS => Values::Others(cast(&DataType::Utf8)?),
            name => match event::TOP_LEVEL.iter().find(|(known, _)| *known == name) {
                Some((_, ColumnKind::Text)) => Values::Text(cast(&DataType::Utf8)?),
                Some((_, ColumnKind::Json)) => Values::Json(cast(&DataType::Utf8)?),
                Some((_, ColumnKind::Flag)) => Values::Flag(cast(&DataType::Boolean)?),
                None => return exec_err!("python: there is no column `{name}`"),
            },
        };
        Ok(EventColumn { name: name.into(), values })
    }
}

fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    let column = column.as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

/// Returns the event in a row of columns, with what Panther adds to every event.
fn event(columns: &[EventColumn], row: usize) -> Json {
    let mut members: Vec<(Arc<str>, Json)> = Vec::with_capacity(columns.len() + 2);
    let mut others = None;
    let mut time = None;
    for EventColumn { name, values } in columns {
        let value = match values {
            Values::Text(column) => text(column, row).map(|text| Json::Text(text.into())),
            Values::Json(column) => match text(column, row) {
                Some(json) => Json::parse(json),
                None => event::ALWAYS_WRITTEN.contains(&&**name).then_some(Json::Null),
            },
            Values::Flag(column) => {
                let column = column.as_boolean();
                column.is_valid(row).then(|| Json::Bool(column.value(row)))
            }
            Values::Time(column) => {
                let column = column.as_primitive::<TimestampMicrosecondType>();
                time = column.is_valid(row).then(|| Instant::from_micros(column.value(row)));
                None
            }
            Values::TimeText(column) => {
                let given = text(column, row).map(str::to_owned);
                let given = given.or_else(|| time.map(|time| time.to_string()));
                given.map(|text| Json::Text(text.into()))
            }
            Values::Others(column) => {
                others = text(column, row).and_then(Json::parse);
                None
            }
        };
        if let Some(value) = value {
            let is_time = matches!(values, Values::TimeText(_));
            members.push((if is_time { event::EVENT_TIME.into() } else { Arc::clone(name) }, value));
        }
    }
    if let Some(Json::Object(others)) = others {
        members.extend(others.members.iter().cloned());
    }
    let has = |members: &[(Arc<str>, Json)], name: &str| members.iter().any(|(known, _)| **known == *name);
    if !has(&members, LOG_TYPE.0) {
        members.push((LOG_TYPE.0.into(), Json::Text(LOG_TYPE.1.into())));
    }
    if let Some(time) = time
        && !has(&members, EVENT_TIME)
    {
        let text = time.with_micros().replace('T', " ").replace('Z', "");
        members.push((EVENT_TIME.into(), Json::Text(text.into())));
    }
    Json::Object(Arc::new(JsonObject { members }))
}
