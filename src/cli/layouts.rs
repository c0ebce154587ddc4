use std::path::PathBuf;

use clap::Args;

use super::Context;
use crate::engine::Resources;
use crate::engine::columnar_table::Columnar;
use crate::error::{Error, Status};
use crate::event;
use crate::layout::{self, TableLayout};
use crate::report;
use crate::store::{self, Stores};
use crate::trail;

/// List the layouts of Parquet that are known, or show one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tawny layouts\n  tawny layouts security-lake")]
pub(super) struct Layouts {
    /// The layout to show, column by column
    name: Option<String>,
}

impl Layouts {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let known = layout::shipped()?;
        let text = match &self.name {
            None => {
                let raw = vec!["raw".to_owned(), "CloudTrail as AWS delivers it: JSON, gzipped or not".to_owned()];
                let known = known.into_iter().map(|layout| vec![layout.name, layout.title]);
                report::rows(&["layout", "what it is"], known.chain([raw]))
            }
            Some(name) if name == "raw" => {
                return Err(Error::Usage {
                    message: "`raw` is JSON, and has no columns to show".to_owned(),
                    hint: Some("docs/data.md tells what is read".to_owned()),
                });
            }
            Some(name) => {
                let layout = named(known, name)?;
                let told = |column: &str| match layout.sql(column) {
                    Some(sql) => sql.join(", else "),
                    None => "the column of this name, whatever its case and underscores".to_owned(),
                };
                let schema = event::schema();
                let columns = schema.fields().iter().map(|field| vec![field.name().clone(), told(field.name())]);
                report::rows(&["column", "where the layout has it"], columns)
            }
        };
        context.output.result(&text, None)?;
        Ok(Status::Done)
    }
}

fn named(known: Vec<TableLayout>, name: &str) -> Result<TableLayout, Error> {
    let names: Vec<String> = known.iter().map(|layout| layout.name.clone()).collect();
    known.into_iter().find(|layout| layout.name == name).ok_or_else(|| Error::Usage {
        message: format!("there is no layout `{name}`"),
        hint: Some(format!("known are raw, {}", names.join(", "))),
    })
}

/// In which layout data are.
#[derive(Debug, Args)]
pub(super) struct LayoutArgs {
    /// The layout of Parquet that another tool wrote, or `raw` [default: told by its columns]
    #[arg(long, value_name = "NAME", conflicts_with = "map")]
    layout: Option<String>,
    /// A file that describes the layout: see the documentation
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
}

impl LayoutArgs {
    /// Makes sure that no layout is named for the lake at `path`, which has its own.
    pub(super) fn refuse_for_lakes(&self, path: &str) -> Result<(), Error> {
        if self.layout.is_none() && self.map.is_none() {
            return Ok(());
        }
        Err(Error::Usage {
            message: format!("`{path}` is a lake, whose layout is its own"),
            hint: Some("leave out `--layout` and `--map`".to_owned()),
        })
    }

    /// The data as a table, where they are Parquet that another tool wrote.
    pub(super) async fn columnar(
        &self,
        stores: &Stores,
        resources: &Resources,
        sources: &[String],
    ) -> Result<Option<Columnar>, Error> {
        let layout = match (&self.layout, &self.map) {
            (Some(name), _) if name == "raw" => return Ok(None),
            (Some(name), _) => Some(named(layout::shipped()?, name)?),
            (None, Some(path)) => Some(layout::parse(
                &path.display().to_string(),
                &store::read_named("map", path, store::SETTINGS_BYTES)?,
            )?),
            (None, None) => None,
        };
        let Some(files) = trail::parquet_files(stores, sources, layout.is_some()).await? else {
            return Ok(None);
        };
        Ok(Some(Columnar::open(resources, stores, files, layout).await?))
    }
}
