use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_mangen::Man;

use super::{Cli, Context};
use crate::error::{Error, Status};
use crate::store;

/// Print the manual page, or write one for each command
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tawny man | man -l -\n  tawny man --output ~/.local/share/man/man1")]
pub(super) struct ManCommand {
    /// Write the pages of all commands to this folder
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl ManCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let mut root = Cli::command();
        root.build();
        match &self.output {
            None => context.output.bytes(&page(root)?, None)?,
            Some(folder) => {
                store::create_folder(folder)?;
                write_all(context, root, folder)?;
            }
        }
        Ok(Status::Done)
    }
}

/// Writes the pages of `command` and of what is below it.
fn write_all(context: &Context, command: clap::Command, folder: &Path) -> Result<(), Error> {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help").cloned() {
        write_all(context, below, folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    context.output.bytes(&page(command)?, Some(&folder.join(format!("{name}.1"))))
}

fn page(command: clap::Command) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    let rendered = Man::new(command).render(&mut page);
    rendered.map_err(|error| Error::Internal(format!("a manual page: {error}")))?;
    Ok(page)
}
