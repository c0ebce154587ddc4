//! Formats the risk of actors.

use serde_json::{Value, json};

use super::{FindingsFormat, csv_text, internal, rows, rows_dropping};
use crate::error::Error;
use crate::finding::NO_VALUE;
use crate::risk::{ActorRisk, RiskRanking, ScoreCrossings};
use crate::statistics::number_of;
use crate::text::json as json_text;
use crate::time::{DAY, Period, Range};

/// The columns that a narrow table drops, in this order.
const DROPPABLE: [&str; 3] = ["rules", "tactics", "last"];

/// Returns ranked actors in `format`.
///
/// # Errors
/// The text cannot be made.
pub fn ranked(ranking: &RiskRanking, format: FindingsFormat) -> Result<String, Error> {
    let risks = &ranking.actors;
    let failed = |error: serde_json::Error| internal("the risk of actors", &error);
    match format {
        FindingsFormat::Table if risks.is_empty() => {
            Ok("no actor has findings that count\n".to_owned() + &without_actor(ranking))
        }
        FindingsFormat::Table => {
            let header = ["", "score", "account", "actor", "findings", "tactics", "rules", "last"];
            let table = rows_dropping(&header, &DROPPABLE, risks.iter().map(|risk| cells(risk).to_vec()));
            let at = ranking.at.map(|at| format!("scores at {at}, half-life {}\n", ranking.half_life));
            Ok(table + &at.unwrap_or_default() + &without_actor(ranking))
        }
        FindingsFormat::Json => json_text::pretty(ranking).map_err(failed),
        FindingsFormat::Jsonl => {
            let lines = risks.iter().map(|risk| Ok(json_text::line(risk)? + "\n"));
            lines.collect::<Result<String, serde_json::Error>>().map_err(failed)
        }
        FindingsFormat::Parquet => Err(Error::usage("`--risk` has the formats table, json, jsonl and csv")),
        FindingsFormat::Csv => {
            let header = ["rank", "score", "account", "actor", "findings", "tactics", "rules", "last_trigger"];
            csv_text(&header, risks.iter().map(|risk| cells(risk).to_vec()))
        }
    }
}

/// Returns the line about findings without an actor, if any.
fn without_actor(ranking: &RiskRanking) -> String {
    match ranking.findings_without_actor {
        0 => String::new(),
        count => format!("not ranked: {} without an actor\n", number_of(count, "finding")),
    }
}

/// The cells of an actor.
fn cells(risk: &ActorRisk) -> [String; 8] {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| NO_VALUE.to_owned());
    let severities = risk.severities.iter().rev().map(|(severity, count)| format!("{count} {severity}"));
    [
        risk.rank.to_string(),
        format!("{:.1}", risk.score),
        shown(&risk.principal.account),
        shown(&risk.principal.actor),
        severities.collect::<Vec<_>>().join(", "),
        risk.tactics.join(" "),
        risk.rules.join(" "),
        risk.last_trigger.to_string(),
    ]
}

/// Returns how often actors reach each of some scores, as a table or as JSON. `range` is that of the findings, or of
/// the events that were read.
///
/// # Errors
/// The text cannot be made.
pub fn crossings(
    crossings: &[ScoreCrossings],
    range: Range,
    half_life: Period,
    as_json: bool,
) -> Result<String, Error> {
    let per_day = |alerts: usize| {
        let (from, to) = range.from.zip(range.to)?;
        #[expect(clippy::cast_precision_loss, reason = "counts and times are far from 2^53")]
        let (alerts, days) = (alerts as f64, (to.micros() - from.micros()) as f64 / DAY as f64);
        Some((alerts / days * 100.0).round() / 100.0)
    };
    if as_json {
        let row = |crossing: &ScoreCrossings| {
            let ScoreCrossings { score, alerts, actors } = *crossing;
            json!({ "score": score, "alerts": alerts, "actors": actors, "alerts_per_day": per_day(alerts) })
        };
        let scores: Vec<Value> = crossings.iter().map(row).collect();
        let object = json!({ "half_life": half_life.to_string(), "scores": scores });
        return json_text::pretty(&object).map_err(|error| internal("the scores of actors", &error));
    }
    let row = |crossing: &ScoreCrossings| {
        let ScoreCrossings { score, alerts, actors } = *crossing;
        let per_day = per_day(alerts).map_or_else(|| "-".to_owned(), |alerts| format!("{alerts:.2}"));
        vec![score.to_string(), alerts.to_string(), actors.to_string(), per_day]
    };
    Ok(rows(&["score", "alerts", "actors", "alerts a day"], crossings.iter().map(row)))
}
