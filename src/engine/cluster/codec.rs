//! Messages between the nodes of a cluster: tables of Parquet files as the list of them, and stages by their settings.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::catalog::TableProvider;
use datafusion::common::{TableReference, internal_err};
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use super::exchange::external;
use super::stages::{StageExec, StageNode, Stages};
use crate::engine::parquet_table::ParquetTable;

/// A table in a plan that is sent to nodes.
#[derive(Debug, Serialize, Deserialize)]
struct EncodedTable {
    /// The store, as the engine names it.
    url: String,
    /// Number of the last columns whose values are in the paths of the files.
    partition_columns: usize,
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    key: String,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<Option<String>>,
}

/// A stage in a plan that is sent to nodes.
#[derive(Debug, Serialize, Deserialize)]
struct EncodedStage {
    stage: String,
}

impl EncodedStage {
    /// Returns the stage in a message; `None` for other messages. Ballista's messages are protocol buffers, which never begin
    /// with a brace.
    fn parse(message: &[u8]) -> Result<Option<EncodedStage>> {
        if message.first() == Some(&b'{') {
            serde_json::from_slice(message).map(Some).map_err(external)
        } else {
            Ok(None)
        }
    }

    fn write(stage: &str, buf: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(buf, &EncodedStage { stage: stage.to_owned() }).map_err(external)
    }
}

/// Encodes tables of Parquet files, and stages. Everything else is encoded by Ballista.
#[derive(Debug)]
pub(super) struct PlanCodec {
    stages: Arc<dyn Stages>,
    logical: BallistaLogicalExtensionCodec,
    physical: BallistaPhysicalExtensionCodec,
}

impl PlanCodec {
    /// Returns the codec of a node that has `stages`.
    pub(super) fn new(stages: Arc<dyn Stages>) -> PlanCodec {
        PlanCodec {
            stages,
            logical: BallistaLogicalExtensionCodec::default(),
            physical: BallistaPhysicalExtensionCodec::default(),
        }
    }
}

impl PhysicalExtensionCodec for PlanCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (EncodedStage::parse(buf)?, inputs) {
            (None, _) => self.physical.try_decode(buf, inputs, context, converter),
            (Some(EncodedStage { stage }), [input]) => {
                Ok(Arc::new(StageExec::new(Arc::clone(&self.stages), stage, Arc::clone(input))?))
            }
            (Some(_), _) => internal_err!("a stage has {} inputs", inputs.len()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        match node.downcast_ref::<StageExec>() {
            Some(stage) => EncodedStage::write(&stage.stage, buf),
            None => self.physical.try_encode(node, buf, converter),
        }
    }
}

