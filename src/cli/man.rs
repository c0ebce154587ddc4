use std::path::{Path, PathBuf};

use clap::Args;
use clap_mangen::Man;

use super::Context;
use crate::error::{Error, Status};
use crate::store;

/// Print the man page, or write one per command
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tawny man | man -l -\n  tawny man --output ~/.local/share/man/man1")]
pub(super) struct ManCommand {
    /// Write the man pages of all commands to this folder
    #[arg(long, short, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl ManCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let mut root = super::command();
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

/// Writes the man pages of `command` and its subcommands to `folder`.
fn write_all(context: &Context, command: clap::Command, folder: &Path) -> Result<(), Error> {
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help").cloned() {
        write_all(context, subcommand, folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    context.output.bytes(&page(command)?, Some(&folder.join(format!("{name}.1"))))
}

fn page(command: clap::Command) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    let rendered = Man::new(command).render(&mut page);
    rendered.map_err(|error| Error::Internal(format!("cannot render a man page: {error}")))?;
    Ok(page)
}
