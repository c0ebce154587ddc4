//! A process, and what the system tells of it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a process took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Taken {
    pub(crate) time: Duration,
    /// The most memory it held, in mebibytes; 0 where the system does not tell.
    pub(crate) peak: u64,
    /// The bytes it read, from files and pipes; 0 where the system does not tell.
    pub(crate) read: u64,
}

/// Runs `command` to its end, which must be a good one; what it prints is thrown away.
#[expect(clippy::disallowed_methods, reason = "a bench reads what the system tells of a process")]
pub(crate) fn run(command: &mut Command) -> Taken {
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
        // What has ended but was not asked about yet still tells what it read.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        if status.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z')) || status.is_empty() {
            read = read.max(number("io", "rchar:"));
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().expect("it can be waited for").success());
    Taken { time: start.elapsed(), peak: peak >> 10, read }
}

/// The one in the middle.
pub(crate) fn median<T: Ord + Copy>(mut of: Vec<T>) -> T {
    of.sort_unstable();
    of[of.len() / 2]
}
