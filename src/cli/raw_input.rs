use clap::Args;

use super::Context;
use crate::error::Error;
use crate::path::Path;
use crate::store::{Location, ReadSettings, Spooled, Stores};

/// Options for reading raw objects.
#[derive(Debug, Args)]
#[command(next_help_heading = super::DATA)]
pub(super) struct RawInputArgs {
    /// Path of the record in a custom JSON envelope, as JSON text or object: 'payload.event', 'rows[*].message'; can be
    /// repeated, the first path with a value is used
    #[arg(long, value_name = "PATH")]
    unwrap: Vec<Path>,
}

impl RawInputArgs {
    /// Returns whether any of these options was given.
    pub(super) fn is_given(&self) -> bool {
        !self.unwrap.is_empty()
    }

    /// Returns the stores to read `sources` from. Standard input (`-`) and pipes are first copied to a scratch file.
    ///
    /// # Errors
    /// A source is an unsupported URL, or a stream cannot be read.
    pub(super) fn stores(&self, context: &Context, sources: &[String]) -> Result<Stores, Error> {
        let settings = context.stores.read_settings();
        let mut spooled = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            Location::check(source)?;
            if Spooled::is_stream(source) && !sources[..number].contains(source) {
                spooled.push(Spooled::read(source, settings.max_object, &context.scratch)?);
            }
        }
        let settings = ReadSettings { unwrap: self.unwrap.clone(), ..ReadSettings::clone(settings) };
        Ok(context.stores.clone().with_read_settings(settings).with_spooled(spooled))
    }
}
