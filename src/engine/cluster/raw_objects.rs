//! Raw objects on a cluster: executors read, decode and match whole objects.
//!
//! A row of the plan is a bundle of objects. The function `match_objects` returns the matches in them and a report of what was
//! read, as a list of exchanged rows. It is asynchronous, so a cancelled query frees its thread while a store does not answer.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray as _, ListArray, RecordBatch, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::{exec_err, internal_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlanBuilder, Partitioning, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::prelude::{SessionContext, ident};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::exchange::{self, KEY, REPORT, ROW, Report, external, json};
use super::matches;
use crate::engine::compiled::CompiledCache;
use crate::engine::match_batch::MatchSchema;
use crate::engine::matcher::{Matcher, Tests};
use crate::engine::raw_table::RawScans;
use crate::engine::{Engine, EventSelection, functions};
use crate::event::{self, batch::BatchBuilder};
use crate::sql::expression::Expression;
use crate::sql::match_spec::MatchSpec;
use crate::sql::selection;
use crate::statistics::ScanStatistics;
use crate::store::{Object, ReadSettings, Stores};
use crate::trail::text_condition::TextCondition;
use crate::trail::{DecodeOptions, Decoder, Prefilter};

/// Stored bytes and objects of one bundle, at most. A task decodes one bundle at a time.
const BUNDLE_BYTES: u64 = 4 << 20;
const BUNDLE_OBJECTS: usize = 128;

static MATCHERS: CompiledCache<ObjectMatcher> = CompiledCache::new();

/// What `match_objects` does with objects.
#[derive(Serialize, Deserialize)]
struct Instructions {
    rules: MatchSpec,
    /// The condition for the selected accounts and regions.
    selected: Expression,
    prefilter: Vec<TextCondition>,
    max_object: usize,
    max_record: usize,
    unwrap: Vec<String>,
    in_flight: usize,
}

/// Returns the matches of `rules` in the objects of `raw` as exchanged rows; `None` if there are no objects.
///
/// # Errors
/// The name of an object is not UTF-8.
pub(super) fn matched(
    context: &SessionContext,
    engine: &Engine,
    raw: &RawScans,
    rules: &MatchSpec,
) -> Result<Option<DataFrame>> {
    let bundles = bundles(&raw.trail().objects)?;
    if bundles.is_empty() { Ok(None) } else { rows(context, bundles, &instructions(engine, raw, rules)).map(Some) }
}

fn instructions(engine: &Engine, raw: &RawScans, rules: &MatchSpec) -> Instructions {
    let settings = raw.trail().stores.read_settings();
    let EventSelection { accounts, regions } = &engine.selection;
    Instructions {
        rules: rules.clone(),
        selected: selection::condition(accounts, regions),
        prefilter: raw.prefilter().rules().to_vec(),
        max_object: settings.max_object,
        max_record: settings.max_record,
        unwrap: settings.unwrap.iter().map(ToString::to_string).collect(),
        in_flight: raw.in_flight(),
    }
}

/// Returns the bundles of `objects`, each as JSON.
fn bundles(objects: &[Object]) -> Result<Vec<String>> {
    let mut bundles = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, object) in objects.iter().enumerate() {
        if index > start && (bytes + object.size > BUNDLE_BYTES || index - start >= BUNDLE_OBJECTS) {
            bundles.push(json(&&objects[start..index])?);
            (start, bytes) = (index, 0);
        }
        bytes += object.size;
    }
    if start < objects.len() {
        bundles.push(json(&&objects[start..])?);
    }
    Ok(bundles)
}

/// Returns the matches in the objects in `bundles`, and a report for each bundle.
fn rows(context: &SessionContext, bundles: Vec<String>, instructions: &Instructions) -> Result<DataFrame> {
    let rows = bundles.into_iter().map(|bundle| vec![lit(bundle)]).collect();
    let bundles = LogicalPlanBuilder::values(rows)?.project(vec![ident("column1").alias("bundle")])?.build()?;
    let partitions = context.state().config().target_partitions();
    let matches = function(Stores::default()).call(vec![lit(json(instructions)?), ident("bundle")]);
    let column = |name: &str| get_field(ident("objects"), name).alias(name);
    DataFrame::new(context.state(), bundles)
        .repartition(Partitioning::Hash(vec![ident("bundle")], partitions))?
        .select(vec![matches.alias("objects")])?
        .unnest_columns(&["objects"])?
        .select([KEY, ROW, REPORT].map(column).to_vec())
}

/// Makes `match_objects` known to a session whose node reads from `stores`.
pub(super) fn register(context: &SessionContext, stores: &Stores) {
    context.register_udf(function(stores.clone()));
}

fn function(stores: Stores) -> ScalarUDF {
    let signature = Signature::any(2, Volatility::Stable);
    AsyncScalarUDF::new(Arc::new(MatchObjects { stores, signature })).into_scalar_udf()
}

/// `match_objects(instructions, bundle)`: the matches in a bundle of objects, and what was read.
#[derive(Debug)]
struct MatchObjects {
    stores: Stores,
    signature: Signature,
}

