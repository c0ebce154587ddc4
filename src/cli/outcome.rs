//! Whether a run read what it was asked to read: if not, it ends with 3 and says why.

use super::Context;
use crate::engine::Resources;
use crate::engine::columnar_table::Columnar;
use crate::error::Error;
use crate::hunt::coverage::{Coverage, coverage, is_cloudtrail, newest_event};
use crate::hunt::{Data, RawTrail};
use crate::output::Output;
use crate::tally::{Tally, number_of};
use crate::time::{self, Range};
use crate::trail::Selection;

/// The data that a command has read, and the range that it was asked for.
#[derive(Clone, Copy)]
pub(super) struct ReadSummary<'r> {
    pub(super) resources: &'r Resources,
    pub(super) data: &'r Data,
    /// The range that was asked for.
    pub(super) range: Range,
    /// What became of the records: `hunted` or `queried`.
    pub(super) used: &'static str,
    /// Whether the result itself shows that there were records.
    pub(super) has_results: bool,
}

impl ReadSummary<'_> {
    /// Reports what was read, and what could not be; returns whether all could.
    pub(super) async fn report(self, context: &Context) -> Result<bool, Error> {
        let output = context.output;
        Ok(match self.data {
            Data::Raw(trail) => {
                let tally = trail.read();
                output.tally(&tally, self.used);
                if trail.found_none() {
                    return self.report_no_objects(output, trail).await;
                }
                if !of_objects(output, &tally) {
                    return Ok(false);
                }
                if self.has_results {
                    return Ok(true);
                }
                if tally.is_all_skipped_by_prefilter() && !is_cloudtrail(self.resources, trail).await? {
                    output.warn("warning: nothing was read: the objects looked into hold no CloudTrail records");
                    output.warn("  hint: `tawny inspect --read` says what they hold");
                    return Ok(false);
                }
                report_times(output, &tally, self.range);
                self.report_coverage(output).await?
            }
            Data::Columnar(columnar) => {
                let (faults, notes) = (columnar.faults(), columnar.notes());
                report_table(output, columnar);
                output.faults(&faults, faults.len() as u64);
                for note in &notes {
                    output.warn(&format!("warning: {note}"));
                }
                let is_complete = faults.is_empty() && notes.is_empty();
                (self.has_results || self.report_coverage(output).await?) && is_complete
            }
            Data::Lake(_) => self.has_results || self.report_coverage(output).await?,
            Data::Memory(_) => true,
        })
    }

    /// For a result that is empty: reports where a table holds no record that was asked for; returns whether it was read
    /// as asked.
    pub(super) async fn report_coverage(self, output: Output) -> Result<bool, Error> {
        match coverage(self.resources, self.data, self.range).await? {
            Coverage::Covered => {}
            Coverage::Empty if matches!(self.data, Data::Lake(_)) => output.warn("note: the lake is empty"),
            Coverage::Empty => {
                output.warn("warning: nothing was read: the files hold no records");
                return Ok(false);
            }
            Coverage::NotSelected => {
                output.warn("warning: nothing was read: there are no events of the accounts and regions");
                return Ok(false);
            }
            Coverage::OutOfRange { oldest, newest } => report_span(output, oldest, newest),
        }
        Ok(true)
    }

    /// As [`ReadSummary::report`], of data that were looked for and not read.
    pub(super) async fn report_found(self, output: Output, objects: u64) -> Result<bool, Error> {
        Ok(match self.data {
            _ if objects > 0 => true,
            Data::Raw(trail) if trail.found_none() => self.report_no_objects(output, trail).await?,
            Data::Raw(_) => {
                output.warn("warning: nothing would be read: no object holds CloudTrail records");
                false
            }
            _ => self.report_coverage(output).await?,
        })
    }

    /// Reports that no object of `trail` was found, and of what time its newest event is; returns that the run is incomplete.
    async fn report_no_objects(self, output: Output, trail: &RawTrail) -> Result<bool, Error> {
        let is_complete = no_objects(output, trail.selection(), self.range);
        if self.range != Range::default()
            && let Some(newest) = newest_event(self.resources, trail).await?
        {
            output
                .warn(&format!("note: the newest event in the objects delivered last is of {}", time::rfc3339(newest)));
        }
        Ok(is_complete)
    }
}

/// Reports the layouts of a table's files, and what their values lack.
fn report_table(output: Output, columnar: &Columnar) {
    for (layout, files) in columnar.layouts() {
        output.talk(&format!("layout: {layout} ({})", number_of(files, "file")));
    }
    let lacking = columnar.identity_lacks();
    if !lacking.is_empty() {
        let lacking = lacking.iter().map(|member| format!("`{member}`")).collect::<Vec<_>>().join(", ");
        output.warn(&format!(
            "warning: `userIdentity` has no {lacking} in these data: principals that only this tells apart have one `actor`"
        ));
    }
    let replaced = columnar.replaced();
    if replaced > 0 {
        output.talk(&format!("note: {replaced} invalid UTF-8 sequences were replaced"));
    }
}

/// Reports that no object of a raw trail was found; returns that the run is incomplete.
pub(super) fn no_objects(output: Output, selection: &Selection, range: Range) -> bool {
    let whose = if selection.is_narrowed() { " of the accounts and regions that were asked for" } else { "" };
    let when = if range == Range::default() { "" } else { " that may hold events of the range" };
    output.warn(&format!("warning: nothing was read: no objects were found{whose}{when}"));
    if !when.is_empty() {
        output.warn("  hint: `tawny inspect` without a range shows the days that the data hold");
    }
    false
}

/// Reports where objects that were found hold nothing of a trail; returns whether all were read.
pub(super) fn of_objects(output: Output, tally: &Tally) -> bool {
    if tally.is_all_skipped() {
        let objects = number_of(tally.objects.read, "object");
        output.warn(&format!("warning: nothing was read: {objects}, and none with CloudTrail records"));
        return false;
    }
    !tally.is_incomplete()
}

/// Reports where the events that were read are all older or newer than the range.
fn report_times(output: Output, tally: &Tally, range: Range) {
    // The times of what was skipped by its text alone are not known.
    let is_known = tally.objects.passed_over + tally.records.passed_over == 0;
    if let Some((oldest, newest)) = tally.times.filter(|_| is_known)
        && !range.overlaps(oldest, newest)
    {
        report_span(output, oldest, newest);
    }
}

fn report_span(output: Output, oldest: i64, newest: i64) {
    let [oldest, newest] = [oldest, newest].map(time::rfc3339);
    output.warn(&format!("note: nothing in the range: the oldest event is of {oldest}, the newest of {newest}"));
}

/// Warns where the selection may cut bursts of a raw trail.
pub(super) fn warn_of_cuts(output: Output, data: &Data) {
    let Data::Raw(trail) = data else { return };
    if trail.selection().is_narrowed() {
        output.warn(
            "warning: with `--account` or `--region` only objects of these are read: bursts that span others may be cut, \
             and events of global services such as IAM lie in us-east-1",
        );
    }
}
