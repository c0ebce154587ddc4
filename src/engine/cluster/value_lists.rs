//! The value lists of rules on a cluster.
//!
//! A condition names a list by its key, so an executor needs the list before it scans. The plan of a scan calls `with_value_lists`,
//! which returns its argument. In a message, the definition of this function holds the lists, and an executor that receives it
//! loads them. Each task has a plan of its own, so lists are compressed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::DataType;
use datafusion::common::{exec_err, internal_err};
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::ident;
use zstd::stream::{decode_all, write::Encoder};

use super::exchange::{KEY, REPORT, ROW, external};
use crate::error::Error;
use crate::rule::value_lists::{PlainList, ValueList};
use crate::sql::match_spec::MatchSpec;

/// The name of the function.
pub(super) const FUNCTION: &str = "with_value_lists";

/// Maximum compressed bytes of the lists of a plan. One message to an executor has the plans of all tasks that it begins: at most one
/// for each of its threads.
const MAX_BYTES: usize = 40 << 20;

const COMPRESSION_LEVEL: i32 = 3;

/// Lists that an executor has loaded.
type LoadedLists = Arc<Vec<Arc<ValueList>>>;

/// The lists that this executor received last, and their bytes. All tasks of a scan share them.
static LAST: Mutex<Option<(Arc<[u8]>, LoadedLists)>> = Mutex::new(None);

/// Checks that executors can receive `lists`.
///
/// # Errors
/// They are too large.
pub fn check(lists: &[&Arc<ValueList>]) -> std::result::Result<(), Error> {
    check_size(lists, MAX_BYTES)
}

fn check_size(lists: &[&Arc<ValueList>], limit: usize) -> std::result::Result<(), Error> {
    let mut bytes = 0;
    for list in lists {
        bytes += compressed(list).map_err(|error| Error::query("the value lists", error))?.len();
    }
    if bytes <= limit {
        return Ok(());
    }
    let names: Vec<String> = lists.iter().map(|list| format!("`{}`", list.name())).collect();
    Err(Error::Usage {
        message: format!(
            "the value {} {bytes} bytes after compression, more than the {limit} that nodes of a cluster accept",
            match names.as_slice() {
                [name] => format!("list {name} has"),
                names => format!("lists {} have", names.join(", ")),
            }
        ),
        hint: Some("leave out `--cluster`, or use smaller lists".to_owned()),
    })
}

/// Returns a list as compressed JSON. Several of them may follow each other.
pub(super) fn compressed(list: &ValueList) -> Result<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new(), COMPRESSION_LEVEL).map_err(external)?;
    serde_json::to_writer(&mut encoder, &PlainList::from(list)).map_err(external)?;
    encoder.finish().map_err(external)
}

/// Loads the lists in `bytes`.
fn load(bytes: &Arc<[u8]>) -> Result<LoadedLists> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, lists)) = &*last
        && known == bytes
    {
        return Ok(Arc::clone(lists));
    }
    let json = decode_all(&**bytes).map_err(external)?;
    let lists = serde_json::Deserializer::from_slice(&json).into_iter::<PlainList>();
    let lists = lists.map(|list| list.map_err(external)?.load().map_err(external)).collect::<Result<_>>()?;
    let lists = Arc::new(lists);
    *last = Some((Arc::clone(bytes), Arc::clone(&lists)));
    Ok(lists)
}

/// Returns exchanged `rows` of a scan for `spec`, whose plan has the lists that it tests.
///
/// # Errors
/// A list is not in use.
pub(super) fn with_lists(rows: DataFrame, spec: &MatchSpec) -> Result<DataFrame> {
    let keys = spec.value_list_keys();
    if keys.is_empty() {
        return Ok(rows);
    }
    let mut bytes = Vec::new();
    for key in keys {
        match ValueList::loaded(key) {
            Some(list) => bytes.extend(compressed(&list)?),
            None => return internal_err!("the value list `{key}` is not loaded"),
        }
    }
    let function = ScalarUDF::from(WithValueLists::new(bytes.into(), None));
    rows.select(vec![function.call(vec![ident(KEY)]).alias(KEY), ident(ROW), ident(REPORT)])
}

/// Writes the definition of `function`. Returns whether it is `with_value_lists`.
pub(super) fn encode(function: &ScalarUDF, message: &mut Vec<u8>) -> bool {
    let function = function.inner().downcast_ref::<WithValueLists>();
    message.extend(function.iter().flat_map(|function| function.bytes.iter()));
    function.is_some()
}

/// Returns the function with the definition `message`.
pub(super) fn decode(message: &[u8]) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(WithValueLists::new(message.into(), None)))
}

/// Returns the function with the definition `message`, and loads its lists.
///
/// # Errors
/// The lists are damaged.
pub(super) fn decode_and_load(message: &[u8]) -> Result<Arc<ScalarUDF>> {
    let bytes = message.into();
    let lists = load(&bytes)?;
    Ok(Arc::new(ScalarUDF::from(WithValueLists::new(bytes, Some(lists)))))
}

/// `with_value_lists(value)`: the value.
struct WithValueLists {
    bytes: Arc<[u8]>,
    /// The lists stay loaded as long as the plan.
    _lists: Option<LoadedLists>,
    signature: Signature,
}

impl WithValueLists {
    fn new(bytes: Arc<[u8]>, lists: Option<LoadedLists>) -> WithValueLists {
        WithValueLists { bytes, _lists: lists, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl fmt::Debug for WithValueLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithValueLists").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl PartialEq for WithValueLists {
    fn eq(&self, other: &WithValueLists) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) || self.bytes == other.bytes
    }
}

impl Eq for WithValueLists {}

impl Hash for WithValueLists {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.len().hash(state);
    }
}

impl ScalarUDFImpl for WithValueLists {
    fn name(&self) -> &'static str {
        FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        types.first().cloned().map_or_else(|| exec_err!("{FUNCTION} takes an argument"), Ok)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        arguments.args.into_iter().next().map_or_else(|| exec_err!("{FUNCTION} takes an argument"), Ok)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::engine::cluster) fn list(name: &str, values: &[&str]) -> Arc<ValueList> {
        let json = serde_json::json!({ "name": name, "digest": "names:1", "values": { "Names": values } });
        serde_json::from_value::<PlainList>(json).unwrap().load().unwrap()
    }

    #[test]
    fn lists_that_are_too_large_are_refused_by_name() {
        let lists = [list("cluster-small", &["a"]), list("cluster-large", &["a", "b", "c"])];
        let bytes = compressed(&lists[0]).unwrap().len();
        assert!(check_size(&[&lists[0]], bytes).is_ok() && check(&[&lists[0], &lists[1]]).is_ok());
        let refused = check_size(&[&lists[0]], bytes - 1).unwrap_err();
        let expected = format!(
            "the value list `cluster-small` has {bytes} bytes after compression, more than the {} that nodes of a cluster accept",
            bytes - 1
        );
        assert_eq!((refused.to_string(), refused.status()), (expected, crate::error::Status::Usage));
        let refused = check_size(&[&lists[0], &lists[1]], bytes).unwrap_err().to_string();
        assert!(refused.starts_with("the value lists `cluster-small`, `cluster-large` have"), "{refused}");
    }
}
