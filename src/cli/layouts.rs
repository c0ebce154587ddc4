use std::path::PathBuf;

use clap::Args;

use super::Context;
use crate::engine::Engine;
use crate::engine::columnar_table::Columnar;
use crate::error::{Error, Status};
use crate::event;
use crate::layout::{self, TableLayout};
use crate::report;
use crate::store::{self, Stores};
use crate::trail::{self, ParquetFiles};

/// List the supported layouts of other tools' Parquet, or show one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tawny layouts\n  tawny layouts security-lake")]
pub(super) struct LayoutsCommand {
    /// Show the column mapping of this layout
    name: Option<String>,
}

impl LayoutsCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let known = layout::shipped()?;
        let text = match &self.name {
            None => {
                let raw = vec!["raw".to_owned(), "CloudTrail as AWS delivers it: JSON, gzipped or plain".to_owned()];
                let known = known.into_iter().map(|layout| vec![layout.name, layout.title]);
                report::rows(&["layout", "description"], known.chain([raw]))
            }
            Some(name) if name == "raw" => {
                return Err(Error::Usage {
                    message: "the layout `raw` is JSON and has no columns".to_owned(),
                    hint: Some("see docs/formats.md for the supported formats".to_owned()),
                });
            }
            Some(name) => {
                let layout = named(known, name)?;
                let source = |column: &str| match layout.sql(column) {
                    Some(sql) => sql.join(", else "),
                    None => "the column of the same name (case and underscores ignored)".to_owned(),
                };
                let schema = event::schema();
                let columns = schema.fields().iter().map(|field| vec![field.name().clone(), source(field.name())]);
                report::rows(&["column", "source in the layout"], columns)
            }
        };
        context.output.result(&text, None)?;
        Ok(Status::Done)
    }
}

fn named(known: Vec<TableLayout>, name: &str) -> Result<TableLayout, Error> {
    let names: Vec<String> = known.iter().map(|layout| layout.name.clone()).collect();
    known.into_iter().find(|layout| layout.name == name).ok_or_else(|| Error::Usage {
        message: format!("unknown layout `{name}`"),
        hint: Some(format!("use one of raw, {}", names.join(", "))),
    })
}

/// The layout of the data.
#[derive(Debug, Args)]
#[command(next_help_heading = super::DATA)]
pub(super) struct LayoutArgs {
    /// Layout of another tool's Parquet, or `raw` [default: detected from the columns]
    #[arg(long, value_name = "NAME", conflicts_with = "map")]
    layout: Option<String>,
    /// File that maps the data's columns to CloudTrail fields; see docs/layouts.md
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
}

impl LayoutArgs {
    /// Refuses `--layout` and `--map` for the lake at `path`.
    pub(super) fn refuse_for_lakes(&self, path: &str) -> Result<(), Error> {
        if self.layout.is_none() && self.map.is_none() {
            return Ok(());
        }
        Err(Error::Usage {
            message: format!("`{path}` is a lake: `--layout` and `--map` only apply to other tools' Parquet"),
            hint: Some("remove `--layout` and `--map`".to_owned()),
        })
    }

    /// Opens the data as a table if it is another tool's Parquet.
    pub(super) async fn columnar(
        &self,
        stores: &Stores,
        engine: &Engine,
        sources: &[String],
    ) -> Result<Option<Columnar>, Error> {
        if self.is_raw() {
            return Ok(None);
        }
        let layout = self.chosen()?;
        let Some(files) = trail::parquet_files(stores, sources, layout.is_some()).await? else {
            return Ok(None);
        };
        Ok(Some(Columnar::open(engine, stores, files, layout).await?))
    }
    /// Opens the table at `path`, whose metadata list `files`.
    pub(super) async fn table(
        &self,
        stores: &Stores,
        engine: &Engine,
        path: &str,
        files: ParquetFiles,
    ) -> Result<Columnar, Error> {
        if self.is_raw() {
            return Err(Error::Usage {
                message: format!("`{path}` is a table: `--layout raw` only applies to raw trails"),
                hint: Some("remove `--layout raw`".to_owned()),
            });
        }
        // The table's bounds are those of the columns that the layouts of this program take times from.
        let files = if self.map.is_some() { files.without_times() } else { files };
        Columnar::open(engine, stores, files, self.chosen()?).await
    }

    fn is_raw(&self) -> bool {
        self.layout.as_deref() == Some("raw")
    }

    /// Returns the layout that the user names. `None` if the columns decide.
    fn chosen(&self) -> Result<Option<TableLayout>, Error> {
        match (&self.layout, &self.map) {
            (Some(name), _) => named(layout::shipped()?, name).map(Some),
            (None, Some(path)) => {
                let text = store::read_named("map", path, store::SETTINGS_BYTES)?;
                layout::parse(&path.display().to_string(), &text).map(Some)
            }
            (None, None) => Ok(None),
        }
    }
}
