//! Compares the new objects of a nightly run with CloudTrail's digests.

use std::sync::Arc;

use serde::Serialize;

use crate::convert::Limits;
use crate::error::{Error, Fault};
use crate::lake::transaction_log::VerifiedObjects;
use crate::store::{Object, Stores};
use crate::time::{DAY, Instant, Range};
use crate::trail::{self, Selection};
use crate::verify::{DigestCounts, ObjectManifest, Problem, PublicKeys, Request, VerifyLimits};

/// Where the digests and public keys are.
#[derive(Debug, Clone)]
pub struct NightlyVerification {
    /// Folders or prefixes that hold digests.
    pub digests: Vec<String>,
    /// Public keys. Without them no object counts as verified.
    pub keys: Option<Arc<PublicKeys>>,
}

/// The verification of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerificationReport {
    /// The converted objects.
    pub objects: u64,
    /// Those of them that a verified digest names.
    pub verified: u64,
    /// Counts of the digests that were read.
    pub digests: DigestCounts,
    /// Digests that are altered or missing.
    pub problems: Vec<Problem>,
    /// Parts of the digests that cannot be listed.
    pub faults: Vec<Fault>,
}

impl NightlyVerification {
    /// Reads the digests of the days on which `objects` were delivered.
    pub(super) async fn manifest(
        &self,
        stores: &Stores,
        objects: &[Object],
        (limits, now): (Limits, Instant),
    ) -> Result<Option<Arc<ObjectManifest>>, Error> {
        if objects.is_empty() {
            return Ok(None);
        }
        let days: Option<Vec<Instant>> = objects.iter().map(|object| trail::delivered_on(&object.real)).collect();
        let from = days.and_then(|days| days.into_iter().min()).map(|first| first - DAY);
        let request = Request {
            sources: self.digests.clone(),
            selection: Selection::default(),
            range: Range { from, to: None },
            keys: self.keys.clone(),
            now,
            limits: VerifyLimits { threads: limits.threads, in_flight: limits.in_flight },
        };
        Ok(Some(Arc::new(ObjectManifest::read(stores, &request, objects).await?)))
    }
}

impl VerificationReport {
    pub(super) fn new(manifest: &ObjectManifest, converted: Option<VerifiedObjects>) -> VerificationReport {
        let VerifiedObjects { objects, verified } = converted.unwrap_or_default();
        VerificationReport {
            objects,
            verified,
            digests: manifest.digests.digests,
            problems: manifest.digests.problems.clone(),
            faults: manifest.digests.faults.clone(),
        }
    }

    /// Returns whether no digest is altered or missing, and all were listed.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.faults.is_empty()
    }
}
