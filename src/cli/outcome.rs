//! Whether a run read what it was asked to read: if not, it ends with 3 and says why.

use super::Context;
use crate::engine::Resources;
use crate::error::Error;
use crate::output::Output;
use crate::statistics::{ScanStatistics, number_of};
use crate::table::{Coverage, Listing, Table, TableKind, TableReport};
use crate::time::{self, Range};

/// The data that a command has read, and the range that it was asked for.
#[derive(Clone, Copy)]
pub(super) struct ReadSummary<'r> {
    pub(super) resources: &'r Resources,
    pub(super) table: &'r dyn Table,
    /// The range that was asked for.
    pub(super) range: Range,
    /// What became of the records: `hunted` or `queried`.
    pub(super) used: &'static str,
    /// Whether the result itself shows that there were records.
    pub(super) has_results: bool,
}

impl ReadSummary<'_> {
    /// Reports what was read, and what could not be; returns whether all could.
    pub(super) async fn report(self, context: &Context, read: &ScanStatistics) -> Result<bool, Error> {
        let output = context.output;
        let mut is_complete = report_files(output, &self.table.report());
        if self.table.kind() == TableKind::Raw {
            output.statistics(read, self.used);
            if read.objects.read > 0 && !of_objects(output, read) {
                return Ok(false);
            }
        }
        is_complete &= self.has_results || self.report_coverage(output, read).await?;
        Ok(is_complete)
    }

    /// For a result that is empty: reports why; returns whether the table was read as asked.
    pub(super) async fn report_coverage(self, output: Output, read: &ScanStatistics) -> Result<bool, Error> {
        match self.table.coverage(self.resources, self.range, read).await? {
            Coverage::Covered => return Ok(true),
            Coverage::OutOfRange { oldest, newest } => {
                let [oldest, newest] = [oldest, newest].map(time::rfc3339);
                output.warn(&format!(
                    "note: nothing in the range: the oldest event is of {oldest}, the newest of {newest}"
                ));
                return Ok(true);
            }
            Coverage::Empty if self.table.kind() == TableKind::Lake => {
                output.warn("note: the lake is empty");
                return Ok(true);
            }
            Coverage::Empty => output.warn("warning: nothing was read: the files hold no records"),
            Coverage::NotSelected => {
                output.warn("warning: nothing was read: there are no events of the accounts and regions");
            }
            Coverage::NoObjects { newest } => {
                no_objects(output, !self.resources.selection.is_all(), self.range);
                if let Some(newest) = newest {
                    output.warn(&format!("note: the newest event in the objects delivered last is of {newest}"));
                }
            }
            Coverage::NoCloudTrail => {
                output.warn("warning: nothing was read: the objects looked into hold no CloudTrail records");
                output.warn("  hint: `tawny inspect --read` says what they hold");
            }
        }
        Ok(false)
    }

    /// As [`ReadSummary::report`], of a table that was listed and not read.
    pub(super) async fn report_listing(self, output: Output, listing: &Listing) -> Result<bool, Error> {
        if listing.objects > 0 {
            return Ok(true);
        }
        if self.table.kind() == TableKind::Raw && listing.excluded.objects.read > 0 {
            output.warn("warning: nothing would be read: no object holds CloudTrail records");
            return Ok(false);
        }
        self.report_coverage(output, &listing.excluded).await
    }
}

/// Reports what is known of a table's files; returns whether all could be read and have what rules need.
fn report_files(output: Output, report: &TableReport) -> bool {
    for (layout, files) in &report.layouts {
        output.talk(&format!("layout: {layout} ({})", number_of(*files, "file")));
    }
    if !report.identity_lacks.is_empty() {
        let lacking = report.identity_lacks.iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
        output.warn(&format!(
            "warning: `userIdentity` has no {lacking} in these data: principals that only this tells apart have one `actor`"
        ));
    }
    if report.replaced_bytes > 0 {
        output.talk(&format!("note: {} invalid UTF-8 sequences were replaced", report.replaced_bytes));
    }
    output.faults(&report.faults, report.faults.len() as u64);
    for note in &report.notes {
        output.warn(&format!("warning: {note}"));
    }
    report.faults.is_empty() && report.notes.is_empty()
}

/// Reports that no object of a raw trail was found; returns that the run is incomplete.
pub(super) fn no_objects(output: Output, is_narrowed: bool, range: Range) -> bool {
    let whose = if is_narrowed { " of the accounts and regions that were asked for" } else { "" };
    let when = if range == Range::default() { "" } else { " that may hold events of the range" };
    output.warn(&format!("warning: nothing was read: no objects were found{whose}{when}"));
    if !when.is_empty() {
        output.warn("  hint: `tawny inspect` without a range shows the days that the data hold");
    }
    false
}

/// Reports where objects that were found hold nothing of a trail; returns whether all were read.
pub(super) fn of_objects(output: Output, statistics: &ScanStatistics) -> bool {
    if statistics.is_all_skipped() {
        let objects = number_of(statistics.objects.read, "object");
        output.warn(&format!("warning: nothing was read: {objects}, and none with CloudTrail records"));
        return false;
    }
    !statistics.is_incomplete()
}
