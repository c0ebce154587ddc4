//! Delivers pending lines to sinks. A sink that fails does not delay the others; the next run tries it again.

use std::collections::BTreeSet;

use serde::Serialize;

use super::state::{PendingDelivery, RunState, StateStore};
use crate::error::{Error, with_causes};
use crate::sink::{Delivery, Line, Sink};

/// After how many lines to record the progress of a sink that sends lines one by one.
const RECORD_INTERVAL: usize = 20;

/// The result of a delivery.
#[derive(Debug, Clone, Serialize)]
pub struct DeliveryReport {
    /// Name of the sink.
    pub sink: String,
    /// The run that wrote the lines.
    pub run: u32,
    /// Number of lines to deliver.
    pub lines: usize,
    /// Number of undelivered lines. The next run tries them again.
    #[serde(rename = "left")]
    pub undelivered: usize,
    /// Why not.
    pub error: Option<String>,
}

impl DeliveryReport {
    fn new(delivery: &PendingDelivery, undelivered: usize, error: Option<String>) -> DeliveryReport {
        DeliveryReport { sink: delivery.sink.clone(), run: delivery.run, lines: delivery.count(), undelivered, error }
    }
}

/// Drops pending deliveries to sinks that are no longer configured, and reports each once.
pub(super) fn drop_removed_sinks(sinks: &[Sink], next: &mut RunState, reports: &mut Vec<DeliveryReport>) {
    let is_removed = |delivery: &mut PendingDelivery| !sinks.iter().any(|sink| sink.name() == delivery.sink);
    for dropped in next.deliveries.extract_if(.., is_removed) {
        let error = "dropped: this sink is no longer in the configuration".to_owned();
        reports.push(DeliveryReport::new(&dropped, dropped.count(), Some(error)));
    }
}

/// Delivers pending lines to each sink, oldest first. See [`Delivery::origin`] for `origin`.
///
/// Sinks that send lines one by one may take long, so they come last.
pub(super) async fn deliver(
    sinks: &[Sink],
    store: &StateStore,
    deliveries: &[PendingDelivery],
    origin: &str,
    print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
) -> Result<Vec<DeliveryReport>, Error> {
    let sink_of = |delivery: &PendingDelivery| sinks.iter().find(|sink| sink.name() == delivery.sink);
    let with_sinks = deliveries.iter().filter_map(|delivery| Some((delivery, sink_of(delivery)?)));
    let (slow, fast): (Vec<_>, Vec<_>) = with_sinks.partition(|(_, sink)| sink.sends_one_by_one());
    let mut reports = Vec::new();
    let mut failed = BTreeSet::new();
    for (delivery, sink) in fast.into_iter().chain(slow) {
        if failed.contains(&delivery.sink) {
            let reason = "not tried, because an earlier delivery to this sink failed".to_owned();
            reports.push(DeliveryReport::new(delivery, delivery.count(), Some(reason)));
            continue;
        }
        let DeliveryOutcome { undelivered, error, is_unavailable } =
            deliver_to(sink, store, delivery, origin, print).await?;
        if is_unavailable {
            failed.insert(delivery.sink.clone());
        }
        let error = error.map(|error| with_causes(&error));
        if let Some(error) = &error {
            tracing::warn!(
                sink = delivery.sink,
                left = undelivered.len(),
                error,
                "delivery failed; the next run tries again"
            );
        }
        reports.push(DeliveryReport::new(delivery, undelivered.len(), error));
    }
    Ok(reports)
}

/// The result of a delivery to one sink.
#[derive(Default)]
struct DeliveryOutcome {
    /// Indices of the lines that were not delivered.
    undelivered: Vec<usize>,
    /// The first error.
    error: Option<Error>,
    /// Whether the sink accepts nothing at all.
    is_unavailable: bool,
}

async fn deliver_to(
    sink: &Sink,
    store: &StateStore,
    delivery: &PendingDelivery,
    origin: &str,
    print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
) -> Result<DeliveryOutcome, Error> {
    let lines = store.lines(delivery).await?;
    let indices: Vec<usize> = delivery.undelivered.clone().unwrap_or_else(|| (0..lines.len()).collect());
    let chunk_size = if sink.sends_one_by_one() { RECORD_INTERVAL } else { indices.len().max(1) };
    let mut outcome = DeliveryOutcome::default();
    let mut rest = indices.as_slice();
    while !rest.is_empty() && !outcome.is_unavailable {
        let (chunk, later) = rest.split_at(chunk_size.min(rest.len()));
        let chunk_lines: Vec<Line> = chunk.iter().filter_map(|index| lines.get(*index).cloned()).collect();
        match sink.deliver(&Delivery { run: delivery.run, origin, lines: &chunk_lines }, print).await {
            Ok(()) => {}
            Err(Error::Sink { sink, reason, left, silent }) => {
                outcome.undelivered.extend(left.iter().filter_map(|index| chunk.get(*index)));
                outcome.is_unavailable = silent;
                outcome.error.get_or_insert(Error::Sink { sink, reason, left, silent });
            }
            Err(error) => {
                outcome.undelivered.extend(chunk);
                outcome.is_unavailable = true;
                outcome.error.get_or_insert(error);
            }
        }
        rest = later;
        store.record_undelivered(delivery, &[&outcome.undelivered, rest].concat()).await?;
    }
    outcome.undelivered.extend(rest);
    Ok(outcome)
}
