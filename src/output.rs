//! Writes results to standard output or a file, and messages to standard error. The only module that prints.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ContextValue;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::engine::Scanned;
use crate::error::{Error, Fault};
use crate::hunt::exceptions::ExceptionReport;
use crate::report::exceptions;
use crate::statistics::{DifferingRecords, Duplicates, ScanStatistics, number_of};
use crate::store::{self, StagedWriter};
use crate::text::{self, printable, printable_lines};

/// Maximum number of faults to print.
const MAX_FAULTS: usize = 20;

/// The output of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Output {
    /// Whether to print only warnings and errors.
    pub quiet: bool,
    /// Whether to print details.
    pub verbose: bool,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

impl Output {
    /// Starts to print warnings and errors to standard error, for a person at a terminal.
    pub fn log_problems() {
        let filter = tracing_subscriber::filter::Targets::new()
            .with_default(tracing::Level::WARN)
            .with_target("delta_kernel", tracing_subscriber::filter::LevelFilter::OFF);
        let layer = tracing_subscriber::fmt::layer().with_writer(|| EscapedLog(LogFormat::Text)).with_ansi(false);
        let layer = layer.without_time().with_target(false);
        tracing_subscriber::registry().with(filter).with(layer).try_init().ok();
    }

    /// Prints a line of JSON to standard error, as a part of a log in that format.
    pub fn log_object(&self, json: &str) {
        if !self.quiet {
            to_terminal(json);
        }
    }

    /// Starts to log events of `level` and above to standard error.
    pub fn log(&self, level: tracing::Level, format: LogFormat) {
        let level = if self.quiet { level.min(tracing::Level::WARN) } else { level };
        // Other crates log every request at lower levels, so show only their warnings and errors.
        let filter = tracing_subscriber::filter::Targets::new()
            .with_target("tawny", level)
            .with_default(level.min(tracing::Level::WARN))
            // It logs as errors what is none here, such as a table that does not exist yet. Its errors come back anyway.
            .with_target("delta_kernel", tracing_subscriber::filter::LevelFilter::OFF);
        let layer = tracing_subscriber::fmt::layer().with_writer(move || EscapedLog(format)).with_ansi(false);
        let registry = tracing_subscriber::registry().with(filter);
        // Tests call this more than once. Later calls keep the first log.
        match format {
            LogFormat::Text => registry.with(layer).try_init().ok(),
            LogFormat::Json => registry.with(layer.json()).try_init().ok(),
        };
    }

    /// Writes a result to standard output, or to `file`, all or nothing.
    ///
    /// A closed pipe, as `head` leaves it, is not an error.
    pub fn result(&self, text: &str, file: Option<&Path>) -> Result<(), Error> {
        self.bytes(text.as_bytes(), file)
    }

    /// Writes a delivery to standard output. A closed pipe is an error, because the delivery has then failed.
    pub fn deliver(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        let result = stdout.write_all(bytes).and_then(|()| stdout.flush());
        result.map_err(|error| write_error(Path::new("standard output"), error))
    }

    /// Writes a binary result. See [`Output::result`].
    pub fn bytes(&self, bytes: &[u8], file: Option<&Path>) -> Result<(), Error> {
        let mut to = self.open(file)?;
        to.write(bytes)?;
        to.finish()
    }

    /// Returns a writer for a result that is written piece by piece. See [`Output::result`].
    pub fn open(&self, file: Option<&Path>) -> Result<ResultWriter, Error> {
        let Some(path) = file else {
            return Ok(ResultWriter::StandardOutput(Some(io::BufWriter::new(io::stdout()))));
        };
        // A device, or a link to a missing file. Neither can be replaced by a renamed file.
        if path.symlink_metadata().is_ok() && !path.is_file() {
            store::destination(path)?;
            let file = std::fs::File::create(path).map_err(|source| write_error(path, source))?;
            return Ok(ResultWriter::Device(io::BufWriter::new(file), path.to_path_buf()));
        }
        let path = store::destination(path)?;
        let file = StagedWriter::create(&path, store::folder_of(&path));
        Ok(ResultWriter::File(file.map_err(|source| write_error(&path, source))?, path))
    }