impl PartialEq for MatchObjects {
    fn eq(&self, _: &MatchObjects) -> bool {
        // A process has one store configuration.
        true
    }
}

impl Eq for MatchObjects {}

impl Hash for MatchObjects {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for MatchObjects {
    fn name(&self) -> &'static str {
        "match_objects"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the rules")
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        let Some(Some(ScalarValue::Utf8(Some(text)))) = arguments.scalar_arguments.first() else {
            return plan_err!("the instructions must be a literal");
        };
        let instructions: Instructions = exchange::parse(text)?;
        let item = result_item(MatchSchema::new(&instructions.rules).arrow());
        Ok(Arc::new(Field::new(self.name(), DataType::List(item), false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("objects are read asynchronously")
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for MatchObjects {
    fn ideal_batch_size(&self) -> Option<usize> {
        Some(1)
    }

    async fn invoke_async_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [instructions, bundles] = arguments.args.as_slice() else {
            return exec_err!("match_objects takes two arguments");
        };
        let instructions = instructions.to_array(1)?;
        let instructions = instructions.as_string::<i32>().value(0);
        let matcher = MATCHERS.get(instructions, || ObjectMatcher::new(instructions))?;
        let bundles = bundles.to_array(arguments.number_rows)?;
        let schema = matcher.matcher.schema().arrow();
        let (mut lengths, mut items) = (Vec::new(), Vec::new());
        for bundle in bundles.as_string::<i32>().iter().flatten() {
            let (batches, statistics) = matcher.read(&self.stores, exchange::parse(bundle)?).await?;
            let report = Report::Objects { times: statistics.times, statistics: Box::new(statistics) };
            let start = items.len();
            for batch in batches {
                items.push(exchange::rows(matches::keys(&batch)?, batch)?);
            }
            items.push(exchange::reports(schema.fields(), &[report])?);
            lengths.push(items[start..].iter().map(RecordBatch::num_rows).sum());
        }
        let items = StructArray::from(compute::concat_batches(&exchange::schema(schema.fields()), &items)?);
        let lists =
            ListArray::try_new(result_item(schema), OffsetBuffer::from_lengths(lengths), Arc::new(items), None)?;
        Ok(ColumnarValue::Array(Arc::new(lists)))
    }
}

/// The items of the list that `match_objects` returns for a bundle.
fn result_item(schema: &Schema) -> FieldRef {
    let row = exchange::schema(schema.fields());
    Arc::new(Field::new("item", DataType::Struct(row.fields().clone()), false))
}

/// Reads and matches objects by some [`Instructions`].
struct ObjectMatcher {
    settings: ReadSettings,
    prefilter: Prefilter,
    in_flight: usize,
    conditions: Tests,
    matcher: Matcher,
}

impl ObjectMatcher {
    fn new(instructions: &str) -> Result<ObjectMatcher> {
        let Instructions { rules, selected, prefilter, max_object, max_record, unwrap, in_flight } =
            exchange::parse(instructions)?;
        let unwrap = unwrap.iter().map(|path| path.parse().map_err(external)).collect::<Result<_>>()?;
        let schema: SchemaRef = event::schema();
        let conditions = rules.conditions.iter().cloned().chain([selected]).collect();
        Ok(ObjectMatcher {
            settings: ReadSettings { max_object, max_record, unwrap },
            prefilter: Prefilter::new(prefilter),
            in_flight: in_flight.max(1),
            conditions: Tests::new(&*functions::REGISTRY, &[Expression::all(conditions)], &schema)?,
            matcher: Matcher::new(&rules, &*functions::REGISTRY, &schema)?,
        })
    }

    /// Returns what the rules match in `objects`, and the statistics.
    async fn read(&self, stores: &Stores, objects: Vec<Object>) -> Result<(Vec<RecordBatch>, ScanStatistics)> {
        let mut fetched =
            stream::iter(objects).map(async |object| (stores.read(&object).await, object)).buffered(self.in_flight);
        let (mut matches, mut total) = (Vec::new(), ScanStatistics::default());
        let mut decoder = Decoder::new(BatchBuilder::default());
        while let Some((bytes, object)) = fetched.next().await {
            let options = DecodeOptions { prefilter: &self.prefilter, hash_records: false };
            let bytes = bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            total.add(decoder.decode(&object, bytes, &self.settings, options));
            self.add_matches(decoder.take_batches().map_err(external)?, &mut matches)?;
        }
        decoder.finish_batch();
        self.add_matches(decoder.take_batches().map_err(external)?, &mut matches)?;
        Ok((matches, total))
    }

    /// Adds what the rules match in `batches` to `matches`.
    fn add_matches(&self, batches: Vec<RecordBatch>, matches: &mut Vec<RecordBatch>) -> Result<()> {
        for batch in batches {
            let selected = compute::filter_record_batch(&batch, &self.conditions.any(&batch)?)?;
            if selected.num_rows() > 0 {
                matches.extend(self.matcher.schema().matches_in(&self.matcher.evaluate(&selected)?)?);
            }
        }
        Ok(())
    }
}
