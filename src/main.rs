//! The `tawny` command; see [`tawny`] for the library behind it.

use std::process::ExitCode;

// Records are many small allocations, made on one thread and freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(tawny::cli::run().code())
}