impl LogicalExtensionCodec for PlanCodec {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], context: &TaskContext) -> Result<Extension> {
        match (EncodedStage::parse(buf)?, inputs) {
            (None, _) => self.logical.try_decode(buf, inputs, context),
            (Some(EncodedStage { stage }), [input]) => {
                Ok(Extension { node: Arc::new(StageNode::new(&*self.stages, stage, input.clone())?) })
            }
            (Some(_), _) => internal_err!("a stage has {} inputs", inputs.len()),
        }
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        match node.node.as_any().downcast_ref::<StageNode>() {
            Some(stage) => EncodedStage::write(&stage.stage, buf),
            None => self.logical.try_encode(node, buf),
        }
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        _name: &TableReference,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        let table: EncodedTable = serde_json::from_slice(buf).map_err(external)?;
        let url = ObjectStoreUrl::parse(&table.url)?;
        let store = context.runtime_env().object_store(&url)?;
        let own = schema.fields().len().saturating_sub(table.partition_columns);
        let (own, partitions) = schema.fields().split_at(own);
        let schema = TableSchema::builder(Arc::new(Schema::new(own.to_vec())));
        let schema = schema.with_table_partition_cols(partitions.to_vec()).build();
        let file = |file: File| -> Result<PartitionedFile> {
            let mut part = PartitionedFile::new_from_meta(object_store::ObjectMeta {
                location: object_store::path::Path::parse(&file.key).map_err(external)?,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: file.bytes,
                e_tag: None,
                version: None,
            });
            part.partition_values = file.partitions.into_iter().map(ScalarValue::Utf8).collect();
            Ok(part)
        };
        let files = table.files.into_iter().map(file).collect::<Result<_>>()?;
        let threads = context.session_config().target_partitions();
        Ok(Arc::new(ParquetTable { store, url, schema, files, threads, footers: None }))
    }

    fn try_encode_table_provider(
        &self,
        name: &TableReference,
        table: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(parquet) = table.downcast_ref::<ParquetTable>() else {
            return self.logical.try_encode_table_provider(name, table, buf);
        };
        let text = |value: &ScalarValue| match value {
            ScalarValue::Utf8(text) => Ok(text.clone()),
            other => datafusion::common::internal_err!("the partition value {other} is not a text"),
        };
        let file = |file: &PartitionedFile| {
            Ok(File {
                key: file.object_meta.location.to_string(),
                bytes: file.object_meta.size,
                partitions: file.partition_values.iter().map(text).collect::<Result<_>>()?,
            })
        };
        let encoded = EncodedTable {
            url: parquet.url.to_string(),
            partition_columns: parquet.schema.table_partition_cols().len(),
            files: parquet.files.iter().map(file).collect::<Result<_>>()?,
        };
        serde_json::to_writer(buf, &encoded).map_err(external)
    }

    fn try_decode_file_format(&self, buf: &[u8], context: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        self.logical.try_decode_file_format(buf, context)
    }

    fn try_encode_file_format(&self, buf: &mut Vec<u8>, format: Arc<dyn FileFormatFactory>) -> Result<()> {
        self.logical.try_encode_file_format(buf, format)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Fields};
    use datafusion::execution::SendableRecordBatchStream;
    use datafusion::prelude::SessionContext;
    use futures::stream::BoxStream;
    use object_store::local::LocalFileSystem;

    use super::*;
    use crate::engine::Engine;

    #[derive(Debug)]
    struct NoStages;

    impl Stages for NoStages {
        fn row(&self, stage: &str) -> Result<Fields> {
            internal_err!("no stage `{stage}`")
        }

        fn run(
            &self,
            stage: &str,
            _: Engine,
            _: SendableRecordBatchStream,
        ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
            internal_err!("no stage `{stage}`")
        }
    }

    fn text(name: &str) -> Arc<Field> {
        Arc::new(Field::new(name, DataType::Utf8, true))
    }

    #[test]
    fn a_table_arrives_as_it_was() {
        let file = |key: &str, day: Option<&str>| {
            let mut file = PartitionedFile::new(key, 7);
            file.partition_values = vec![ScalarValue::Utf8(day.map(str::to_owned))];
            file
        };
        let schema = TableSchema::builder(Arc::new(Schema::new(vec![text("eventName")])));
        let table = ParquetTable {
            store: Arc::new(LocalFileSystem::new()),
            url: ObjectStoreUrl::local_filesystem(),
            schema: schema.with_table_partition_cols(vec![text("day")]).build(),
            files: vec![file("a/day=1/x y.parquet", Some("1")), file("a/y.parquet", None)],
            threads: 1,
            footers: None,
        };
        let table: Arc<dyn TableProvider> = Arc::new(table);
        let mut message = Vec::new();
        let name = TableReference::bare("cloudtrail");
        let codec = PlanCodec::new(Arc::new(NoStages));
        codec.try_encode_table_provider(&name, Arc::clone(&table), &mut message).unwrap();
        let context = SessionContext::new().task_ctx();
        let arrived = codec.try_decode_table_provider(&message, &name, table.schema(), &context).unwrap();
        assert_eq!(arrived.schema(), table.schema());
        let [arrived, sent] = [&arrived, &table].map(|table| table.downcast_ref::<ParquetTable>().unwrap());
        assert_eq!(arrived.files.len(), 2);
        for (arrived, sent) in arrived.files.iter().zip(&sent.files) {
            assert_eq!(arrived.object_meta.location, sent.object_meta.location);
            assert_eq!(arrived.object_meta.size, sent.object_meta.size);
            assert_eq!(arrived.partition_values, sent.partition_values);
        }
    }
}
