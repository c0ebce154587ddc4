use clap::Args;
use clap_complete::Shell;

use super::Context;
use crate::error::{Error, Status};

/// Print a shell completion script
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tawny completions bash > ~/.local/share/bash-completion/completions/tawny\n  \
                        tawny completions zsh > ~/.zfunc/_tawny\n  \
                        tawny completions fish > ~/.config/fish/completions/tawny.fish")]
pub(super) struct CompletionsCommand {
    /// The shell that will load the script
    shell: Shell,
}

impl CompletionsCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Status, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "tawny", &mut script);
        context.output.bytes(&script, None)?;
        Ok(Status::Done)
    }
}
