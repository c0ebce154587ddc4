//! The risk of actors: a score from the findings of all rules.
//!
//! A finding adds the weight of its severity at its trigger. The weight halves with each half-life after it, and is dropped
//! after four of them. Each further ATT&CK tactic among the findings of an actor adds a quarter to their sum, because an actor
//! who goes from one tactic to the next is more suspicious than one who repeats the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::event::identity;
use crate::finding::Finding;
use crate::rule::Severity;
use crate::time::{Instant, Period};

/// The number of half-lives after which a finding no longer counts.
pub const HALF_LIVES: i64 = 4;

/// What each tactic after the first adds to the sum of weights, as a part of it.
const PART_OF_TACTIC: f64 = 0.25;

/// Returns what a finding of a severity adds to the score of its actor.
fn weight(severity: Severity) -> f64 {
    match severity {
        Severity::Info => 1.0,
        Severity::Low => 5.0,
        Severity::Medium => 20.0,
        Severity::High => 50.0,
        Severity::Critical => 100.0,
    }
}

/// Who acted: an account and an actor in it. `None` where the findings do not say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Principal {
    /// The account.
    pub account: Option<String>,
    /// The actor.
    pub actor: Option<String>,
}

impl Principal {
    /// Returns who a finding is about: the `account` and the `actor` of its group. The event that triggered has what the
    /// group lacks, if it is among the rule's output fields.
    pub fn of(finding: &Finding) -> Principal {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let address = finding.context.get("sourceIPAddress").and_then(Value::as_str);
        let of_trigger = || identity::actor(&finding.context.get("userIdentity")?.to_string(), address);
        let account = match finding.group.get("account") {
            Some(account) => text(Some(account)),
            None => text(finding.context.get("recipientAccountId"))
                .or_else(|| text(finding.context.get("userIdentity")?.get("accountId"))),
        };
        let actor = match finding.group.get("actor") {
            Some(actor) => text(Some(actor)),
            None => of_trigger(),
        };
        Principal { account, actor }
    }
}

/// A finding as it counts toward the risk of its actor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ScoredFinding {
    trigger: Instant,
    finding_id: String,
    rule_id: String,
    severity: Severity,
    tactics: Vec<String>,
}

/// The findings of a run, by actor.
#[derive(Debug)]
pub struct ActorFindings {
    half_life: Period,
    actors: BTreeMap<Principal, Vec<ScoredFinding>>,
    /// The triggers of findings whose actor is not known.
    without_actor: Vec<Instant>,
}

/// The risk of an actor at one time. Its field names are part of the JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActorRisk {
    /// Its rank, from 1.
    pub rank: usize,
    /// The score, to a tenth.
    pub score: f64,
    /// Who acted.
    #[serde(flatten)]
    pub principal: Principal,
    /// The number of findings behind the score.
    pub findings: usize,
    /// Their number by severity.
    pub severities: BTreeMap<Severity, usize>,
    /// Their ATT&CK tactics, sorted.
    pub tactics: Vec<String>,
    /// Their rules, sorted.
    pub rules: Vec<String>,
    /// The trigger of the first.
    pub first_trigger: Instant,
    /// The trigger of the last.
    pub last_trigger: Instant,
    /// Their ids, by trigger.
    pub finding_ids: Vec<String>,
}

/// The actors of a run by risk. Its field names are part of the JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RiskRanking {
    /// The time of the scores. `None` without findings.
    pub at: Option<Instant>,
    /// The time in which the weight of a finding halves.
    pub half_life: String,
    /// The actors, the highest score first.
    pub actors: Vec<ActorRisk>,
    /// The number of findings that count then and do not say who acted. They are about several actors, so no score has them.
    pub findings_without_actor: usize,
}

/// How often actors reach a score. Its field names are part of the JSON output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreCrossings {
    /// The score.
    pub score: u32,
    /// How many times an actor came to it from below.
    pub alerts: usize,
    /// The number of actors that did.
    pub actors: usize,
}

impl ActorFindings {
    /// Returns no findings, whose weights will halve with `half_life`.
    pub fn new(half_life: Period) -> ActorFindings {
        ActorFindings { half_life, actors: BTreeMap::new(), without_actor: Vec::new() }
    }

    /// Adds a finding.
    pub fn add(&mut self, finding: &Finding) {
        let principal = Principal::of(finding);
        if principal.actor.is_none() {
            self.without_actor.push(finding.trigger_time);
            return;
        }
        let severity = Severity::ALL.into_iter().find(|severity| severity.to_string() == finding.severity);
        let tactics = finding.mitre.iter().filter_map(|technique| technique.split(':').next()).map(str::to_owned);
        self.actors.entry(principal).or_default().push(ScoredFinding {
            trigger: finding.trigger_time,
            finding_id: finding.finding_id.clone(),
            rule_id: finding.rule_id.clone(),
            severity: severity.unwrap_or(Severity::Info),
            tactics: tactics.collect(),
        });
    }

