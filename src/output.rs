//! Where text goes: results to standard output or a file, talk to standard error. The only module that prints.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ContextValue;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::engine::Scanned;
use crate::error::{Error, Fault};
use crate::statistics::{DifferingRecords, Duplicates, ScanStatistics};
use crate::store;
use crate::text::{self, printable, printable_lines};

/// How many faults are shown.
const SHOWN_FAULTS: usize = 20;

/// The handles of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output {
    /// Whether talk that is no warning is left out.
    pub quiet: bool,
}

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of text for each event.
    #[default]
    Text,
    /// A JSON object for each event.
    Json,
}

impl Output {
    /// Logs to standard error from now on what is of `level` or graver.
    pub fn log(&self, level: tracing::Level, format: LogFormat) {
        let level = if self.quiet { level.min(tracing::Level::WARN) } else { level };
        // Of other crates only what is grave: at lower levels they tell of requests.
        let filter = tracing_subscriber::filter::Targets::new()
            .with_target("tawny", level)
            .with_default(level.min(tracing::Level::WARN));
        let layer = tracing_subscriber::fmt::layer().with_writer(move || EscapedLog(format)).with_ansi(false);
        let registry = tracing_subscriber::registry().with(filter);
        // A second call, as tests make it, keeps the first log.
        match format {
            LogFormat::Text => registry.with(layer).try_init().ok(),
            LogFormat::Json => registry.with(layer.json()).try_init().ok(),
        };
    }

    /// Writes a result: to `file`, all or nothing, or to standard output. A reader that has gone
    /// away, as `head` does, is no error.
    pub fn result(&self, text: &str, file: Option<&Path>) -> Result<(), Error> {
        self.bytes(text.as_bytes(), file)
    }

    /// Writes to standard output what counts as delivered once it is written: a reader that has gone away is an error.
    pub fn deliver(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        let written_all = stdout.write_all(bytes).and_then(|()| stdout.flush());
        written_all.map_err(|error| written(Path::new("standard output"), error))
    }

    /// As [`Output::result`], for what is no text.
    pub fn bytes(&self, bytes: &[u8], file: Option<&Path>) -> Result<(), Error> {
        self.write(file, &|to| to.write_all(bytes))
    }

