//! The origins of matches: a scan gives the credential of each match, and the derived field `origin` is found afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, StringArray};
use datafusion::catalog::TableProvider;
use datafusion::error::Result;
use futures::TryStreamExt as _;

use super::match_table::{MatchTable, MatchedRows};
use super::seen::KnownKeys;
use crate::engine::Engine;
use crate::engine::match_scan::BufferedMatches;
use crate::error::{Error, QueryCause};
use crate::sql::match_spec::{MatchSpec, ValueId};
use crate::table::Table;
use crate::trace;

/// The origins of the credentials of matches, as rules group by them.
#[derive(Debug)]
pub(super) struct MatchOrigins {
    /// The value of the scan that holds credentials.
    value: ValueId,
    /// The origins by credential.
    principals: HashMap<String, Option<String>>,
}

impl MatchOrigins {
    /// Finds the origins of `matches` of `table`. `None` if no rule of the scan needs them.
    ///
    /// # Errors
    /// The table cannot be read, or there are too many credentials.
    pub(super) async fn of(
        engine: &Engine,
        table: &dyn Table,
        spec: &MatchSpec,
        matches: &Arc<BufferedMatches>,
    ) -> Result<Option<MatchOrigins>, Error> {
        let Some(value) = spec.credential() else { return Ok(None) };
        let limit = engine.memory() / 4;
        let (mut credentials, mut bytes) = (HashSet::new(), 0);
        let failed = |error| Error::query("the credentials of the matches", error);
        let mut batches = std::pin::pin!(matches.partition(0, 1));
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            for credential in batch.value(value).as_string::<i32>().iter().flatten() {
                if !credentials.contains(credential) {
                    bytes += size_of::<String>() + credential.len();
                    credentials.insert(credential.to_owned());
                }
            }
            if bytes > limit {
                return Err(Error::Query {
                    subject: format!("the origins of more than {} credentials", credentials.len()),
                    cause: QueryCause::MemoryExhausted,
                    source: format!("they take more than {} MiB", limit >> 20).into(),
                });
            }
        }
        let credentials: Vec<String> = credentials.into_iter().collect();
        let origins = trace::origins_of_credentials(engine, table, &credentials).await?;
        let principals = origins.into_iter().map(|(credential, origin)| (credential, origin.principal())).collect();
        Ok(Some(MatchOrigins { value, principals }))
    }

    /// Returns `values`, those of the scan's value `id`, with origins instead of credentials.
    pub(super) fn resolved(&self, id: ValueId, values: &ArrayRef) -> ArrayRef {
        if id != self.value {
            return Arc::clone(values);
        }
        let origin = |credential: Option<&str>| self.principals.get(credential?)?.as_deref();
        Arc::new(values.as_string::<i32>().iter().map(origin).collect::<StringArray>())
    }
}

/// The matches of a scan, and their origins if a rule needs them.
#[derive(Debug)]
pub(super) struct ScannedMatches {
    pub(super) matches: Arc<BufferedMatches>,
    pub(super) origins: Option<Arc<MatchOrigins>>,
    /// Those of their keys that were seen earlier.
    pub(super) known_keys: KnownKeys,
}

/// Rows are made from the matches of a scan as a query reads them.
impl MatchedRows for ScannedMatches {
    fn is_spilled(&self) -> bool {
        self.matches.is_spilled()
    }

    fn provider(&self, table: &Arc<MatchTable>, rules: &[usize], partitions: usize) -> Result<Arc<dyn TableProvider>> {
        let known = |rule: &usize| table.known_rows(*rule, self.known_keys.of_rule(*rule)).transpose();
        let known: Vec<_> = rules.iter().filter_map(known).collect::<Result<_>>()?;
        let (rows, rules, origins) = (Arc::clone(table), rules.to_vec(), self.origins.clone());
        self.matches.table(&table.schema, partitions, known, move |batch| {
            Arc::clone(&rows).rows(rules.clone(), batch, origins.clone())
        })
    }
}
