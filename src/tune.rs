//! Proposes changes of a rule that keep its true findings and remove false ones: another window, and exceptions.
//!
//! Labels say which events are malicious. A grid of windows and the values of events in false findings give proposals. Each
//! proposal is then hunted, and counts as what that hunt finds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::backtest::grid::Grid;
use crate::backtest::labels::{Label, Labelled, Score, Unlabelled, Verdict};
use crate::backtest::{Backtest, TestedWindows};
use crate::engine::Engine;
use crate::error::Error;
use crate::finding::Finding;
use crate::hunt::exceptions::{ExceptedHunt, RuleEffects};
use crate::hunt::grid::MatchesNeeded;
use crate::hunt::undecided::UndecidedEvents;
use crate::rule::exceptions::Exception;
use crate::rule::{Predicate, Rule, Window};
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::Table;
use crate::time::{Instant, Range};

mod candidates;
mod event_values;
mod exception_text;

pub use candidates::ValueCondition;
pub use exception_text::{ExceptionDefaults, exceptions_file};

use candidates::{FalseFinding, cover};
use event_values::EventValues;

/// What to tune, and how.
#[derive(Debug)]
pub struct TuneRequest<'t> {
    /// The rule.
    pub rule: &'t Rule,
    /// Known malicious and benign events.
    pub labels: &'t [Label],
    /// How to count findings without a label.
    pub unlabelled: Unlabelled,
    /// The times of triggers of findings.
    pub range: Range,
    /// The windows to try, of the rule's own kind.
    pub grid: &'t Grid,
    /// The most exceptions of a proposal.
    pub max_exceptions: usize,
    /// The parts of new exceptions that are not conditions.
    pub defaults: &'t ExceptionDefaults,
}

/// The proposals for a rule.
#[derive(Debug, Serialize)]
pub struct Tuning {
    /// The id of the rule.
    pub rule_id: String,
    /// The findings of the rule without a change.
    pub present: Effect,
    /// The proposals, each hunted.
    pub proposals: Vec<Proposal>,
    /// The index of the best proposal. `None` if no proposal keeps all true findings and removes a false one.
    pub best: Option<usize>,
    /// The events that the rule could not decide. They count as matches.
    pub undecided: Vec<UndecidedEvents>,
    /// The scan statistics.
    #[serde(skip)]
    pub read: ScanStatistics,
    /// The duplicates among matches.
    #[serde(skip)]
    pub duplicates: Duplicates,
}

/// Changes of a rule and their effect.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// Another window of the rule's kind. `None` to keep the present one.
    pub window: Option<ProposedWindow>,
    /// New exceptions.
    pub exceptions: Vec<ProposedException>,
    /// The result of a hunt with the changes.
    pub effect: Effect,
    /// The lost true findings of the present rule: none of their malicious events is in a finding.
    pub lost_true_findings: usize,
    /// The fewest events in one window of a true finding, if the window is another one than now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smallest_true_peak: Option<u64>,
    /// Whether all malicious labels are caught that the present rule catches, and no true finding is lost.
    pub keeps_true_findings: bool,
}

/// A new window. Its kind is that of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProposedWindow {
    /// The threshold.
    pub threshold: u32,
    /// The period, such as `15m`.
    pub period: String,
    /// The window.
    #[serde(skip)]
    pub window: Window,
}

impl From<Window> for ProposedWindow {
    fn from(window: Window) -> ProposedWindow {
        ProposedWindow { threshold: window.threshold.get(), period: window.period.to_string(), window }
    }
}

/// A new exception and its effect within the proposal.
#[derive(Debug, Clone, Serialize)]
pub struct ProposedException {
    /// Its id.
    pub id: String,
    /// Its condition: one or two fields with their values.
    pub when: Vec<ValueCondition>,
    /// The events of the range that match the rule and satisfy the condition.
    pub events_removed: u64,
    /// The findings that the proposal would have without this exception and not with it.
    pub findings_removed: u64,
}

