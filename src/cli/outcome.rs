//! Reports what a run read, and sets exit status 3 if some requested data was not read.

use crate::engine::Engine;
use crate::error::{Error, Status};
use crate::hunt::undecided::UndecidedEvents;
use crate::lake::transaction_log::VerifiedObjects;
use crate::output::Output;
use crate::statistics::{ScanStatistics, number_of};
use crate::table::{Coverage, Table, TableKind, TableListing, TableReport};
use crate::text::printable;
use crate::time::Range;

/// The table and range that a command has read.
#[derive(Clone, Copy)]
pub(super) struct ReadSummary<'r> {
    pub(super) engine: &'r Engine,
    pub(super) table: &'r dyn Table,
    /// The requested range.
    pub(super) range: Range,
    /// The verb for the records: `hunted` or `queried`.
    pub(super) used: &'static str,
    /// Whether the result itself shows that there were records.
    pub(super) has_results: bool,
    /// What records without a readable time cannot do: "no rule can find anything". `None` if their times do not matter.
    pub(super) without_times: Option<&'static str>,
}

impl ReadSummary<'_> {
    /// Reports what was read and what could not be read.
    pub(super) async fn report(self, output: Output, read: &ScanStatistics) -> Result<Status, Error> {
        let status = report_files(output, &self.table.report());
        if let Some(version) = read.table_version {
            output.talk(&format!("table version: {version} (`--as-of {version}` reads it again)"));
        }
        match self.table.verified_objects(self.range).await? {
            Some(VerifiedObjects { objects, verified }) => {
                let count =
                    if verified == objects { format!("all {objects}") } else { format!("{verified} of {objects}") };
                output.talk(&format!("objects: {count} were verified by digests when they were converted"));
            }
            None if self.table.kind() == TableKind::Lake => {
                output.detail("objects: none were verified by digests when they were converted");
            }
            None => {}
        }
        if self.table.kind() == TableKind::Raw {
            output.statistics(read, self.used);
            if read.objects.read > 0 && report_objects(output, read) != Status::Done {
                self.report_missing_times(output, read);
                return Ok(Status::Incomplete);
            }
        }
        let status = status.max(self.report_missing_times(output, read));
        if self.has_results { Ok(status) } else { Ok(status.max(self.report_coverage(output, read).await?)) }
    }

    /// Warns if no record that was read has a readable time, and the result needs one.
    fn report_missing_times(self, output: Output, read: &ScanStatistics) -> Status {
        match self.without_times.filter(|_| read.has_no_times()) {
            None => Status::Done,
            Some(consequence) => {
                warn_of_missing_times(output, consequence, &number_of(read.records.used, "record"));
                Status::Incomplete
            }
        }
    }

    /// Explains an empty result. The status is `Done` if the table was read as requested.
    async fn report_coverage(self, output: Output, read: &ScanStatistics) -> Result<Status, Error> {
        match self.table.coverage(self.engine, self.range, read).await? {
            Coverage::Covered => return Ok(Status::Done),
            Coverage::WithoutTimes => match self.without_times {
                None => return Ok(Status::Done),
                Some(consequence) => warn_of_missing_times(output, consequence, "the records"),
            },
            Coverage::OutOfRange { oldest, newest } => {
                output.warn(&format!("note: no events in the range: the data spans {oldest} to {newest}"));
                return Ok(Status::Done);
            }
            Coverage::Empty if self.table.kind() == TableKind::Lake => {
                output.warn("note: the lake is empty");
                return Ok(Status::Done);
            }
            Coverage::Empty => output.warn("warning: nothing was read: the files hold no records"),
            Coverage::NotSelected => {
                output.warn("warning: nothing was read: there are no events of the selected accounts and regions");
            }
            Coverage::NoObjects { newest } => {
                report_no_objects(output, !self.engine.selection.is_all(), self.range);
                if let Some(newest) = newest {
                    output.warn(&format!(
                        "note: the newest event in the most recently delivered objects is from {newest}"
                    ));
                }
            }
            Coverage::NoCloudTrail => {
                output.warn("warning: nothing was read: the sampled objects hold no CloudTrail records");
                output.warn("  hint: run `tawny inspect --read` to see what they hold");
            }
        }
        Ok(Status::Incomplete)
    }

    /// Reports like [`ReadSummary::report`], for a table that was only listed.
    pub(super) async fn report_listing(self, output: Output, listing: &TableListing) -> Result<Status, Error> {
        if listing.objects > 0 {
            return Ok(Status::Done);
        }
        if self.table.kind() == TableKind::Raw && listing.excluded.objects.read > 0 {
            output.warn("warning: nothing would be read: no object holds CloudTrail records");
            return Ok(Status::Incomplete);
        }
        self.report_coverage(output, &listing.excluded).await
    }
}

/// Returns the exit status of a run that has read all or only part of its input.
fn complete_if(is_complete: bool) -> Status {
    if is_complete { Status::Done } else { Status::Incomplete }
}

/// Reports the layouts and faults of a table's files. The status is `Done` if all could be read and have the columns that
/// rules need.
fn report_files(output: Output, report: &TableReport) -> Status {
    for (layout, files) in &report.layouts {
        output.talk(&format!("layout: {layout} ({})", number_of(*files, "file")));
    }
    if !report.identity_lacks.is_empty() {
        let lacking = report.identity_lacks.iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
        output.warn(&format!(
            "warning: `userIdentity` has no {lacking} in this data: `actor` is the same for principals that differ only there"
        ));
    }
    if report.replaced_bytes > 0 {
        output.talk(&format!("note: {} replaced", number_of(report.replaced_bytes, "invalid UTF-8 sequence")));
    }
    output.faults(&report.faults, report.faults.len() as u64);
    for note in &report.notes {
        output.warn(&format!("warning: {note}"));
    }
    complete_if(report.faults.is_empty() && report.notes.is_empty())
}

/// Warns that none of `records` has a readable time, and says what follows.
fn warn_of_missing_times(output: Output, consequence: &str, records: &str) {
    output.warn(&format!("warning: {consequence}: none of {records} has a readable `eventTime`"));
    output
        .warn("  hint: CloudTrail writes times such as 2026-09-01T23:52:10Z; another tool may have renamed the field");
}

/// Warns about the events that rules could not decide.
pub(super) fn report_undecided(output: Output, undecided: &[UndecidedEvents]) -> Status {
    for events in undecided {
        output.warn(&printable(&format!("warning: {}", events.sentence())));
    }
    complete_if(undecided.is_empty())
}

/// Reports that a raw trail has no objects for the request.
pub(super) fn report_no_objects(output: Output, is_narrowed: bool, range: Range) -> Status {
    let whose = if is_narrowed { " for the selected accounts and regions" } else { "" };
    let when = if range == Range::default() { "" } else { " that may hold events of the range" };
    output.warn(&format!("warning: nothing was read: no objects found{whose}{when}"));
    if !when.is_empty() {
        output.warn("  hint: run `tawny inspect` without a range to see the days in the data");
    }
    Status::Incomplete
}

/// Warns if no object holds CloudTrail records.
pub(super) fn report_objects(output: Output, statistics: &ScanStatistics) -> Status {
    if statistics.is_all_skipped() {
        let objects = number_of(statistics.objects.read, "object");
        output.warn(&format!("warning: nothing was read: {objects}, none with CloudTrail records"));
    }
    complete_if(!statistics.is_all_skipped() && !statistics.is_incomplete())
}
