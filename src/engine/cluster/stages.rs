//! Stages of a plan that are functions of ours: each takes all exchanged rows of a partition.
//!
//! A plan names a stage by its settings, as JSON. Each node has the function itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Fields;
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, InputDistributionRequirements, PlanProperties,
};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::Expr;
use futures::stream::BoxStream;

use super::exchange::{self, KEY};
use crate::engine::Engine;

/// The functions that a node runs as stages. A stage is given by its settings, as JSON.
pub trait Stages: fmt::Debug + Send + Sync {
    /// Returns the columns of the rows that `stage` returns.
    ///
    /// # Errors
    /// The settings are not known.
    fn row(&self, stage: &str) -> Result<Fields>;

    /// Runs `stage` over all exchanged rows of a partition, and returns exchanged rows.
    ///
    /// # Errors
    /// The settings are not known.
    fn run(
        &self,
        stage: &str,
        engine: Engine,
        rows: SendableRecordBatchStream,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>>;
}

/// Returns `rows` with one more stage.
///
/// # Errors
/// The settings are not known.
pub(super) fn with_stage(rows: DataFrame, stages: &dyn Stages, stage: String) -> Result<DataFrame> {
    let (session, input) = rows.into_parts();
    let node = StageNode::new(stages, stage, input)?;
    Ok(DataFrame::new(session, LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

/// A stage in a logical plan.
#[derive(Debug)]
pub(super) struct StageNode {
    pub(super) stage: String,
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl StageNode {
    /// Returns the node of a stage.
    ///
    /// # Errors
    /// The settings are not known.
    pub(super) fn new(stages: &dyn Stages, stage: String, input: LogicalPlan) -> Result<StageNode> {
        let schema = exchange::schema(&stages.row(&stage)?);
        Ok(StageNode { stage, input, schema: Arc::new(DFSchema::try_from(schema)?) })
    }
}

impl PartialEq for StageNode {
    fn eq(&self, other: &StageNode) -> bool {
        (&self.stage, &self.input) == (&other.stage, &other.input)
    }
}

impl Eq for StageNode {}

impl Hash for StageNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.stage, &self.input).hash(state);
    }
}

impl PartialOrd for StageNode {
    fn partial_cmp(&self, other: &StageNode) -> Option<Ordering> {
        (&self.stage, &self.input).partial_cmp(&(&other.stage, &other.input))
    }
}

impl UserDefinedLogicalNodeCore for StageNode {
    fn name(&self) -> &'static str {
        "Stage"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stage")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<StageNode> {
        let Some(input) = inputs.pop() else {
            return internal_err!("a stage has no input");
        };
        Ok(StageNode { stage: self.stage.clone(), input, schema: Arc::clone(&self.schema) })
    }
}

/// Plans queries that have stages.
#[derive(Debug)]
pub(super) struct StagePlanner {
    pub(super) stages: Arc<dyn Stages>,
}

#[async_trait]
impl QueryPlanner for StagePlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let extension = Arc::new(StagePlanner { stages: Arc::clone(&self.stages) });
        DefaultPhysicalPlanner::with_extension_planners(vec![extension]).create_physical_plan(plan, session).await
    }
}

#[async_trait]
impl ExtensionPlanner for StagePlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn datafusion::catalog::Session,
        _: &datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<StageNode>(), inputs) else {
            return Ok(None);
        };
        Ok(Some(Arc::new(StageExec::new(Arc::clone(&self.stages), node.stage.clone(), Arc::clone(input))?)))
    }
}

/// A stage in a physical plan.
#[derive(Debug)]
pub(super) struct StageExec {
    stages: Arc<dyn Stages>,
    pub(super) stage: String,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl StageExec {
    /// Returns the plan of a stage.
    ///
    /// # Errors
    /// The settings are not known.
    pub(super) fn new(stages: Arc<dyn Stages>, stage: String, input: Arc<dyn ExecutionPlan>) -> Result<StageExec> {
        let schema = exchange::schema(&stages.row(&stage)?);
        let partitions = input.properties().output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(StageExec { stages, stage, input, properties: Arc::new(properties) })
    }
}

impl DisplayAs for StageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stage")
    }
}

impl ExecutionPlan for StageExec {
    fn name(&self) -> &'static str {
        "Stage"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let key = self.input.schema().index_of(KEY).unwrap_or_default();
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new(KEY, key));
        InputDistributionRequirements::new(vec![Distribution::KeyPartitioned(vec![key])])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else {
            return internal_err!("a stage has no input");
        };
        Ok(Arc::new(StageExec::new(Arc::clone(&self.stages), self.stage.clone(), input)?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.properties.output_partitioning().partition_count();
        let engine = Engine::of_task(&context, partitions)?;
        let rows = self.stages.run(&self.stage, engine, self.input.execute(partition, context)?)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
