//! Lists of names or networks in files, which conditions name: `Values: {List: offices}`.
//!
//! A list may have a million values, so a query does not hold them. It holds the key of the list, by which
//! [`ValueList::loaded`] finds it again. A list stays loaded as long as a rule uses it, or the file it was read from is held.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ipnet::IpNet;

use super::{Counts, Predicate, Rule, Test};
use crate::error::Error;
use crate::store;

mod file;
#[cfg(feature = "cluster")]
mod plain;
mod sets;

#[cfg(feature = "cluster")]
pub use plain::PlainList;
use sets::{NameSet, NetworkSet, UnsortedValues};

/// The largest file of a list, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// The lists that are in use, by their keys.
static LOADED: Mutex<BTreeMap<String, Weak<ValueList>>> = Mutex::new(BTreeMap::new());

/// A list as a test of texts.
pub struct ValueList {
    name: String,
    digest: String,
    values: Values,
}

enum Values {
    Names(NameSet),
    Networks(NetworkSet),
}

impl ValueList {
    /// Returns the name that rules use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a hash of the names, or of the addresses of the networks. The order in the file does not change it.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the name and the hash, by which a query names the list.
    pub fn key(&self) -> String {
        format!("{} {}", self.name, self.digest)
    }

    /// Returns the number of names, or of ranges of addresses.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Names(names) => names.len(),
            Values::Networks(networks) => networks.len(),
        }
    }

    /// Returns whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a name is in the list, or an address or network shares addresses with a network of the list.
    pub fn contains(&self, text: &str) -> bool {
        match &self.values {
            Values::Names(names) => names.contains(text),
            Values::Networks(networks) => networks.overlaps(text),
        }
    }

    /// Returns the names. `None` for networks.
    pub fn names(&self) -> Option<impl Iterator<Item = String>> {
        match &self.values {
            Values::Names(names) => Some((0..names.len()).map(|index| names.name(index))),
            Values::Networks(_) => None,
        }
    }

    /// Returns the fewest networks with the same addresses. Empty for names.
    pub fn networks(&self) -> Vec<IpNet> {
        match &self.values {
            Values::Names(_) => Vec::new(),
            Values::Networks(networks) => networks.networks(),
        }
    }

    /// Returns the list with this key if a rule uses it.
    pub fn loaded(key: &str) -> Option<Arc<ValueList>> {
        LOADED.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.upgrade()
    }

    /// Returns the list, which may be in use already.
    fn load(self) -> Arc<ValueList> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, list| list.strong_count() > 0);
        let key = self.key();
        if let Some(list) = loaded.get(&key).and_then(Weak::upgrade) {
            return list;
        }
        let list = Arc::new(self);
        loaded.insert(key, Arc::downgrade(&list));
        list
    }
}

impl PartialEq for ValueList {
    fn eq(&self, other: &ValueList) -> bool {
        (&self.name, &self.digest) == (&other.name, &other.digest)
    }
}

impl Eq for ValueList {}

impl fmt::Debug for ValueList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueList({})", self.key())
    }
}

/// A value list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueListError {
    /// There is no list with this name.
    #[error("there is no value list `{name}`: {}", names_of(.known))]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A value of a list is not a network.
    #[error("the value list `{name}` has `{value}`, but an address or network is needed, such as 192.0.2.0/24: {}", file.display())]
    NoNetwork {
        /// The name of the list.
        name: String,
        /// The value.
        value: String,
        /// The file of the list.
        file: PathBuf,
    },
}

