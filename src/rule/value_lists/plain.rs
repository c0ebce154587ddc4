//! Value lists as plain data, for other processes.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sets::{NameSet, NetworkSet, UnsortedValues};
use super::{ValueList, ValueListError, Values, network};

/// A value list as plain data.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlainList {
    name: String,
    digest: String,
    values: PlainValues,
}

#[derive(Debug, Serialize, Deserialize)]
enum PlainValues {
    Names(Vec<String>),
    Networks(Vec<String>),
}

impl From<&ValueList> for PlainList {
    fn from(list: &ValueList) -> PlainList {
        let values = match &list.values {
            Values::Names(names) => PlainValues::Names((0..names.len()).map(|index| names.name(index)).collect()),
            Values::Networks(set) => PlainValues::Networks(set.networks().iter().map(ToString::to_string).collect()),
        };
        PlainList { name: list.name.clone(), digest: list.digest.clone(), values }
    }
}

impl PlainList {
    /// Returns the list, which [`ValueList::loaded`] finds from then on.
    ///
    /// # Errors
    /// A value of a list of networks is not a network.
    pub fn load(self) -> Result<Arc<ValueList>, ValueListError> {
        let PlainList { name, digest, values } = self;
        let values = match values {
            PlainValues::Names(names) => {
                let mut values = UnsortedValues::default();
                for name in &names {
                    values.push(name);
                }
                Values::Names(NameSet::new(&values.sorted()))
            }
            PlainValues::Networks(texts) => {
                let mut networks = Vec::with_capacity(texts.len());
                for value in texts {
                    let Some(network) = network(&value) else {
                        return Err(ValueListError::NoNetwork { name, value, file: PathBuf::new() });
                    };
                    networks.push(network);
                }
                Values::Networks(NetworkSet::new(networks.into_iter()))
            }
        };
        Ok(ValueList { name, digest, values }.load())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ValueLists;
    use super::*;

    #[test]
    fn a_list_survives_its_way_to_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.txt");
        std::fs::write(&path, "192.0.2.0/25\n192.0.2.128/25\n2001:db8::1\n198.51.100.7\n").unwrap();
        let lists = || {
            let mut lists = ValueLists::default();
            lists.read("sent", &path, None).unwrap();
            lists
        };
        let sent = |list: Arc<ValueList>| {
            let (key, json) = (list.key(), serde_json::to_string(&PlainList::from(&*list)).unwrap());
            drop(list);
            assert_eq!(ValueList::loaded(&key), None);
            let arrived = serde_json::from_str::<PlainList>(&json).unwrap().load().unwrap();
            assert_eq!(ValueList::loaded(&key).as_ref(), Some(&arrived));
            arrived
        };
        let names = lists().names("sent").unwrap();
        let names = sent(names);
        assert!(names.contains("198.51.100.7") && names.len() == 4);
        assert!(!names.contains("192.0.2.1") && !names.contains("192.0.2.0/24"));
        let networks = lists().networks("sent").unwrap();
        let networks = sent(networks);
        assert!(["192.0.2.255", "2001:db8::1", "198.51.100.0/24"].iter().all(|text| networks.contains(text)));
        assert!(!networks.contains("192.0.3.0") && networks.len() == 3);
        let wrong = r#"{"name":"sent","digest":"","values":{"Networks":["alice"]}}"#;
        assert!(serde_json::from_str::<PlainList>(wrong).unwrap().load().is_err());
    }
}
