//! Catches panics of libraries that read files of others.
//!
//! Assertions of such a library fail on damaged files. The panic becomes an error of the caller, and is not printed.

use std::any::Any;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

thread_local! {
    /// Whether panics of this thread are caught and returned as errors.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`. Returns its panic as an error, and does not print it.
///
/// # Errors
/// `work` panicked.
pub(crate) fn catching_panics<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CATCHING.get() {
                others(panic);
            }
        }));
    });
    let before = CATCHING.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    result
}
