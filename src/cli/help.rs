//! The help of commands: without the shared options that a command does not use.

use clap::Command;

/// Shared options, and the commands that do not use them.
const UNUSED: [(&[&str], &[&str]); 3] = [
    (&["threads", "memory"], &["layouts", "rules", "exceptions", "sql", "completions", "man"]),
    (
        &["in_flight", "max_object_size", "max_record_size"],
        &["layouts", "rules", "exceptions", "sql", "completions", "man", "test", "compact", "cluster"],
    ),
    (
        &["s3_endpoint", "s3_region", "s3_anonymous", "s3_requester_pays"],
        &["layouts", "exceptions", "completions", "man", "test"],
    ),
];

/// Returns the command line, with shared options only in the help of the commands that use them.
pub(super) fn with_used_options(mut root: Command) -> Command {
    let commands: Vec<String> = root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for (options, unused_by) in UNUSED {
        for option in options {
            let Some(shared) = root.get_arguments().find(|argument| argument.get_id() == option).cloned() else {
                continue;
            };
            for command in &commands {
                let own = shared.clone().hide(unused_by.contains(&command.as_str()));
                root = root.mut_subcommand(command, |command| command.arg(own));
            }
            // The help of the commands explains it.
            root = root.mut_arg(option, |argument| argument.hide(true));
        }
    }
    root
}
