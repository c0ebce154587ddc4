//! The `tawny` command; see [`tawny`] for the library behind it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(tawny::cli::run().code())
}