    /// Prints an informational message on one line.
    pub fn talk(&self, text: &str) {
        self.talk_lines(&printable(text));
    }

    /// Prints a message that matters only to those who look for it.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            self.talk(text);
        }
    }

    /// Prints an informational message. Line breaks in `text` are printed, so none may come from a log or a rule.
    pub fn talk_lines(&self, text: &str) {
        if is_logging() {
            tracing::info!("{text}");
        } else if !self.quiet {
            to_terminal(text);
        }
    }

    /// Prints a warning on one line.
    pub fn warn(&self, text: &str) {
        let text = printable(text);
        if is_logging() {
            tracing::warn!("{text}");
        } else {
            to_terminal(&text);
        }
    }

    /// Prints an error with its causes and its hint.
    pub fn error(&self, error: &Error) {
        let message = match error {
            // These messages quote lines of the rules' files.
            Error::Rules(errors) => {
                let errors = errors.iter().map(|error| printable_lines(&error.to_string()));
                errors.collect::<Vec<_>>().join("\nerror: ")
            }
            other => printable(&other.to_string()),
        };
        let hint = error.hint().map(|hint| printable(&hint));
        if is_logging() {
            let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
            let because: Vec<String> = causes.map(|cause| printable(&cause.to_string())).collect();
            let because = (!because.is_empty()).then(|| because.join(": "));
            tracing::error!(because, hint, "{message}");
            return;
        }
        let mut lines = vec![format!("error: {message}")];
        for cause in std::iter::successors(std::error::Error::source(error), |cause| cause.source()) {
            let cause = printable(cause.to_string().lines().next().unwrap_or_default());
            // Messages of the engine already contain their causes.
            if !lines.last().is_some_and(|line| line.contains(&cause)) {
                lines.push(format!("  because: {cause}"));
            }
        }
        if let Some(hint) = hint {
            lines.push(format!("  hint: {hint}"));
        }
        to_terminal(&lines.join("\n"));
    }

    /// Prints an error of the command line, or the requested help.
    pub fn command_line(mut error: clap::Error) {
        if !error.use_stderr() {
            // A closed pipe, as `head` leaves it, is not an error.
            error.print().ok();
            return;
        }
        // Escape the values that the message quotes: they may contain line breaks.
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

    /// Returns a progress bar over `total` bytes. It is visible only on a terminal.
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

    /// Makes `bar` show the rows that `scanned` counts instead of bytes.
    pub fn count_rows(bar: &ProgressBar, scanned: Scanned) {
        let style = ProgressStyle::with_template("{msg} {spinner} {rows} rows scanned, {elapsed}");
        let rows = move |_: &indicatif::ProgressState, to: &mut dyn std::fmt::Write| {
            // Ignore a failure to draw the bar.
            write!(to, "{}", HumanCount(scanned.rows())).ok();
        };
        if let Ok(style) = style {
            bar.set_style(style.with_key("rows", rows));
        }
    }

    /// Returns whether standard error is a terminal.
    pub fn is_read_by_a_person() -> bool {
        io::stderr().is_terminal()
    }

    /// Returns whether standard output is a terminal.
    pub fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Says how many bytes of results a cluster returned, if one was used.
    pub fn cluster_results(&self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.talk(&format!("note: the cluster returned {}", number_of(bytes, "byte")));
        }
    }

    /// Prints the number of duplicates among `which` records, and warns if records with one `eventID` differ.
    pub fn duplicates(&self, duplicates: &Duplicates, which: &str) {
        self.talk(&duplicates.sentence(which));
        self.differing(&duplicates.differing);
    }

    /// Prints the effects of exceptions. Warns if one has expired or matched nothing.
    pub fn exceptions(&self, reports: &[ExceptionReport]) {
        let table = exceptions::table(reports);
        if !table.is_empty() {
            self.talk_lines(table.trim_end());
        }
        for warning in exceptions::warnings(reports) {
            self.warn(&format!("warning: {warning}"));
        }
    }

    /// Warns about records that share an `eventID` but differ.
    fn differing(self, differing: &DifferingRecords) {
        if let Some(warning) = differing.warning() {
            self.warn(&format!("warning: {}", printable(&warning)));
        }
    }

    /// Prints the counts of what was read, by outcome, and the faults.
    pub fn statistics(&self, statistics: &ScanStatistics, used: &str) {
        self.talk(&format!("objects: {}", statistics.objects.sentence(used)));
        if !statistics.members.is_empty() {
            self.talk(&format!("members of archives: {}", statistics.members.sentence(used)));
        }
        self.talk(&format!("records: {}", statistics.records.sentence(used)));
        for (count, note) in [
            (statistics.without_time, "records have no readable time: kept, but in no window"),
            (statistics.replaced_bytes, "invalid UTF-8 sequences were replaced"),
            (statistics.repeated_keys, "records have a key twice: the first value counts"),
        ] {
            if count > 0 {
                self.talk(&format!("note: {count} {note}"));
            }
        }
        self.differing(&statistics.differing);
        self.faults(&statistics.faults, statistics.rejected());
    }

    /// Prints the first of `count` faults.
    pub fn faults(&self, faults: &[Fault], count: u64) {
        for fault in faults.iter().take(MAX_FAULTS) {
            self.warn(&format!("rejected: {fault}"));
        }
        if count > MAX_FAULTS as u64 {
            self.warn(&format!("rejected: and {} more", count - MAX_FAULTS as u64));
        }
    }
}

