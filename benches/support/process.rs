//! Runs a process and measures it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The resources that a process used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessUsage {
    pub(crate) time: Duration,
    /// Peak memory in MiB; 0 if the system does not report it.
    pub(crate) peak: u64,
    /// Bytes read from files and pipes; 0 if the system does not report it.
    pub(crate) read: u64,
}

/// Runs `command`, which must succeed, and discards its output.
#[expect(clippy::disallowed_methods, reason = "a bench reads process statistics of the system")]
pub(crate) fn run(command: &mut Command) -> ProcessUsage {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("the program is there");
    let number = |file: &str, key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
    };
    let (mut peak, mut read) = (0, 0);
    loop {
        peak = peak.max(number("status", "VmHWM:"));
        read = read.max(number("io", "rchar:"));
        // An ended process that was not waited for still reports its reads.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if status.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z')) || status.is_empty() {
            read = read.max(number("io", "rchar:"));
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().expect("it can be waited for").success());
    ProcessUsage { time: start.elapsed(), peak: peak >> 10, read }
}

/// Returns the median.
pub(crate) fn median<T: Ord + Copy>(mut of: Vec<T>) -> T {
    of.sort_unstable();
    of[of.len() / 2]
}