    /// Returns the actors by their risk at `at`, or else at the last trigger.
    pub fn ranking(&self, at: Option<Instant>) -> RiskRanking {
        let triggers = self.actors.values().flatten().map(|finding| finding.trigger);
        let at = at.or_else(|| triggers.chain(self.without_actor.iter().copied()).max());
        let actors = at.map(|at| self.at(at)).unwrap_or_default();
        let counts = |trigger: &&Instant| at.is_some_and(|at| **trigger > self.counted_after(at) && **trigger <= at);
        let findings_without_actor = self.without_actor.iter().filter(counts).count();
        RiskRanking { at, half_life: self.half_life.to_string(), actors, findings_without_actor }
    }

    /// Returns the start of the times whose findings count at `at`, exclusive.
    fn counted_after(&self, at: Instant) -> Instant {
        at - self.half_life.micros().saturating_mul(HALF_LIVES)
    }

    /// Returns the risk of each actor at `at`, the highest first. Actors without findings that count then are left out.
    fn at(&self, at: Instant) -> Vec<ActorRisk> {
        let from = self.counted_after(at);
        let risk = |(principal, findings): (&Principal, &Vec<ScoredFinding>)| {
            let mut counted: Vec<&ScoredFinding> =
                findings.iter().filter(|finding| finding.trigger > from && finding.trigger <= at).collect();
            counted.sort_unstable();
            let (first, last) = (counted.first()?.trigger, counted.last()?.trigger);
            let count = |severity: Severity| counted.iter().filter(|finding| finding.severity == severity).count();
            let severities = Severity::ALL.into_iter().map(|severity| (severity, count(severity)));
            let rules: BTreeSet<&String> = counted.iter().map(|finding| &finding.rule_id).collect();
            Some(ActorRisk {
                rank: 0,
                score: (self.score(&counted, at) * 10.0).round() / 10.0,
                principal: principal.clone(),
                findings: counted.len(),
                severities: severities.filter(|(_, count)| *count > 0).collect(),
                tactics: tactics(&counted).into_iter().map(str::to_owned).collect(),
                rules: rules.into_iter().cloned().collect(),
                first_trigger: first,
                last_trigger: last,
                finding_ids: counted.iter().map(|finding| finding.finding_id.clone()).collect(),
            })
        };
        let mut risks: Vec<ActorRisk> = self.actors.iter().filter_map(risk).collect();
        // The sort keeps the order of actors with one score.
        risks.sort_by(|one, other| other.score.total_cmp(&one.score));
        for (index, risk) in risks.iter_mut().enumerate() {
            risk.rank = index + 1;
        }
        risks
    }

    /// Returns how often actors came from below each of `scores`, over all findings.
    pub fn crossings(&self, scores: &[u32]) -> Vec<ScoreCrossings> {
        let mut crossings: Vec<ScoreCrossings> =
            scores.iter().map(|score| ScoreCrossings { score: *score, alerts: 0, actors: 0 }).collect();
        for findings in self.actors.values() {
            let jumps = self.jumps(findings);
            for crossing in &mut crossings {
                let least = f64::from(crossing.score);
                let alerts = jumps.iter().filter(|(before, after)| *before < least && *after >= least).count();
                crossing.alerts += alerts;
                crossing.actors += usize::from(alerts > 0);
            }
        }
        crossings
    }

    /// Returns the scores of an actor right before and at each time with a trigger.
    fn jumps(&self, findings: &[ScoredFinding]) -> Vec<(f64, f64)> {
        let mut findings: Vec<&ScoredFinding> = findings.iter().collect();
        findings.sort_unstable();
        let mut jumps = Vec::new();
        let mut start = 0;
        for at in findings.chunk_by(|one, other| one.trigger == other.trigger) {
            let Some(time) = at.first().map(|finding| finding.trigger) else { continue };
            let from = self.counted_after(time);
            let first = findings.partition_point(|finding| finding.trigger <= from);
            jumps.push((
                self.score(&findings[first..start], time),
                self.score(&findings[first..start + at.len()], time),
            ));
            start += at.len();
        }
        jumps
    }

    /// Returns the score at `at` from these findings, which count then.
    fn score(&self, findings: &[&ScoredFinding], at: Instant) -> f64 {
        let half_life = self.half_life.micros();
        #[expect(clippy::cast_precision_loss, reason = "ages are far from 2^53 microseconds")]
        let part = |finding: &&ScoredFinding| {
            let half_lives = at.micros().saturating_sub(finding.trigger.micros()) as f64 / half_life as f64;
            weight(finding.severity) * (-half_lives).exp2()
        };
        let further_tactics = u32::try_from(tactics(findings).len().saturating_sub(1)).unwrap_or(u32::MAX);
        findings.iter().map(part).sum::<f64>() * (1.0 + PART_OF_TACTIC * f64::from(further_tactics))
    }
}

