use std::num::NonZeroU32;

use clap::Args;

use crate::error::Error;
use crate::hunt::FindingBuffer;
use crate::risk::{ActorFindings, HALF_LIVES, RiskRanking};
use crate::time::{Instant, Period, Range};

/// Ranks actors by their findings.
#[derive(Debug, Args)]
#[command(next_help_heading = super::OUTPUT)]
pub(super) struct RiskArgs {
    /// Rank actors by the severities and tactics of their findings
    #[arg(long)]
    pub(super) risk: bool,
    /// With `--risk`: the time in which the weight of a finding halves
    #[arg(long, value_name = "PERIOD", requires = "risk", default_value = "7d", value_parser = Period::parse_history)]
    pub(super) half_life: Period,
}

impl RiskArgs {
    /// Returns the ranked actors of `findings`, at `end` or else at the last trigger.
    ///
    /// # Errors
    /// The findings cannot be read.
    pub(super) async fn ranking(
        &self,
        findings: &FindingBuffer<'_>,
        end: Option<Instant>,
    ) -> Result<RiskRanking, Error> {
        Ok(of_findings(findings, self.half_life).await?.ranking(end))
    }

    /// Returns the range of the findings that count at `end`.
    pub(super) fn counted_range(&self, end: Instant) -> Range {
        let memory = self.half_life.micros().saturating_mul(HALF_LIVES);
        Range { from: Some(end - memory + 1), to: Some(end + 1) }
    }
}

/// Returns findings by actor.
pub(super) async fn of_findings(findings: &FindingBuffer<'_>, half_life: Period) -> Result<ActorFindings, Error> {
    let mut actors = ActorFindings::new(half_life);
    let mut reader = findings.read().await?;
    while let Some(finding) = reader.next().await? {
        actors.add(&finding);
    }
    Ok(actors)
}

/// Returns distinct scores in order.
pub(super) fn distinct(scores: &[NonZeroU32]) -> Vec<u32> {
    let mut scores: Vec<u32> = scores.iter().map(|score| score.get()).collect();
    scores.sort_unstable();
    scores.dedup();
    scores
}
