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

/// Lines after which it is noted what a sink that takes them one by one has taken.
const NOTED_AFTER: usize = 20;

/// Gives each sink what it is owed, oldest first; `of` is whose findings they are, see [`Delivery::origin`]. Sinks that take
/// lines one by one, and may take long, come last.
pub(super) async fn deliver(
    sinks: &[Sink],
    store: &Store,
    owed: &[Owed],
    of: &str,
    print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
) -> Result<Vec<Delivered>, Error> {
    let sink_of = |owed: &&Owed| sinks.iter().find(|sink| sink.name() == owed.sink);
    let (slow, fast): (Vec<&Owed>, Vec<&Owed>) =
        owed.iter().partition(|owed| sink_of(owed).is_some_and(Sink::sends_one_by_one));
    let mut deliveries = Vec::new();
    let mut silent = BTreeSet::new();
    for owed in fast.into_iter().chain(slow) {
        let Some(sink) = sink_of(&owed) else {
            continue;
        };
        if silent.contains(&owed.sink) {
            let reason = "after lines that it has not taken".to_owned();
            deliveries.push(Delivered::refused(owed, owed.count(), reason));
            continue;
        }
        let delivery = give(sink, store, owed, of, print).await?;
        if delivery.silent {
            silent.insert(owed.sink.clone());
        }
        deliveries.push(match delivery.error {
            None => Delivered { sink: owed.sink.clone(), run: owed.run, lines: owed.count(), left: 0, error: None },
            Some(error) => {
                let left = delivery.left.len();
                tracing::warn!(sink = owed.sink, left, %error, "not delivered; the next run tries again");
                Delivered::refused(owed, left, error.to_string())
            }
        });
    }
    Ok(deliveries)
}

/// What came of giving a sink what it is owed.
#[derive(Default)]
struct Given {
    /// The places of the lines that it has not taken.
    left: Vec<usize>,
    /// The first reason why not.
    error: Option<Error>,
    /// Whether it takes nothing at all.
    silent: bool,
}

async fn give(
    sink: &Sink,
    store: &Store,
    owed: &Owed,
    of: &str,
    print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
) -> Result<Given, Error> {
    let lines = store.lines(owed).await?;
    let places: Vec<usize> = owed.left.clone().unwrap_or_else(|| (0..lines.len()).collect());
    let at_a_time = if sink.sends_one_by_one() { NOTED_AFTER } else { places.len().max(1) };
    let mut given = Given::default();
    let mut rest = places.as_slice();
    while !rest.is_empty() && !given.silent {
        let (now, later) = rest.split_at(at_a_time.min(rest.len()));
        let of_places: Vec<Line> = now.iter().filter_map(|place| lines.get(*place).cloned()).collect();
        match sink.deliver(&Delivery { run: owed.run, origin: of, lines: &of_places }, print).await {
            Ok(()) => {}
            Err(Error::Sink { sink, reason, left, silent }) => {
                given.left.extend(left.iter().filter_map(|place| now.get(*place)));
                given.silent = silent;
                given.error.get_or_insert(Error::Sink { sink, reason, left, silent });
            }
            Err(error) => {
                given.left.extend(now);
                given.silent = true;
                given.error.get_or_insert(error);
            }
        }
        rest = later;
        store.delivered(owed, &[&given.left, rest].concat()).await?;
    }
    given.left.extend(rest);
    Ok(given)
}