/// The findings of a hunt, compared with labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// Findings with a malicious event.
    pub true_findings: usize,
    /// Findings without one that count.
    pub false_findings: usize,
    /// Malicious labels with an event in a finding.
    pub caught: usize,
    /// The line numbers of the other malicious labels.
    pub missed: Vec<u64>,
    /// The events that exceptions of the proposal remove.
    pub events_removed: u64,
}

impl Proposal {
    /// Returns the number of changes.
    pub fn changes(&self) -> usize {
        usize::from(self.window.is_some()) + self.exceptions.len()
    }
}

/// Proposes changes of a rule.
///
/// # Errors
/// As for a hunt, or no label is malicious.
pub async fn tune(engine: &Engine, table: &dyn Table, request: &TuneRequest<'_>) -> Result<Tuning, Error> {
    let TuneRequest { rule, labels, unlabelled, range, grid, .. } = *request;
    if !labels.iter().any(|label| label.malicious) {
        return Err(Error::Usage {
            message: "no label is malicious, so nothing says which findings to keep".to_owned(),
            hint: Some("add a line for an event or an actor with the label `malicious`".to_owned()),
        });
    }
    let windows = TestedWindows { grid, others: &[], matches: MatchesNeeded::All };
    let tested = Backtest::run(engine, table, rule.clone(), windows, range).await?;
    let matches = &tested.hunt.matches;
    let labelled = Labelled::new(labels.to_vec(), matches, range, unlabelled);
    let score = |cell: usize| labelled.score(matches, &tested.hunt.findings[cell]);
    let present_cell = tested.present();
    let present = score(present_cell);
    let values = EventValues::read(engine, table, rule, matches).await?;
    let better_cell = better_window(&tested, &labelled, &present, score);
    let mut plans: Vec<(Option<Window>, Vec<Vec<ValueCondition>>)> = Vec::new();
    for cell in std::iter::once(present_cell).chain(better_cell) {
        let window = tested.cells[cell].setting.window;
        let changed = (window != rule.window).then_some(window);
        let mut protected: Vec<usize> = labelled.malicious_matches().collect();
        let mut false_findings = Vec::new();
        for found in &tested.hunt.findings[cell] {
            match labelled.verdict(matches, found) {
                Verdict::True => protected.extend(matches.matches_of(found)),
                Verdict::False => false_findings.push(FalseFinding(matches.matches_of(found))),
                Verdict::NotCounted => {}
            }
        }
        let false_findings = (false_findings.as_slice(), present.false_findings);
        let conditions = cover(&values, false_findings, &protected, request.max_exceptions);
        plans.extend(changed.map(|window| (Some(window), Vec::new())));
        plans.extend((1..=conditions.len()).map(|count| (changed, conditions[..count].to_vec())));
    }
    let judge = Judge { labels: LabelledIds::new(&labelled, matches), present: &present };
    let mut tuning = judge.hunt(engine, table, request, plans).await?;
    tuning.read = tested.hunt.read;
    tuning.duplicates = tested.hunt.duplicates;
    Ok(tuning)
}

/// Returns the cell with the fewest false findings. It must have fewer than the present one, catch the same labels and lose no
/// true finding. Of equal cells the one with fewer and smaller changes is best. Longer periods do not
/// count: they join findings instead of removing them.
fn better_window(
    tested: &Backtest,
    labelled: &Labelled,
    present: &Score,
    score: impl Fn(usize) -> Score,
) -> Option<usize> {
    let own = tested.rule.setting();
    let malicious: HashSet<usize> = labelled.malicious_matches().collect();
    let malicious_of = |cell: usize| {
        let matches = &tested.hunt.matches;
        let of_finding = |found| matches.matches_of(found).into_iter().filter(|number| malicious.contains(number));
        tested.hunt.findings[cell].iter().map(|found| of_finding(found).collect()).collect::<Vec<Vec<usize>>>()
    };
    let true_findings = malicious_of(tested.present());
    let candidates = tested.cells.iter().enumerate().filter(|(_, cell)| {
        let setting = cell.setting;
        let is_of_rule = setting.window.kind == own.window.kind && setting.newness == own.newness;
        is_of_rule && setting.window.period <= own.window.period && setting != own
    });
    let rank = |(index, cell): (usize, &crate::backtest::Cell)| {
        let scored = score(index);
        let is_kept = scored.missed == present.missed && scored.true_findings > 0;
        let is_better = is_kept
            && scored.false_findings < present.false_findings
            && count_lost(&true_findings, &malicious_of(index)) == 0;
        let window = cell.setting.window;
        let changes =
            usize::from(window.threshold != own.window.threshold) + usize::from(window.period != own.window.period);
        let distance = window.threshold.get().abs_diff(own.window.threshold.get());
        is_better.then_some(((scored.false_findings, changes, distance, window.period), index))
    };
    candidates.filter_map(rank).min().map(|(_, index)| index)
}