    /// As [`Output::result`], for what `write` writes.
    pub fn write(&self, file: Option<&Path>, write: store::Write<'_>) -> Result<(), Error> {
        if let Some(path) = file {
            // A device, or a link to what is not yet there.
            if path.symlink_metadata().is_ok() && !path.is_file() {
                store::destination(path)?;
                let done = std::fs::File::create(path).and_then(|file| store::buffered(file, write));
                return done.map_err(|source| written(path, source));
            }
            let path = store::destination(path)?;
            return store::stage_by(&path, store::folder_of(&path), write)?.publish();
        }
        match store::buffered(io::stdout().lock(), write) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done.map_err(|error| written(Path::new("standard output"), error)),
        }
    }

    /// Tells something worth knowing, on one line.
    pub fn talk(&self, text: &str) {
        self.talk_lines(&printable(text));
    }

    /// Tells something worth knowing. A line break in `text` is one on the terminal, so none may come from a log or a rule.
    pub fn talk_lines(&self, text: &str) {
        if is_logging() {
            tracing::info!("{text}");
        } else if !self.quiet {
            to_terminal(text);
        }
    }

    /// Tells something that must not be missed, on one line.
    pub fn warn(&self, text: &str) {
        let text = printable(text);
        if is_logging() {
            tracing::warn!("{text}");
        } else {
            to_terminal(&text);
        }
    }

    /// Tells an error with its causes and what to do.
    pub fn error(&self, error: &Error) {
        let told = match error {
            // It shows lines of the rule's file.
            Error::Rule(shown) => printable_lines(shown),
            other => printable(&other.to_string()),
        };
        let hint = error.hint().map(|hint| printable(&hint));
        if is_logging() {
            let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
            let because: Vec<String> = causes.map(|cause| printable(&cause.to_string())).collect();
            let because = (!because.is_empty()).then(|| because.join(": "));
            tracing::error!(because, hint, "{told}");
            return;
        }
        let mut lines = vec![format!("error: {told}")];
        for cause in std::iter::successors(std::error::Error::source(error), |cause| cause.source()) {
            let cause = printable(cause.to_string().lines().next().unwrap_or_default());
            // The engine's errors tell their causes too.
            if !lines.last().is_some_and(|told| told.contains(&cause)) {
                lines.push(format!("  because: {cause}"));
            }
        }
        if let Some(hint) = hint {
            lines.push(format!("  hint: {hint}"));
        }
        to_terminal(&lines.join("\n"));
    }

    /// Tells what is wrong with the command line, or writes the help that it asks for.
    pub fn command_line(mut error: clap::Error) {
        if !error.use_stderr() {
            // A reader that has gone away, as `head` does, is not an error.
            error.print().ok();
            return;
        }
        // The values that it repeats may hold line breaks, which are then not those of the message.
        let escaped: Vec<_> = error
            .context()
            .filter_map(|(kind, value)| match value {
                ContextValue::String(one) => Some((kind, ContextValue::String(printable(one)))),
                ContextValue::Strings(several) => {
                    Some((kind, ContextValue::Strings(several.iter().map(|one| printable(one)).collect())))
                }
                _ => None,
            })
            .collect();
        for (kind, value) in escaped {
            error.insert(kind, value);
        }
        to_terminal(error.render().to_string().trim_end());
    }

    /// A progress bar over `total` bytes; shown on a terminal only.
    pub fn progress(&self, total: u64, verb: &'static str) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style).with_message(verb);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// Makes `bar` tell rows in place of bytes, as `scanned` counts them.
    pub fn count_rows(bar: &ProgressBar, scanned: Scanned) {
        let style = ProgressStyle::with_template("{msg} {spinner} {rows} rows scanned, {elapsed}");
        let rows = move |_: &indicatif::ProgressState, to: &mut dyn std::fmt::Write| {
            // A bar that cannot be drawn is no reason to stop.
            write!(to, "{}", HumanCount(scanned.rows())).ok();
        };
        if let Ok(style) = style {
            bar.set_style(style.with_key("rows", rows));
        }
    }

    /// Whether standard output is a terminal.
    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Tells how many of `which` records were left out because another has their `eventID`, and warns where such records
    /// differ.
    pub fn duplicates(&self, duplicates: &Duplicates, which: &str) {
        self.talk(&duplicates.sentence(which));
        self.differing(&duplicates.differing);
    }

    /// Warns of records that share an `eventID` and differ.
    fn differing(self, differing: &DifferingRecords) {
        if let Some(warning) = differing.warning() {
            self.warn(&format!("warning: {}", printable(&warning)));
        }
    }

    /// Tells what was read and what became of it, and the faults.
    pub fn statistics(&self, statistics: &ScanStatistics, used: &str) {
        self.talk(&format!("objects: {}", statistics.objects.sentence(used)));
        if !statistics.members.is_empty() {
            self.talk(&format!("members of archives: {}", statistics.members.sentence(used)));
        }
        self.talk(&format!("records: {}", statistics.records.sentence(used)));
        for (count, what) in [
            (statistics.without_time, "records have no readable time: kept, but in no window"),
            (statistics.replaced_bytes, "invalid UTF-8 sequences were replaced"),
            (statistics.repeated_keys, "records have a key twice: the first value counts"),
        ] {
            if count > 0 {
                self.talk(&format!("note: {count} {what}"));
            }
        }
        self.differing(&statistics.differing);
        self.faults(&statistics.faults, statistics.rejected());
    }

    /// Tells the first of `count` faults.
    pub fn faults(&self, faults: &[Fault], count: u64) {
        for fault in faults.iter().take(SHOWN_FAULTS) {
            self.warn(&format!("rejected: {fault}"));
        }
        if count > SHOWN_FAULTS as u64 {
            self.warn(&format!("rejected: and {} more", count - SHOWN_FAULTS as u64));
        }
    }
}

/// Writes lines to standard error. If standard error is closed, the lines are lost.
fn to_terminal(lines: &str) {
    writeln!(io::stderr(), "{}", printable_lines(lines)).ok();
}

/// Standard error for a log, on which hidden characters are escaped whoever logs them.
struct EscapedLog(LogFormat);

impl io::Write for EscapedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The log writes whole events.
        let event = String::from_utf8_lossy(bytes);
        let escaped = match self.0 {
            LogFormat::Text => printable_lines(&event),
            LogFormat::Json => text::json::escaped(&event).into_owned(),
        };
        io::stderr().write_all(escaped.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Whether standard error holds a log, whose lines are all of one kind.
fn is_logging() -> bool {
    tracing::dispatcher::has_been_set()
}

fn written(path: &Path, source: io::Error) -> Error {
    Error::File { action: "write", path: PathBuf::from(path), source }
}