fn names_of(names: &[String]) -> String {
    if names.is_empty() {
        return "`Lists` in a file of `--exceptions` names files of values".to_owned();
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("`Lists` has {}", names.join(", "))
}

/// The lists that conditions may name.
#[derive(Debug, Default)]
pub struct ValueLists {
    lists: BTreeMap<String, ListFile>,
    is_any_name_known: bool,
}

/// A list that was read, and what rules made of it.
#[derive(Debug, Default)]
struct ListFile {
    path: PathBuf,
    values: UnsortedValues,
    names: OnceLock<Arc<ValueList>>,
    networks: OnceLock<Result<Arc<ValueList>, ValueListError>>,
}

impl ValueLists {
    /// Returns an empty list for any name, to read a rule whose findings do not matter.
    pub fn of_any_name() -> ValueLists {
        ValueLists { is_any_name_known: true, ..ValueLists::default() }
    }

    /// Reads the list `name`. `column` is the column of a CSV file with a header, or the key in a file with one JSON object
    /// per line. Otherwise, each line of the file is a value, or a JSON text. Empty lines and lines that begin with `#` are
    /// no values.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or has no values.
    pub(super) fn read(&mut self, name: &str, file: &Path, column: Option<&str>) -> Result<(), Error> {
        let text = store::read_named("value list", file, MAX_BYTES)?;
        let values = UnsortedValues::read(text, file, column).map_err(|(line, reason)| Error::Usage {
            message: format!("value list `{}`, line {line}: {reason}", file.display()),
            hint: Some("a list is a CSV file with a `Column`, JSON lines, or a text with a value a line".to_owned()),
        })?;
        if values.spans.is_empty() {
            return Err(Error::usage(format!("the value list `{}` has no values", file.display())));
        }
        self.lists.insert(name.to_owned(), ListFile { path: file.to_owned(), values, ..ListFile::default() });
        Ok(())
    }

    /// Returns whether there is a list with this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.lists.contains_key(name)
    }

    /// Returns each list's name, file and number of values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path, usize)> {
        self.lists.iter().map(|(name, file)| (name.as_str(), file.path.as_path(), file.values.sorted().len()))
    }

    /// Returns a list of names.
    ///
    /// # Errors
    /// There is no list with this name.
    pub(super) fn names(&self, name: &str) -> Result<Arc<ValueList>, ValueListError> {
        Ok(self.find(name)?.map_or_else(|| ListFile::default().names(name), |file| file.names(name)))
    }

    /// Returns a list of networks. An address is a network of its own.
    ///
    /// # Errors
    /// There is no list with this name, or one of its values is not a network.
    pub(super) fn networks(&self, name: &str) -> Result<Arc<ValueList>, ValueListError> {
        self.find(name)?.map_or_else(|| ListFile::default().networks(name), |file| file.networks(name))
    }

    /// Returns the file of a list. `None` for a name whose values are not needed.
    fn find(&self, name: &str) -> Result<Option<&ListFile>, ValueListError> {
        match self.lists.get(name) {
            None if !self.is_any_name_known => {
                Err(ValueListError::Unknown { name: name.to_owned(), known: self.lists.keys().cloned().collect() })
            }
            list => Ok(list),
        }
    }
}

impl ListFile {
    /// Returns the values as a list of names, which rules call `name`.
    fn names(&self, name: &str) -> Arc<ValueList> {
        let load = || {
            let values = self.values.sorted();
            let digest = format!("names:{}", values.digest());
            ValueList { name: name.to_owned(), digest, values: Values::Names(NameSet::new(&values)) }.load()
        };
        Arc::clone(self.names.get_or_init(load))
    }

    /// As [`ListFile::names`], for networks.
    fn networks(&self, name: &str) -> Result<Arc<ValueList>, ValueListError> {
        let load = || {
            let mut no_network = None;
            let networks = self.values.iter().map_while(|value| {
                let network = network(value);
                no_network = network.is_none().then_some(value);
                network
            });
            let set = NetworkSet::new(networks);
            if let Some(value) = no_network {
                let (name, value, file) = (name.to_owned(), value.to_owned(), self.path.clone());
                return Err(ValueListError::NoNetwork { name, value, file });
            }
            let digest = format!("networks:{}", set.digest());
            Ok(ValueList { name: name.to_owned(), digest, values: Values::Networks(set) }.load())
        };
        self.networks.get_or_init(load).clone()
    }
}

/// Returns the network that a text is, without the bits of a host.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|network| network.trunc())
}

impl Rule {
    /// Returns the value lists that the rule or an exception of it uses, each once.
    pub fn value_lists(&self) -> Vec<&Arc<ValueList>> {
        let mut lists: Vec<&Arc<ValueList>> = Vec::new();
        for predicate in self.predicates() {
            predicate.tests(&mut |test| {
                if let Test::InList(list) | Test::WithinList(list) | Test::AnyWithinList(list) = test
                    && !lists.contains(&list)
                {
                    lists.push(list);
                }
            });
        }
        lists
    }