/// Returns how many of the true findings, each given by its malicious events, share no event with any of `kept`. Findings
/// without a malicious event do not count.
fn count_lost<E: Eq + std::hash::Hash>(true_findings: &[Vec<E>], kept: &[Vec<E>]) -> usize {
    let kept: HashSet<&E> = kept.iter().flatten().collect();
    let is_lost = |events: &&Vec<E>| !events.is_empty() && !events.iter().any(|event| kept.contains(event));
    true_findings.iter().filter(is_lost).count()
}

/// The identities of labelled events.
struct LabelledIds {
    /// For each malicious label within the range its line and its events.
    malicious: Vec<(u64, HashSet<String>)>,
    benign: HashSet<String>,
    unlabelled: Unlabelled,
}

impl LabelledIds {
    fn new(labelled: &Labelled, matches: &crate::hunt::grid::GridMatches) -> LabelledIds {
        let ids = |numbers: &[usize]| numbers.iter().map(|number| matches.id(*number).to_owned()).collect();
        LabelledIds {
            malicious: labelled.malicious_within().map(|(line, numbers)| (line, ids(numbers))).collect(),
            benign: ids(&labelled.benign_matches().collect::<Vec<_>>()),
            unlabelled: labelled.unlabelled(),
        }
    }

    /// Returns the malicious events of each finding.
    fn malicious_events<'f>(&self, findings: &'f [Finding]) -> Vec<Vec<&'f str>> {
        let is_malicious = |id: &&str| self.malicious.iter().any(|(_, ids)| ids.contains(*id));
        let of_finding =
            |finding: &'f Finding| finding.event_ids.iter().map(String::as_str).filter(is_malicious).collect();
        findings.iter().map(of_finding).collect()
    }

    fn effect(&self, findings: &[Finding]) -> Effect {
        let mut effect = Effect::default();
        let mut caught = BTreeSet::new();
        for finding in findings {
            let lines = self.malicious.iter().filter(|(_, ids)| finding.event_ids.iter().any(|id| ids.contains(id)));
            let lines: Vec<u64> = lines.map(|(line, _)| *line).collect();
            let is_benign = finding.event_ids.iter().any(|id| self.benign.contains(id));
            if !lines.is_empty() {
                effect.true_findings += 1;
                caught.extend(lines);
            } else if is_benign || self.unlabelled == Unlabelled::Benign {
                effect.false_findings += 1;
            }
        }
        effect.caught = caught.len();
        let lines = self.malicious.iter().map(|(line, _)| *line);
        effect.missed = lines.filter(|line| !caught.contains(line)).collect();
        effect
    }
}

/// Hunts proposals and compares them with the present rule.
struct Judge<'j> {
    labels: LabelledIds,
    present: &'j Score,
}

