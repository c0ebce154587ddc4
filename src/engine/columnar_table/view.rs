//! Our columns, as expressions over those of a table that another tool wrote.
//!
//! Expressions are made and typed as if all bytes in files were text. Then each column, or member of a struct, that holds
//! bytes is wrapped into the function that makes them text, so that only the wanted members are read.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::{ExprSchemable as _, ScalarUDF, cast, lit, try_cast, when};
use datafusion::prelude::{Expr, SessionContext, ident};
use datafusion::scalar::ScalarValue;

use super::columns;
use super::conversions::{FLAG, JSON_TEXT, PLAIN_TEXT, UUID_TEXT, has_json_text, has_plain_text};
use crate::engine::event_times;
use crate::event::{self, ColumnKind};
use crate::layout::{self, TableLayout};
use crate::time::Range;

/// The columns of a table, and the expressions over them that compute our columns.
pub(super) struct View<'v> {
    context: &'v SessionContext,
    layout: &'v TableLayout,
    /// The columns, with bytes where files have bytes.
    read: Schema,
    /// The same with text in place of bytes.
    texts: DFSchema,
    text_of: ScalarUDF,
}

impl<'v> View<'v> {
    pub(super) fn new(
        context: &'v SessionContext,
        layout: &'v TableLayout,
        read: &Schema,
        text_of: ScalarUDF,
    ) -> Result<View<'v>> {
        let text = |field: &Field| field.clone().with_data_type(columns::as_text(field.data_type()));
        let texts = Schema::new(read.fields().iter().map(|field| text(field)).collect::<Vec<_>>());
        Ok(View { context, layout, read: read.clone(), texts: DFSchema::try_from(texts)?, text_of })
    }

    /// Returns the expression of one of our columns; `None` if the data do not have it.
    pub(super) fn column(&self, field: &Field) -> Result<Option<Expr>> {
        self.typed_column(field)?.map(|expression| self.over_bytes(expression)).transpose()
    }

    /// Returns the names of the columns from which the time is computed.
    pub(super) fn columns_of_time(&self) -> Result<Vec<String>> {
        let times = self.sources(event::EVENT_TIME)?;
        Ok(times.iter().flat_map(Expr::column_refs).map(|column| column.name.clone()).collect())
    }

    /// Returns the expression of one of our columns. Records without a category get it from their type.
    pub(super) fn with_category(&self, expression: Expr, field: &Field) -> Result<Expr> {
        if field.name() != event::EVENT_CATEGORY {
            return Ok(expression);
        }
        let Some(event_type) = self.column(&Field::new("eventType", DataType::Utf8, true))? else {
            return Ok(expression);
        };
        let is_network_activity = event_type.eq(lit(event::NETWORK_ACTIVITY_TYPE));
        when(expression.clone().is_not_null(), expression).when(is_network_activity, lit(event::NETWORK_ACTIVITY)).end()
    }

    /// Returns a condition on the column of times, if there is only one. It holds for all records with a time in `range`.
    pub(super) fn within(&self, range: Range) -> Result<Option<Expr>> {
        let times = self.sources(event::EVENT_TIME)?;
        let [time] = times.as_slice() else {
            return Ok(None);
        };
        let condition = event_times::may_lie_in(range, time, &time.get_type(&self.texts)?);
        condition.map(|condition| self.over_bytes(condition)).transpose()
    }

    fn typed_column(&self, field: &Field) -> Result<Option<Expr>> {
        let name = field.name().as_str();
        if name == event::CONTENT_ID {
            return self.content_id();
        }
        let mut found = Vec::new();
        for expression in self.sources(name)? {
            found.extend(self.converted(expression, name, field.data_type())?);
        }
        if found.is_empty()
            && let Some((_, column, keys)) = event::HOT.iter().find(|(hot, _, _)| *hot == name)
        {
            for source in self.sources(column)? {
                found.extend(self.member(source, column, keys)?);
            }
        }
        let Some(first) = found.pop() else {
            return Ok(None);
        };
        found
            .into_iter()
            .rev()
            .try_fold(first, |rest, earlier| when(earlier.clone().is_not_null(), earlier).otherwise(rest))
            .map(Some)
    }

    /// Returns the layout's expressions for a column, or else the columns of this name.
    fn sources(&self, name: &str) -> Result<Vec<Expr>> {
        let Some(texts) = self.layout.sql(name) else {
            let wanted = layout::plain(name);
            // Files of one table may spell it differently.
            let named = self.texts.fields().iter().filter(|field| layout::plain(field.name()) == wanted);
            return Ok(named.map(|field| ident(field.name().clone())).collect());
        };
        let mut found = Vec::new();
        for text in texts {
            match self.context.parse_sql_expr(text, &self.texts) {
                Ok(expression) if expression.get_type(&self.texts).is_ok() => found.push(expression),
                Err(error) if matches!(error.find_root(), DataFusionError::SQL(..)) => return Err(error),
                // Data of this layout need not have every column or member.
                _ => {}
            }
        }
        Ok(found)
    }

    /// Converts an expression to the type of one of our columns; `None` if there is no conversion.
    fn converted(&self, expression: Expr, name: &str, wanted: &DataType) -> Result<Option<Expr>> {
        let given = expression.get_type(&self.texts)?;
        let call = |name: &str| Ok::<_, DataFusionError>(self.context.udf(name)?.call(vec![expression.clone()]));
        Ok(match (wanted, &given) {
            (DataType::Timestamp(..), given) if event_times::are_read_from(given) => {
                Some(event_times::of(self.context, expression)?)
            }
            (DataType::Boolean, DataType::Boolean) => Some(expression),
            (DataType::Boolean, DataType::Utf8) => Some(call(FLAG)?),
            (DataType::Timestamp(..) | DataType::Boolean, _) => None,
            (_, given) if given.is_nested() => {
                let is_json = event::TOP_LEVEL.iter().any(|(top, kind)| *top == name && *kind == ColumnKind::Json);
                (is_json && has_json_text(given)).then(|| call(JSON_TEXT)).transpose()?
            }
            (_, DataType::FixedSizeBinary(16)) => Some(call(UUID_TEXT)?),
            (_, number) if number.is_integer() && layout::plain(name).ends_with("accountid") => {
                let text = cast(expression, DataType::Utf8);
                Some(self.context.udf("lpad")?.call(vec![text, lit(12_i64), lit("0")]))
            }
            // Without a name a record is identified by what it says.
            (_, DataType::Utf8) if name == event::EVENT_ID => {
                Some(when(expression.clone().not_eq(lit("")), expression).end()?)
            }
            (_, DataType::Utf8) => Some(expression),
            (_, given) if given.is_integer() => Some(cast(expression, DataType::Utf8)),
            (_, given) => has_plain_text(given).then(|| call(PLAIN_TEXT)).transpose()?,
        })
    }

    /// Returns the expression of a string below a column that is a struct, a map or JSON.
    fn member(&self, source: Expr, column: &str, keys: &[&str]) -> Result<Option<Expr>> {
        let (mut expression, mut given) = (source.clone(), source.get_type(&self.texts)?);
        for key in keys {
            let DataType::Struct(fields) = &given else {
                break;
            };
            let wanted = layout::plain(key);
            let Some(field) = fields.iter().find(|field| layout::plain(field.name()) == wanted) else {
                break;
            };
            let get = self.context.udf(GET_FIELD)?;
            expression = get.call(vec![expression, lit(field.name().clone())]);
            given = field.data_type().clone();
        }
        if given == DataType::Utf8 && expression != source {
            return Ok(Some(expression));
        }
        let string_at = self.context.udf("string_at")?;
        let json = self.converted(source, column, &DataType::Utf8)?;
        Ok(json.map(|json| string_at.call(vec![json, lit(keys.join("."))])))
    }

    /// Returns the identity of a record without an `eventID`: all its text columns.
    fn content_id(&self) -> Result<Option<Expr>> {
        let mut texts = Vec::new();
        for (name, kind) in event::TOP_LEVEL {
            if *kind != ColumnKind::Flag {
                texts.extend(self.typed_column(&Field::new(*name, DataType::Utf8, true))?);
            }
        }
        let times = self.sources(event::EVENT_TIME)?;
        for time in times {
            texts.extend(self.text_of_time(time)?);
        }
        if texts.is_empty() {
            texts.push(lit(ScalarValue::Utf8(None)));
        }
        let hash = cast(self.context.udf("fingerprint")?.call(texts), DataType::Utf8);
        Ok(match self.typed_column(&Field::new(event::EVENT_ID, DataType::Utf8, true))? {
            Some(id) => Some(when(id.is_null(), hash).end()?),
            None => Some(hash),
        })
    }

    /// Returns a text that differs for different times; `None` for values that have none.
    fn text_of_time(&self, time: Expr) -> Result<Option<Expr>> {
        let given = time.get_type(&self.texts)?;
        let is_instant = matches!(given, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
        let number = is_instant.then(|| try_cast(try_cast(time.clone(), DataType::Int64), DataType::Utf8));
        let text = match &given {
            DataType::Utf8 => time,
            given if given.is_nested() && has_json_text(given) => self.context.udf(JSON_TEXT)?.call(vec![time]),
            given if !given.is_nested() && has_plain_text(given) => self.context.udf(PLAIN_TEXT)?.call(vec![time]),
            _ => return Ok(number),
        };
        // Times beyond the calendar have no text.
        number.map_or(Ok(text.clone()), |number| when(text.clone().is_not_null(), text).otherwise(number)).map(Some)
    }

    /// Rewrites an expression over text columns into one over the bytes in the files.
    fn over_bytes(&self, expression: Expr) -> Result<Expr> {
        let over_bytes = expression.transform_down(|node| {
            let Some(data_type) = self.read_type(&node) else {
                return Ok(Transformed::no(node));
            };
            let done = if columns::as_text(&data_type) == data_type { node } else { self.text_of.call(vec![node]) };
            Ok(Transformed::new(done, true, TreeNodeRecursion::Jump))
        });
        Ok(over_bytes?.data)
    }

    /// Returns the type of a column, or of a member below structs only.
    fn read_type(&self, expression: &Expr) -> Option<DataType> {
        match expression {
            Expr::Column(column) => Some(self.read.field_with_name(&column.name).ok()?.data_type().clone()),
            Expr::ScalarFunction(call) if call.func.name() == GET_FIELD => {
                let (of, names) = call.args.split_first()?;
                names.iter().try_fold(self.read_type(of)?, |data_type, name| match (data_type, name) {
                    (DataType::Struct(fields), Expr::Literal(name, _)) => member_type(&fields, name.try_as_str()??),
                    _ => None,
                })
            }
            _ => None,
        }
    }
}

/// Calls DataFusion's function for a member of a struct or a map.
const GET_FIELD: &str = "get_field";

fn member_type(fields: &Fields, name: &str) -> Option<DataType> {
    fields.iter().find(|field| field.name() == name).map(|field| field.data_type().clone())
}