    /// Returns the rule with the values of its lists as values of its own, for a query that runs elsewhere.
    ///
    /// # Errors
    /// A list has more than [`WRITTEN_VALUES`](super::limits::WRITTEN_VALUES) values.
    pub fn with_lists_written_out(mut self) -> Result<Rule, Arc<ValueList>> {
        if self.value_lists().is_empty() {
            return Ok(self);
        }
        self.detection = self.detection.with_lists_written_out()?;
        let all = |parts: &[Predicate]| -> Result<Vec<Predicate>, Arc<ValueList>> {
            parts.iter().map(Predicate::with_lists_written_out).collect()
        };
        self.counts = match self.counts {
            counts @ (Counts::Matches | Counts::Distinct(_) | Counts::Sum(_) | Counts::Statistic(..)) => counts,
            Counts::Followed { first, then } => {
                let [first, then] = [first.with_lists_written_out()?, then.with_lists_written_out()?];
                Counts::Followed { first, then }
            }
            Counts::EachOf(events) => Counts::EachOf(all(&events)?),
            Counts::InOrder(events) => Counts::InOrder(all(&events)?),
        };
        if let Some(absence) = &mut self.absence {
            absence.event = absence.event.with_lists_written_out()?;
        }
        for (_, severity) in &mut self.dynamic_severities {
            *severity = severity.with_lists_written_out()?;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_each_form_have_the_same_values() {
        let folder = tempfile::tempdir().unwrap();
        let mut lists = ValueLists::default();
        for (file, column, text) in [
            ("a.csv", Some("cidr"), "name,cidr\nhome, 192.0.2.0/24 \n# none\nwork,2001:db8::1\n,\n"),
            ("a.txt", None, "\u{feff}2001:db8::1\n\n# none\n  192.0.2.0/24\r\n192.0.2.0/24\n"),
            ("a.jsonl", Some("cidr"), "{\"cidr\":\"192.0.2.0/24\"}\n{\"cidr\":null}\n\n{\"cidr\":\"2001:db8::1\"}\n"),
            ("b.ndjson", None, "\"192.0.2.0/24\"\n\"2001:db8::1\"\n"),
        ] {
            let path = folder.path().join(file);
            std::fs::write(&path, text).unwrap();
            lists.read(file, &path, column).unwrap();
            assert_eq!(lists.names(file).unwrap().digest, lists.names("a.csv").unwrap().digest, "{file}");
            let networks = lists.networks(file).unwrap();
            assert!(networks.contains("192.0.2.9") && !networks.contains("192.0.3.1"), "{file}");
            assert_eq!(networks.digest, lists.networks("a.csv").unwrap().digest, "{file}");
            let names = lists.names(file).unwrap();
            assert!(names.contains("2001:db8::1") && !names.contains("192.0.2.9"), "{file}");
            assert_eq!(ValueList::loaded(&names.key()), Some(names), "{file}");
        }
        for (file, column, text, expected) in [
            ("c.csv", Some("cidr"), "name\na\n", "line 1: there is no column `cidr`, there are `name`"),
            ("c.csv", None, "name\na\n", "needs the `Column`"),
            ("c.csv", Some("name"), "name\na,b\n", "line 2"),
            ("c.jsonl", None, "\"a\"\n{}\n", "line 2: an object needs"),
            ("c.jsonl", Some("k"), "{\"k\":[]}\n", "line 1: a value must be"),
            ("c.jsonl", None, "[1]\n", "not an array"),
            ("c.txt", None, "# none\n\n", "has no values"),
        ] {
            let path = folder.path().join(file);
            std::fs::write(&path, text).unwrap();
            let error = lists.read("c", &path, column).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(lists.read("d", &folder.path().join("none"), None).unwrap_err().to_string().contains("cannot be read"));
        let path = folder.path().join("names.txt");
        std::fs::write(&path, "10.0.0.0/8\nalice\n").unwrap();
        lists.read("names", &path, None).unwrap();
        let error = lists.networks("names").unwrap_err().to_string();
        assert!(error.contains("`alice`") && error.contains("names.txt"), "{error}");
        let unknown = lists.names("office").unwrap_err().to_string();
        assert!(unknown.contains("`office`") && unknown.contains("`names`"), "{unknown}");
    }
}
