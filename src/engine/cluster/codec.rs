//! Messages between the nodes of a cluster: tables of Parquet files as the list of them, scans of them with what the
//! transaction log says of each, stages by their settings, and functions by name. One of the functions has value lists.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use datafusion::catalog::TableProvider;
use datafusion::common::{TableReference, internal_err};
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Extension, LogicalPlan, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use super::exchange::external;
use super::stages::{StageExec, StageNode, Stages};
use super::value_lists;
use crate::engine::parquet_table::{ParquetTable, SentScan, node_footers, recorded, verified};
use crate::lake::checksum::RecordedFile;

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recorded: Option<RecordedFile>,
}

/// A node of a plan that is sent to nodes of the cluster.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoded {
    /// The settings of a stage.
    Stage(String),
    /// A scan of Parquet files.
    Scan {
        /// The scan without guards as DataFusion encodes it, in Base64.
        scan: String,
        /// The entry of each file in the transaction log.
        recorded: Vec<Option<RecordedFile>>,
    },
}

impl Encoded {
    /// Returns the node in a message; `None` for other messages. Ballista's messages are protocol buffers, which never begin
    /// with a brace.
    fn parse(message: &[u8]) -> Result<Option<Encoded>> {
        if message.first() == Some(&b'{') {
            serde_json::from_slice(message).map(Some).map_err(external)
        } else {
            Ok(None)
        }
    }

    fn write(&self, buf: &mut Vec<u8>) -> Result<()> {
        serde_json::to_writer(buf, self).map_err(external)
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
        match (Encoded::parse(buf)?, inputs) {
            (None, _) => self.physical.try_decode(buf, inputs, context, converter),
            (Some(Encoded::Stage(stage)), [input]) => {
                Ok(Arc::new(StageExec::new(Arc::clone(&self.stages), stage, Arc::clone(input))?))
            }
            (Some(Encoded::Scan { scan, recorded }), []) => {
                let scan = BASE64_STANDARD.decode(scan).map_err(external)?;
                let scan = physical_plan_from_bytes_with_proto_converter(&scan, context, self, converter)?;
                SentScan { scan, recorded }.guarded(context)
            }
            (Some(_), _) => internal_err!("a stage or a scan has {} inputs", inputs.len()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(stage) = node.downcast_ref::<StageExec>() {
            Encoded::Stage(stage.stage.clone()).write(buf)
        } else if let Some(SentScan { scan, recorded }) = SentScan::of(node.as_ref()) {
            let scan = physical_plan_to_bytes_with_proto_converter(scan, self, converter)?;
            Encoded::Scan { scan: BASE64_STANDARD.encode(scan), recorded }.write(buf)
        } else {
            self.physical.try_encode(node, buf, converter)
        }
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        if name == value_lists::FUNCTION {
            value_lists::decode_and_load(buf)
        } else {
            self.physical.try_decode_udf(name, buf)
        }
    }

    fn try_encode_udf(&self, function: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        if value_lists::encode(function, buf) { Ok(()) } else { self.physical.try_encode_udf(function, buf) }
    }
}

impl LogicalExtensionCodec for PlanCodec {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], context: &TaskContext) -> Result<Extension> {
        match (Encoded::parse(buf)?, inputs) {
            (None, _) => self.logical.try_decode(buf, inputs, context),
            (Some(Encoded::Stage(stage)), [input]) => {
                Ok(Extension { node: Arc::new(StageNode::new(&*self.stages, stage, input.clone())?) })
            }
            (Some(_), _) => internal_err!("a logical plan has a scan, or a stage with {} inputs", inputs.len()),
        }
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        match node.node.as_any().downcast_ref::<StageNode>() {
            Some(stage) => Encoded::Stage(stage.stage.clone()).write(buf),
            None => self.logical.try_encode(node, buf),
        }
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        if name == value_lists::FUNCTION {
            Ok(value_lists::decode(buf))
        } else {
            self.logical.try_decode_udf(name, buf)
        }
    }

