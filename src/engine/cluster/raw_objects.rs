//! Raw objects on a cluster: executors read, decode and match whole objects.
//!
//! A row of the plan is a bundle of objects. The function `match_objects` returns the matches in them and the statistics of
//! what was read. It is asynchronous, so a cancelled query frees its thread while a store does not answer.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::{exec_err, internal_err, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, LogicalPlanBuilder, Partitioning, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SessionContext, ident};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::Cluster;
use crate::engine::compiled::CompiledCache;
use crate::engine::match_batch::MatchSchema;
use crate::engine::matcher::{Matcher, Tests};
use crate::engine::raw_table::RawScans;
use crate::engine::{Engine, EventSelection, functions};
use crate::event;
use crate::sql::expression::Expression;
use crate::sql::match_spec::MatchSpec;
use crate::sql::selection;
use crate::statistics::ScanStatistics;
use crate::store::{Object, ReadSettings, Stores};
use crate::time::Instant;
use crate::trail::{self, DecodeOptions, DecodedObject, Prefilter};

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
    prefilter: Vec<Vec<Vec<String>>>,
    max_object: usize,
    max_record: usize,
    unwrap: Vec<String>,
    in_flight: usize,
}

/// Statistics as they travel.
#[derive(Serialize, Deserialize)]
struct BundleStatistics {
    statistics: ScanStatistics,
    times: Option<(Instant, Instant)>,
}

/// Matches the objects of `raw` on `cluster`, and hands the statistics to it. Returns batches of one struct column.
///
/// # Errors
/// The name of an object is not UTF-8, the cluster does not answer, or the matches take more than the budget.
pub(in crate::engine) async fn streams(
    engine: &Engine,
    cluster: &Cluster,
    raw: &RawScans,
    rules: &MatchSpec,
) -> Result<Vec<SendableRecordBatchStream>> {
    let context = engine.session_of_tables()?;
    let bundles = bundles(&raw.trail().objects)?;
    if bundles.is_empty() {
        raw.set_remote_statistics(ScanStatistics::default());
        return Ok(Vec::new());
    }
    let plan = plan(&context, bundles, &instructions(engine, raw, rules)).await?;
    let (matches, statistics) = results(&cluster.rows(plan, context.task_ctx(), engine.memory).await?)?;
    raw.set_remote_statistics(statistics);
    let schema = matches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
    Ok(vec![super::stream(schema, matches)])
}

fn instructions(engine: &Engine, raw: &RawScans, rules: &MatchSpec) -> Instructions {
    let settings = raw.trail().stores.read_settings();
    let EventSelection { accounts, regions } = &engine.selection;
    Instructions {
        rules: rules.clone(),
        selected: selection::condition(accounts, regions),
        prefilter: raw.prefilter().words(),
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

/// Returns the plan that matches the objects in `bundles`.
async fn plan(
    context: &SessionContext,
    bundles: Vec<String>,
    instructions: &Instructions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let rows = bundles.into_iter().map(|bundle| vec![lit(bundle)]).collect();
    let bundles = LogicalPlanBuilder::values(rows)?.project(vec![ident("column1").alias("bundle")])?.build()?;
    let partitions = context.state().config().target_partitions();
    let matches = function(Stores::default()).call(vec![lit(json(instructions)?), ident("bundle")]);
    DataFrame::new(context.state(), bundles)
        .repartition(Partitioning::Hash(vec![ident("bundle")], partitions))?
        .select(vec![matches.alias("objects")])?
        .create_physical_plan()
        .await
}

/// Returns the matches in the rows of [`plan`], each batch as one struct column, and the statistics of all objects.
fn results(rows: &[RecordBatch]) -> Result<(Vec<RecordBatch>, ScanStatistics)> {
    let (mut matches, mut total) = (Vec::new(), ScanStatistics::default());
    for batch in rows {
        let Some(objects) = batch.column(0).as_struct_opt() else {
            return internal_err!("the matches of objects are not a struct");
        };
        let (lists, statistics) = (objects.column(0).as_list::<i32>(), objects.column(1).as_string::<i32>());
        for (list, text) in lists.iter().zip(statistics) {
            if let Some(list) = list.filter(|list| !list.is_empty()) {
                matches.push(RecordBatch::try_from_iter([("match", list)])?);
            }
            let text = text.unwrap_or_default();
            let BundleStatistics { statistics, times } = serde_json::from_str(text).map_err(external)?;
            total.add(ScanStatistics { times, ..statistics });
        }
    }
    Ok((matches, total))
}

/// Makes `match_objects` known to a session whose node reads from `stores`.
pub(in crate::engine) fn register(context: &SessionContext, stores: &Stores) {
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
        let instructions: Instructions = serde_json::from_str(text).map_err(external)?;
        let fields = result_fields(MatchSchema::new(&instructions.rules).arrow());
        Ok(Arc::new(Field::new(self.name(), DataType::Struct(fields), false)))
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
        let (mut lengths, mut matches, mut statistics) = (Vec::new(), Vec::new(), Vec::new());
        for bundle in bundles.as_string::<i32>().iter().flatten() {
            let (batches, read) = matcher.read(&self.stores, serde_json::from_str(bundle).map_err(external)?).await?;
            lengths.push(batches.iter().map(RecordBatch::num_rows).sum());
            matches.extend(batches);
            statistics.push(json(&BundleStatistics { times: read.times, statistics: read })?);
        }
        let schema = matcher.matcher.schema().arrow();
        let matches = StructArray::from(compute::concat_batches(schema, &matches)?);
        let fields = result_fields(schema);
        let DataType::List(item) = fields[0].data_type() else {
            return internal_err!("matches are not a list");
        };
        let offsets = OffsetBuffer::from_lengths(lengths);
        let lists = ListArray::try_new(Arc::clone(item), offsets, Arc::new(matches), None)?;
        let columns: Vec<ArrayRef> = vec![Arc::new(lists), Arc::new(StringArray::from(statistics))];
        Ok(ColumnarValue::Array(Arc::new(StructArray::try_new(fields, columns, None)?)))
    }
}

/// The fields of what `match_objects` returns.
fn result_fields(schema: &Schema) -> Fields {
    let item = Field::new("item", DataType::Struct(schema.fields().clone()), false);
    Fields::from(vec![
        Field::new("matches", DataType::List(Arc::new(item)), false),
        Field::new("statistics", DataType::Utf8, false),
    ])
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
            serde_json::from_str(instructions).map_err(external)?;
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
        while let Some((bytes, object)) = fetched.next().await {
            let options = DecodeOptions { prefilter: &self.prefilter, hash_records: false };
            let bytes = bytes.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            let DecodedObject { batches, statistics, .. } =
                trail::decode(&object, bytes, &self.settings, options).map_err(external)?;
            total.add(statistics);
            for batch in batches {
                let selected = compute::filter_record_batch(&batch, &self.conditions.any(&batch)?)?;
                if selected.num_rows() > 0 {
                    matches.extend(self.matcher.schema().matches_in(&self.matcher.evaluate(&selected)?)?);
                }
            }
        }
        Ok((matches, total))
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(external)
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
