use clap::Args;

use super::Context;
use crate::error::Error;
use crate::path::Path;
use crate::store::{Location, ReadSettings, Spooled, Stores};

/// How raw objects are read.
#[derive(Debug, Args)]
pub(super) struct RawInputArgs {
    /// Where the record lies in JSON that wraps it in a way that is not known, as text or object: 'payload.event',
    /// 'rows[*].message'; may be repeated, and the first path that leads to a value counts
    #[arg(long, value_name = "PATH")]
    unwrap: Vec<Path>,
}

impl RawInputArgs {
    /// Whether any of it was given.
    pub(super) fn is_given(&self) -> bool {
        !self.unwrap.is_empty()
    }

    /// Where `sources` are read from. Standard input (`-`) and pipes are read to their end first.
    ///
    /// # Errors
    /// A source is an address of a form that is not read, or a stream cannot be read.
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
