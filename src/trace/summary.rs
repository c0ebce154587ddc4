//! Counts events by service, region, account and address.

use std::collections::BTreeMap;

use serde::Serialize;

use super::records::TracedEvent;
use crate::time::Instant;

/// Counts of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// All events.
    pub events: u64,
    /// Those that were not denied, even if they failed for another reason.
    pub allowed: u64,
    /// Those that were refused for lack of permission, and failed sign-ins.
    pub denied: u64,
    /// Those that failed for another reason.
    pub failed: u64,
    /// Those that only read.
    pub reads: u64,
    /// Those that write.
    pub writes: u64,
    /// The time of the first event.
    pub first: Option<Instant>,
    /// The time of the last event.
    pub last: Option<Instant>,
}

impl EventCounts {
    fn add(&mut self, event: &TracedEvent) {
        let is_denied = event.is_denied();
        self.events += 1;
        self.denied += u64::from(is_denied);
        self.allowed += u64::from(!is_denied);
        self.failed += u64::from(!is_denied && event.error.is_some());
        self.reads += u64::from(event.is_read == Some(true));
        self.writes += u64::from(event.is_read == Some(false));
        if let Some(time) = event.time {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
    }
}

/// A value, and the counts of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValueCounts {
    /// The value.
    pub value: String,
    /// The counts.
    #[serde(flatten)]
    pub counts: EventCounts,
}

/// The counts of events as a whole and by their values. Values with most events come first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All events.
    #[serde(flatten)]
    pub all: EventCounts,
    /// By `eventSource`.
    pub services: Vec<ValueCounts>,
    /// By `eventName`.
    pub names: Vec<ValueCounts>,
    /// By `awsRegion`.
    pub regions: Vec<ValueCounts>,
    /// By account.
    pub accounts: Vec<ValueCounts>,
    /// By actor.
    pub actors: Vec<ValueCounts>,
    /// By `sourceIPAddress`.
    pub addresses: Vec<ValueCounts>,
}

impl Summary {
    /// Returns the summary of `events`.
    pub fn of(events: &[TracedEvent]) -> Summary {
        let by = |value: fn(&TracedEvent) -> &str| {
            let mut counts: BTreeMap<&str, EventCounts> = BTreeMap::new();
            for event in events {
                counts.entry(value(event)).or_default().add(event);
            }
            let mut counts: Vec<ValueCounts> = counts
                .into_iter()
                .filter(|(value, _)| !value.is_empty())
                .map(|(value, counts)| ValueCounts { value: value.to_owned(), counts })
                .collect();
            // The sort is stable, so equal counts stay in the order of values.
            counts.sort_by_key(|one| std::cmp::Reverse(one.counts.events));
            counts
        };
        let mut all = EventCounts::default();
        for event in events {
            all.add(event);
        }
        Summary {
            all,
            services: by(|event| &event.source),
            names: by(|event| &event.name),
            regions: by(|event| &event.region),
            accounts: by(|event| &event.account),
            actors: by(|event| event.identity.actor.as_deref().unwrap_or_default()),
            addresses: by(|event| &event.address),
        }
    }
}
