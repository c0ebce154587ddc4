//! The hashes that digests name, for a conversion that compares objects while it reads them.

use std::collections::{BTreeMap, HashMap};

use super::names::SourceFiles;
use super::objects::{self, Claims, HashClaim, ObjectState};
use super::{Request, Verification, reading};
use crate::error::Error;
use crate::store::{Object, ObjectError, Stores};
use crate::trail;

/// What digests say about the objects of a trail.
#[derive(Debug, Default)]
pub struct ObjectManifest {
    /// By identity of the object.
    claims: HashMap<String, Vec<HashClaim>>,
    max_bytes: usize,
    /// The check of the digests.
    pub digests: Verification,
}

/// The result of comparing an object with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestCheck {
    /// A verified digest names the hash of its content.
    Verified,
    /// A digest names another hash, or the object is damaged. The text is the reason.
    Altered(String),
    /// No digest names it, or its digest could not be checked.
    Unverified,
}

impl ObjectManifest {
    /// Reads the digests below the sources of `request`, and finds which of `objects` they name.
    ///
    /// # Errors
    /// A source does not exist or cannot be listed.
    pub async fn read(stores: &Stores, request: &Request, objects: &[Object]) -> Result<ObjectManifest, Error> {
        let found = trail::list(stores, &request.sources, &request.listing()).await?;
        let mut known: BTreeMap<_, Object> =
            objects.iter().map(|object| (object.real.clone(), object.clone())).collect();
        for object in found.objects {
            known.entry(object.real.clone()).or_insert(object);
        }
        let files = SourceFiles::new(known.into_values().collect());
        let chains = reading::checked_chains(stores, &files, request).await?;
        let mut digests = Verification { faults: found.faults, ..Verification::default() };
        for chain in &chains {
            digests.add_digests(chain, request.range);
        }
        // Objects of other days are not listed here, so none counts as missing.
        let Claims { found, .. } = Claims::of(&chains, &files, request);
        let claims = found.into_iter().map(|(index, claims)| (files.objects[index].identity(), claims)).collect();
        Ok(ObjectManifest { claims, max_bytes: stores.read_settings().max_object, digests })
    }

    /// Returns whether digests were found and verified, and none is altered or missing. Some may be unchecked, such as the
    /// newest one on disk.
    pub fn is_sound(&self) -> bool {
        let Verification { digests, faults, .. } = &self.digests;
        digests.altered + digests.missing == 0 && digests.verified > 0 && faults.is_empty()
    }

    /// Compares the bytes of `object` with its claims.
    pub fn check(&self, object: &Object, bytes: &Result<bytes::Bytes, ObjectError>) -> ManifestCheck {
        let Some(claims) = self.claims.get(&object.identity()) else {
            return ManifestCheck::Unverified;
        };
        match objects::compare(bytes, claims, self.max_bytes) {
            ObjectState::Verified => ManifestCheck::Verified,
            ObjectState::Altered(reason) => ManifestCheck::Altered(reason),
            ObjectState::Unchecked(_) => ManifestCheck::Unverified,
        }
    }
}