/// Writes a result piece by piece.
#[derive(Debug)]
pub enum ResultWriter {
    /// Standard output; `None` once its reader has closed it.
    StandardOutput(Option<io::BufWriter<io::Stdout>>),
    /// A device, which is written at once.
    Device(io::BufWriter<std::fs::File>, PathBuf),
    /// A file, which is written all or nothing.
    File(StagedWriter, PathBuf),
}

impl ResultWriter {
    /// Writes a piece. Returns whether the reader wants more.
    ///
    /// # Errors
    /// The target cannot be written. A closed pipe, as `head` leaves it, is not an error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        match self {
            ResultWriter::StandardOutput(None) => return Ok(false),
            ResultWriter::StandardOutput(Some(to)) => {
                if !is_open(to.write_all(bytes))? {
                    *self = ResultWriter::StandardOutput(None);
                    return Ok(false);
                }
            }
            ResultWriter::Device(to, path) => to.write_all(bytes).map_err(|source| write_error(path, source))?,
            ResultWriter::File(to, path) => to.write_all(bytes).map_err(|source| write_error(path, source))?,
        }
        Ok(true)
    }

    /// Completes the result.
    ///
    /// # Errors
    /// As for [`ResultWriter::write`].
    pub fn finish(self) -> Result<(), Error> {
        match self {
            ResultWriter::StandardOutput(None) => Ok(()),
            ResultWriter::StandardOutput(Some(mut to)) => is_open(to.flush()).map(|_| ()),
            ResultWriter::Device(mut to, path) => to.flush().map_err(|source| write_error(&path, source)),
            ResultWriter::File(to, path) => to.finish().map_err(|source| write_error(&path, source))?.publish(),
        }
    }
}

/// Returns whether standard output is open after a write.
fn is_open(written: io::Result<()>) -> Result<bool, Error> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(write_error(Path::new("standard output"), error)),
    }
}

/// Writes lines to standard error. If it is closed, they are lost.
fn to_terminal(lines: &str) {
    writeln!(io::stderr(), "{}", printable_lines(lines)).ok();
}

/// Writes a log to standard error, with hidden characters escaped.
struct EscapedLog(LogFormat);

impl io::Write for EscapedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Each call writes a complete event.
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

/// Returns whether standard error is a log. Then every message must be a log event.
fn is_logging() -> bool {
    tracing::dispatcher::has_been_set()
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::File { action: "write", path: PathBuf::from(path), source }
}