/// Returns the distinct tactics of findings, sorted.
fn tactics<'f>(findings: &[&'f ScoredFinding]) -> BTreeSet<&'f str> {
    findings.iter().flat_map(|finding| &finding.tactics).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(actor: &str, hour: i64, severity: Severity, mitre: &str) -> Finding {
        let trigger_time = Instant::EPOCH + hour * Period::HOUR.micros();
        let example = Finding::example();
        Finding {
            finding_id: format!("{actor}-{hour}-{mitre}"),
            severity: severity.to_string(),
            mitre: vec![mitre.to_owned()],
            group: serde_json::Map::from_iter([("actor".to_owned(), actor.into()), ("account".to_owned(), "1".into())]),
            trigger_time,
            ..example
        }
    }

    fn all(findings: &[Finding]) -> ActorFindings {
        let mut actors = ActorFindings::new(Period::HOUR);
        for finding in findings {
            actors.add(finding);
        }
        actors
    }

    fn scores(actors: &ActorFindings, hour: i64) -> Vec<(String, f64)> {
        let at = Instant::EPOCH + hour * Period::HOUR.micros();
        actors.at(at).into_iter().map(|risk| (risk.principal.actor.unwrap(), risk.score)).collect()
    }

    #[test]
    fn weights_halve_and_tactics_multiply() {
        let actors = all(&[
            finding("ann", 0, Severity::High, "TA0001:T1"),
            finding("ann", 1, Severity::High, "TA0001:T2"),
            finding("bob", 1, Severity::Medium, "TA0001:T1"),
            finding("bob", 1, Severity::Medium, "TA0003:T1"),
        ]);
        let score = |name: &str, score| (name.to_owned(), score);
        // A finding counts from its trigger on.
        assert_eq!(scores(&actors, 0), [score("ann", 50.0)]);
        assert_eq!(scores(&actors, 1), [score("ann", 75.0), score("bob", 50.0)]);
        assert_eq!(scores(&actors, 2), [score("ann", 37.5), score("bob", 25.0)]);
        // Those of an hour ago are dropped four hours later.
        assert_eq!(scores(&actors, 4), [score("ann", 6.3), score("bob", 6.3)]);
        assert_eq!(scores(&actors, 5), []);
    }

    #[test]
    fn actor_alerts_once_until_its_score_falls_below() {
        let findings = [0, 0, 1, 9].map(|hour| finding("ann", hour, Severity::High, &format!("TA0001:T{hour}")));
        let actors = all(&findings);
        let crossing = |score, alerts, actors| ScoreCrossings { score, alerts, actors };
        // Scores: 100 at first, 100 after an hour (from 50), 50 after nine.
        assert_eq!(
            actors.crossings(&[50, 60, 100, 101]),
            [crossing(50, 2, 1), crossing(60, 2, 1), crossing(100, 2, 1), crossing(101, 0, 0)]
        );
    }

    #[test]
    fn findings_without_an_actor_are_no_actor() {
        let mut findings = [0, 1, 5].map(|hour| finding("ann", hour, Severity::High, "TA0001:T1"));
        for finding in &mut findings[..2] {
            finding.group.insert("actor".to_owned(), serde_json::Value::Null);
        }
        let actors = all(&findings);
        let ranking = actors.ranking(None);
        assert_eq!((ranking.actors.len(), ranking.findings_without_actor), (1, 0), "they are four half-lives old");
        let ranking = actors.ranking(Some(Instant::EPOCH + Period::HOUR.micros()));
        assert_eq!((ranking.actors.len(), ranking.findings_without_actor), (0, 2));
        assert_eq!(actors.crossings(&[50])[0].alerts, 1);
    }

    #[test]
    fn principal_is_of_the_group_or_of_the_triggering_event() {
        let mut finding = Finding::example();
        finding.context.insert("recipientAccountId".to_owned(), "111122223333".into());
        finding
            .context
            .insert("userIdentity".to_owned(), serde_json::json!({ "type": "IAMUser", "userName": "Anaya" }));
        let principal =
            |account: &str, actor: &str| Principal { account: Some(account.to_owned()), actor: Some(actor.to_owned()) };
        assert_eq!(Principal::of(&finding), principal("111122223333", "alice"));
        finding.group.clear();
        assert_eq!(Principal::of(&finding), principal("111122223333", "anaya"));
        finding.context.clear();
        assert_eq!(Principal::of(&finding), Principal { account: None, actor: None });
    }
}
