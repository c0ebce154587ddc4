//! The kinds of the engine's failures.

use datafusion::error::DataFusionError;

use crate::error::{QueryCause, QueryFailure};

impl From<DataFusionError> for QueryFailure {
    fn from(error: DataFusionError) -> QueryFailure {
        let cause = match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => QueryCause::MemoryExhausted,
            DataFusionError::External(external) => {
                external.downcast_ref().cloned().map_or(QueryCause::Other, QueryCause::DamagedFile)
            }
            DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) => QueryCause::UnreadableData,
            _ => QueryCause::Other,
        };
        QueryFailure { cause, source: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{DamagedFile, Error};

    #[test]
    fn the_kind_of_a_failure_is_that_of_its_root() {
        let file = DamagedFile { file: "a.parquet".to_owned(), reason: "a page is cut off".to_owned() };
        let cause = |error: DataFusionError| QueryFailure::from(error.context("outer")).cause;
        let exhausted = DataFusionError::ResourcesExhausted("no room".to_owned());
        assert_eq!(cause(exhausted), QueryCause::MemoryExhausted);
        let external = DataFusionError::External(Box::new(file.clone()));
        assert_eq!(cause(external), QueryCause::DamagedFile(file));
        let missing = object_store::Error::NotFound { path: "a".to_owned(), source: "gone".into() };
        assert_eq!(cause(DataFusionError::ObjectStore(Box::new(missing))), QueryCause::UnreadableData);
        assert_eq!(cause(DataFusionError::External("other".into())), QueryCause::Other);
        assert_eq!(cause(DataFusionError::Plan("other".to_owned())), QueryCause::Other);
    }

    #[test]
    fn an_error_of_a_query_keeps_what_the_engine_said() {
        let error = Error::query("a step", DataFusionError::Plan("no such column".to_owned()));
        assert_eq!(error.to_string(), "the query of a step failed");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no such column"), "{source}");
    }
}
