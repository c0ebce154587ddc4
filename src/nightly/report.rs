//! The results of a nightly run and of a dry run. Their field names are part of the JSON output.

use std::collections::BTreeMap;

use serde::Serialize;

use super::changes::ChangeCounts;
use super::deliver::DeliveryReport;
use super::state::{PendingDelivery, PendingObject};
use super::verification::VerificationReport;
use crate::error::{Fault, RuleError};
use crate::hunt::exceptions::ExceptionReport;
use crate::hunt::undecided::UndecidedEvents;
use crate::lake::maintenance::MaintenanceSummary;
use crate::risk::RiskRanking;
use crate::statistics::{Duplicates, ScanStatistics};
use crate::time::Instant;

/// The results of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunReport {
    /// Number of the run.
    pub run: u32,
    /// The time that the run used as the current time.
    pub now: Option<Instant>,
    /// Counts of the objects and records that were read.
    pub read: ScanStatistics,
    /// Files added to the lake.
    pub files: usize,
    /// Objects that could not be read. The next run tries them again.
    pub pending: Vec<PendingObject>,
    /// The verification of the converted objects, if the configuration asks for one and there were new objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationReport>,
    /// Sources that could not be listed. The next run lists them equally far back.
    pub unlisted: Vec<Fault>,
    /// Rules of folders that cannot run, and so were not hunted.
    pub skipped_rules: Vec<ReportedRule>,
    /// The effects of exceptions, in the ranges that this run hunted.
    pub exceptions: Vec<ExceptionReport>,
    /// The events that rules in Python could not decide. They count as matches.
    pub undecided: Vec<UndecidedEvents>,
    /// One entry for each hunt.
    pub hunts: Vec<HuntReport>,
    /// The actors by risk, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskRanking>,
    /// Findings of all rules, by how they changed.
    pub findings: ChangeCounts,
    /// Matches in new and grown findings.
    pub matches: u64,
    /// One entry for each delivery that was tried.
    pub deliveries: Vec<DeliveryReport>,
    /// Files that were merged, dropped and deleted in the lake.
    pub maintenance: MaintenanceSummary,
    /// Why maintenance failed. The data stay complete.
    pub maintenance_error: Option<String>,
    /// Time of the latest event.
    pub newest_event: Option<Instant>,
    /// Time of the latest event of each account and region, written `account/region`.
    pub newest: BTreeMap<String, Instant>,
    /// Days without events between the first and the last day with events.
    pub empty_days: Vec<String>,
}

/// One hunt over the lake.
#[derive(Debug, Clone, Serialize)]
pub struct HuntReport {
    /// Ids of the rules.
    pub rules: Vec<String>,
    /// Start of the range of triggers, inclusive.
    pub from: Option<Instant>,
    /// End of the range of triggers, exclusive.
    pub to: Option<Instant>,
    /// Why the rules were hunted: new events, or a new version of the rules.
    pub cause: &'static str,
    /// Duplicates among the matches of any of the rules.
    pub duplicates: Duplicates,
    /// Matches that are not new only because their account is in its learning time.
    pub learning: u64,
    /// Matches of rules that look for absent events, whose period is not over in the data.
    pub open: u64,
}

/// A rule that cannot run.
#[derive(Debug, Clone, Serialize)]
pub struct ReportedRule {
    /// Its file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The reason.
    pub reason: String,
}

impl From<&RuleError> for ReportedRule {
    fn from(error: &RuleError) -> ReportedRule {
        let RuleError { file, line, column, message, .. } = error;
        ReportedRule { file: file.clone(), line: *line, column: *column, reason: message.clone() }
    }
}

impl RunReport {
    /// Returns whether something is left for the next run, or could not be done.
    pub fn is_incomplete(&self) -> bool {
        self.read.is_incomplete()
            || !self.pending.is_empty()
            || !self.unlisted.is_empty()
            || !self.skipped_rules.is_empty()
            || !self.undecided.is_empty()
            || self.verification.as_ref().is_some_and(|verification| !verification.is_sound())
            || self.deliveries.iter().any(|delivery| delivery.error.is_some())
            || self.maintenance_error.is_some()
    }
}

/// The work that a run would do.
#[derive(Debug, Clone, Serialize)]
pub struct RunPlan {
    /// Number of the run.
    pub run: u32,
    /// Objects that are not in the lake yet.
    pub objects: usize,
    /// Bytes of those objects.
    pub bytes: u64,
    /// Commits of the lake that were not hunted yet.
    pub commits: u64,
    /// Ids of rules that are new or have changed.
    pub changed_rules: Vec<String>,
    /// Deliveries left by earlier runs.
    pub pending_deliveries: Vec<PendingDelivery>,
    /// Objects that the last run could not read.
    pub pending: Vec<PendingObject>,
    /// Sources that cannot be listed.
    pub unlisted: Vec<Fault>,
    /// Files of the lake that would be merged.
    pub mergeable: usize,
    /// Files of the lake that would be dropped because of their age.
    pub droppable: usize,
}