impl Judge<'_> {
    async fn hunt(
        &self,
        engine: &Engine,
        table: &dyn Table,
        request: &TuneRequest<'_>,
        plans: Vec<(Option<Window>, Vec<Vec<ValueCondition>>)>,
    ) -> Result<Tuning, Error> {
        let rule = request.rule;
        let mut rules = vec![rule.clone()];
        let mut ids = Vec::new();
        for (window, conditions) in &plans {
            let new = exception_text::exceptions(rule, conditions, request.defaults)?;
            ids.push(new.iter().map(|exception| exception.id.clone()).collect::<Vec<_>>());
            let mut changed = with_exceptions(rule, new);
            changed.window = window.unwrap_or(rule.window);
            rules.push(changed);
        }
        let hunt = ExceptedHunt::new(rules, request.range)?;
        let (hunted, RuleEffects { exceptions: effects, undecided }) = hunt.hunt_buffered(engine, table).await?;
        let findings = hunted.findings.of_rules().await?;
        let mut findings = findings.iter().map(|findings| (self.labels.effect(findings), findings.as_slice()));
        let (present, present_findings) = findings.next().unwrap_or_default();
        let true_findings = self.labels.malicious_events(present_findings);
        let mut effects = effects.into_iter().skip(rule.exceptions().len());
        let mut proposals = Vec::with_capacity(plans.len());
        for (((window, conditions), ids), (mut effect, findings)) in plans.into_iter().zip(ids).zip(findings) {
            // The exceptions that the rule has already come first.
            let of_rule: Vec<_> = effects.by_ref().take(rule.exceptions().len() + ids.len()).collect();
            let by_id: BTreeMap<&str, _> =
                of_rule.iter().map(|effect| (effect.exception.id.as_str(), effect)).collect();
            let exception = |(id, when): (String, Vec<ValueCondition>)| {
                let (events_removed, findings_removed) =
                    by_id.get(id.as_str()).map_or((0, 0), |effect| (effect.events, effect.findings));
                ProposedException { id, when, events_removed, findings_removed }
            };
            let exceptions: Vec<ProposedException> = ids.into_iter().zip(conditions).map(exception).collect();
            effect.events_removed = exceptions.iter().map(|exception| exception.events_removed).sum();
            let malicious = self.labels.malicious_events(findings);
            let true_peaks = findings.iter().zip(&malicious).filter(|(_, events)| !events.is_empty());
            let smallest_true_peak = window.and_then(|_| true_peaks.map(|(finding, _)| finding.peak).min());
            let lost_true_findings = count_lost(&true_findings, &malicious);
            let keeps_labels = effect.missed == present.missed && effect.missed == self.present.missed;
            let keeps_true_findings = keeps_labels && lost_true_findings == 0;
            let window = window.map(ProposedWindow::from);
            proposals.push(Proposal {
                window,
                exceptions,
                effect,
                lost_true_findings,
                smallest_true_peak,
                keeps_true_findings,
            });
        }
        let is_useful = |proposal: &Proposal| {
            proposal.keeps_true_findings && proposal.effect.false_findings < present.false_findings
        };
        let useful = proposals.iter().enumerate().filter(|(_, proposal)| is_useful(proposal));
        let best = useful.min_by_key(|(index, proposal)| {
            (proposal.effect.false_findings, proposal.changes(), proposal.effect.events_removed, *index)
        });
        Ok(Tuning {
            rule_id: rule.id.clone(),
            best: best.map(|(index, _)| index),
            present,
            proposals,
            undecided,
            read: ScanStatistics::default(),
            duplicates: Duplicates::default(),
        })
    }
}

/// Returns `rule` with more exceptions.
fn with_exceptions(rule: &Rule, new: Vec<Arc<Exception>>) -> Rule {
    if new.is_empty() {
        return rule.clone();
    }
    let exceptions = rule.exceptions().iter().map(Arc::clone).chain(new).collect();
    let matches = Box::new(rule.detection_without_exceptions().clone());
    Rule { detection: Predicate::Except { matches, exceptions }, ..rule.clone() }
}

/// Returns the end of new exceptions where none is named: the first midnight after 90 days.
pub fn default_until(now: Instant) -> Instant {
    use crate::time::DAY;
    (now + 90 * DAY + (DAY - 1)).rounded_down(DAY)
}
