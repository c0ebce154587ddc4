//! The events of one actor or of a time, without following credentials.

use super::records::{TraceRecords, is_one_of};
use super::summary::Summary;
use super::{Timeline, TracedEvent};
use crate::engine::Engine;
use crate::error::Error;
use crate::sql::quote::Literal;
use crate::statistics::ScanStatistics;
use crate::table::{Table, without_damaged_files};
use crate::time::Range;

/// Events in order, and their counts.
#[derive(Debug)]
pub struct Activity {
    /// The events in order of time and ID, each once.
    pub events: Vec<TracedEvent>,
    /// The counts.
    pub summary: Summary,
    /// The scan statistics.
    pub read: ScanStatistics,
}

/// Returns the condition for `actor` to have a name: its own, or what is shown of an ARN, such as `federated-user/NAME`.
pub(super) fn is_actor(name: &str) -> String {
    let name = name.to_lowercase();
    let resource = format!(":{name}");
    let length = resource.chars().count();
    format!(
        "({} OR lower(actor) LIKE 'arn:%' AND right(lower(actor), {length}) = {})",
        is_one_of("lower(actor)", [name.as_str()]),
        Literal(&resource)
    )
}

/// Returns the events in `range` by `actor`, or all of them. An engine may select accounts and regions.
///
/// # Errors
/// The table cannot be read, or the events exceed the memory.
pub async fn activity(
    engine: &Engine,
    table: &dyn Table,
    range: Range,
    actor: Option<&str>,
) -> Result<Activity, Error> {
    let condition = actor.map_or_else(|| "TRUE".to_owned(), is_actor);
    let limit = engine.memory() / 2;
    without_damaged_files(table, async || {
        let records = TraceRecords::unbuffered(engine, table, range);
        let mut timeline = Timeline::default();
        records.events(&condition, range, |event| timeline.add(event, limit).map(|_| ())).await?;
        let events = timeline.into_events();
        Ok(Activity { summary: Summary::of(&events), events, read: records.last_read.take() })
    })
    .await
}
