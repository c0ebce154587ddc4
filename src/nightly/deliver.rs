//! Giving sinks what they are owed. What one has not taken is left for the next run; the others go on.

use std::collections::BTreeSet;

use serde::Serialize;

use super::state::{Owed, State, Store};
use crate::error::Error;
use crate::sink::{Delivery, Line, Sink};

/// A delivery.
#[derive(Debug, Clone, Serialize)]
pub struct Delivered {
    /// The sink.
    pub sink: String,
    /// The run whose lines they are.
    pub run: u32,
    /// How many were to be delivered.
    pub lines: usize,
    /// How many of them the sink has not taken. It is owed them by the next run.
    pub left: usize,
    /// Why not.
    pub error: Option<String>,
}

impl Delivered {
    fn refused(owed: &Owed, left: usize, error: String) -> Delivered {
        Delivered { sink: owed.sink.clone(), run: owed.run, lines: owed.count(), left, error: Some(error) }
    }
}

/// What is owed to sinks that are not among `sinks` is told once, and not carried on.
pub(super) fn drop_unknown(sinks: &[Sink], next: &mut State, deliveries: &mut Vec<Delivered>) {
    let (known, unknown): (Vec<Owed>, Vec<Owed>) = std::mem::take(&mut next.deliveries)
        .into_iter()
        .partition(|owed| sinks.iter().any(|sink| sink.name() == owed.sink));
    next.deliveries = known;
    let error = "dropped: the configuration names no such sink any more";
    deliveries.extend(unknown.iter().map(|owed| Delivered::refused(owed, owed.count(), error.to_owned())));
}

/// Gives each sink what it is owed, oldest first; `of` is whose findings they are, see [`Delivery::of`].
pub(super) async fn deliver(
    sinks: &[Sink],
    store: &Store,
    owed: &[Owed],
    of: &str,
    print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
) -> Result<Vec<Delivered>, Error> {
    let mut deliveries = Vec::new();
    let mut silent = BTreeSet::new();
    for owed in owed {
        let Some(sink) = sinks.iter().find(|sink| sink.name() == owed.sink) else {
            continue;
        };
        if silent.contains(&owed.sink) {
            let reason = "after lines that it has not taken".to_owned();
            deliveries.push(Delivered::refused(owed, owed.count(), reason));
            continue;
        }
        let lines = store.lines(owed).await?;
        let places: Vec<usize> = owed.left.clone().unwrap_or_else(|| (0..lines.len()).collect());
        let of_places: Vec<Line> = places.iter().filter_map(|place| lines.get(*place).cloned()).collect();
        let outcome = sink.deliver(&Delivery { run: owed.run, of, lines: &of_places }, print).await;
        let Err(error) = outcome else {
            store.delivered(owed, &[]).await?;
            let (sink, lines) = (owed.sink.clone(), of_places.len());
            deliveries.push(Delivered { sink, run: owed.run, lines, left: 0, error: None });
            continue;
        };
        let (left, is_silent) = match &error {
            Error::Sink { left, silent, .. } => {
                (left.iter().filter_map(|place| places.get(*place).copied()).collect(), *silent)
            }
            _ => (places, true),
        };
        store.delivered(owed, &left).await?;
        tracing::warn!(sink = owed.sink, left = left.len(), %error, "not delivered; the next run tries again");
        deliveries.push(Delivered::refused(owed, left.len(), error.to_string()));
        if is_silent {
            silent.insert(owed.sink.clone());
        }
    }
    Ok(deliveries)
}
