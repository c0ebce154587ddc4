//! Lists the sources of a nightly run and finds the objects that may be new.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{PendingObject, RunState};
use crate::error::{Error, Fault, with_causes};
use crate::store::Stores;
use crate::time::{Instant, Range};
use crate::trail::{self, Selection, Trail};

/// A source of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NightlySource {
    /// A folder, a pattern or an object, on disk or in S3.
    pub path: String,
    /// Accounts and regions to read. The run sets its range.
    pub selection: Selection,
}

impl NightlySource {
    /// Returns the key of the source in the state: its path and selection.
    fn state_key(&self) -> String {
        let Selection { accounts, regions, .. } = &self.selection;
        let list = |kind: &str, names: &[String]| {
            if names.is_empty() { String::new() } else { format!(" {kind} {}", names.join(",")) }
        };
        format!("{}{}{}", self.path, list("accounts", accounts), list("regions", regions))
    }
}

/// Which objects a run reads.
pub struct SourceListing<'n> {
    /// Access to disk and buckets.
    pub stores: &'n Stores,
    /// The sources.
    pub sources: &'n [NightlySource],
    /// How late an object may appear, in microseconds. Days that recent are listed again.
    pub grace: i64,
    /// Whether to list all objects, however old.
    pub full: bool,
}

/// The objects that may be new.
#[derive(Default)]
pub(super) struct NewObjects {
    pub(super) trail: Trail,
    /// When each source was last listed successfully.
    pub(super) listed: BTreeMap<String, Instant>,
    pub(super) unlisted: Vec<Fault>,
    /// Pending objects that could not be looked up.
    pub(super) unreachable: Vec<PendingObject>,
    /// Pending objects that no longer exist. They are reported once.
    pub(super) gone: Vec<PendingObject>,
}

impl SourceListing<'_> {
    /// Lists the sources from their last listing on, and looks up the pending objects of the last run.
    pub(super) async fn find(&self, last: &RunState, now: Instant) -> Result<NewObjects, Error> {
        let trail = Trail { stores: self.stores.clone(), ..Trail::default() };
        let mut found = NewObjects { trail, ..NewObjects::default() };
        for source in self.sources {
            let key = source.state_key();
            let listed = last.listed.get(&key).filter(|_| !self.full);
            let from = listed.map(|listed| now.min(*listed) - self.grace);
            let selection = source.selection.during(Range { from, to: None });
            match Trail::find(self.stores, std::slice::from_ref(&source.path), &selection).await {
                Ok(trail) if from.is_none() && trail.is_empty() => {
                    let selected = if selection.is_narrowed() { " of the accounts and regions" } else { "" };
                    let reason = format!("it contains no objects{selected}");
                    found.unlisted.push(Fault { object: source.path.clone(), position: None, reason });
                }
                Ok(trail) => {
                    found.trail.objects.extend(trail.objects);
                    found.trail.excluded.add(trail.excluded);
                    found.listed.insert(key, now);
                }
                Err(error) => {
                    let fault = Fault { object: source.path.clone(), position: None, reason: with_causes(&error) };
                    found.unlisted.push(fault);
                    // Keep the old time, so that the next run lists as far back as this one should have.
                    found.listed.extend(last.listed.get(&key).map(|listed| (key, *listed)));
                }
            }
        }
        for pending in &last.pending {
            self.look_up(pending, &mut found).await;
        }
        // Several sources may name an object, and it may be pending too.
        let mut seen = BTreeSet::new();
        found.trail.objects.retain(|object| seen.insert(object.real.as_os_str().to_owned()));
        Ok(found)
    }

    /// Adds a pending object to `found`.
    ///
    /// Only a definite "no such object" gives an object up. An error may be temporary.
    async fn look_up(&self, pending: &PendingObject, found: &mut NewObjects) {
        let result = match trail::object_exists(self.stores, &pending.object).await {
            Ok(true) => {
                let objects = std::slice::from_ref(&pending.object);
                Trail::find(self.stores, objects, &Selection::default()).await.map(Some)
            }
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        match result {
            Ok(Some(trail)) => found.trail.objects.extend(trail.objects),
            // If a source cannot be listed, the object may be missing only for now.
            Ok(None) if found.unlisted.is_empty() => {
                let reason = "it no longer exists; it was never read, and is given up".to_owned();
                found.gone.push(PendingObject { reason, ..pending.clone() });
            }
            Ok(None) => found.unreachable.push(pending.clone()),
            Err(error) => found.unreachable.push(PendingObject { reason: with_causes(&error), ..pending.clone() }),
        }
    }
}