    fn try_encode_udf(&self, function: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        if value_lists::encode(function, buf) { Ok(()) } else { self.logical.try_encode_udf(function, buf) }
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
            Ok(verified(part, file.recorded))
        };
        let files = table.files.into_iter().map(file).collect::<Result<_>>()?;
        let threads = context.session_config().target_partitions();
        Ok(Arc::new(ParquetTable { store, url, schema, files, threads, footers: node_footers() }))
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
                recorded: recorded(file),
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
    use datafusion_proto::bytes::{
        physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
    };
    use futures::stream::BoxStream;
    use object_store::local::LocalFileSystem;

    use super::super::value_lists::tests::list;
    use super::*;
    use crate::engine::Engine;
    use crate::lake::checksum::MetadataChecksum;
    use crate::rule::value_lists::ValueList;

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
        let entry = RecordedFile { bytes: 7, records: 1, checksum: MetadataChecksum::of(4, b"end") };
        let file = |key: &str, day: Option<&str>| {
            let mut file = verified(PartitionedFile::new(key, 7), day.map(|_| entry));
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
            footers: node_footers(),
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
            assert_eq!(recorded(arrived), recorded(sent));
        }
        assert_eq!(recorded(&arrived.files[0]), Some(entry));
    }

    #[test]
    fn executors_load_the_lists_of_a_message_and_schedulers_do_not() {
        let lists = [list("cluster-one", &["a", "b"]), list("cluster-two", &[])];
        let keys = lists.each_ref().map(|list| list.key());
        let bytes: Vec<u8> = lists.iter().flat_map(|list| value_lists::compressed(list).unwrap()).collect();
        drop(lists);
        let codec = PlanCodec::new(Arc::new(NoStages));
        let (mut message, mut sent) = (Vec::new(), Vec::new());
        LogicalExtensionCodec::try_encode_udf(&codec, &value_lists::decode(&bytes), &mut message).unwrap();
        let at_scheduler = LogicalExtensionCodec::try_decode_udf(&codec, value_lists::FUNCTION, &message).unwrap();
        assert!(keys.iter().all(|key| ValueList::loaded(key).is_none()));
        PhysicalExtensionCodec::try_encode_udf(&codec, &at_scheduler, &mut sent).unwrap();
        assert_eq!((&message, &sent), (&bytes, &bytes));
        let at_executor = PhysicalExtensionCodec::try_decode_udf(&codec, value_lists::FUNCTION, &sent).unwrap();
        let [one, two] = keys.each_ref().map(|key| ValueList::loaded(key).unwrap());
        assert!(one.contains("b") && !one.contains("c") && two.is_empty());
        // A later task does not load them again.
        let later = PhysicalExtensionCodec::try_decode_udf(&codec, value_lists::FUNCTION, &sent).unwrap();
        drop(at_executor);
        assert!(Arc::ptr_eq(&ValueList::loaded(&keys[0]).unwrap(), &one));
        drop(later);
        assert!(PhysicalExtensionCodec::try_decode_udf(&codec, value_lists::FUNCTION, &sent[1..]).is_err());
    }

    #[tokio::test]
    async fn a_scan_arrives_with_the_entries_of_the_transaction_log() {
        let entry = |records| RecordedFile { bytes: 7, records, checksum: MetadataChecksum::of(4, b"end") };
        let names = ["a", "b", "c"].into_iter().zip([Some(entry(1)), None, Some(entry(3))]);
        let table = ParquetTable {
            store: Arc::new(LocalFileSystem::new()),
            url: ObjectStoreUrl::local_filesystem(),
            schema: TableSchema::from(Arc::new(Schema::new(vec![text("eventName")]))),
            files: names.map(|(name, recorded)| verified(PartitionedFile::new(name, 7), recorded)).collect(),
            threads: 2,
            footers: node_footers(),
        };
        let context = SessionContext::new();
        let scan = table.scan(&context.state(), None, &[], None).await.unwrap();
        let codec = PlanCodec::new(Arc::new(NoStages));
        let sent = physical_plan_to_bytes_with_extension_codec(scan, &codec).unwrap();
        let context = context.task_ctx();
        let arrived = physical_plan_from_bytes_with_extension_codec(&sent, &context, &codec).unwrap();
        let arrived = SentScan::of(arrived.as_ref()).expect("the scan has its guard");
        assert_eq!(arrived.recorded, [Some(entry(1)), None, Some(entry(3))]);
    }
}
