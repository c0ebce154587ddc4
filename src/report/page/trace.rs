//! The HTML page of a trace.

use super::{Bins, Chart, Fact, Frame, Timeline, counted, fact, rendered};
use crate::error::Error;
use crate::report::timeline::{result, service};
use crate::report::trace::origin;
use crate::report::trace_graph::{Graph, GraphEdge};
use crate::statistics::ScanStatistics;
use crate::time::SECOND;
use crate::trace::{Trace, TracedEvent, ValueCounts};

/// Maximum number of events on a page.
const MAX_EVENTS: usize = 5_000;
/// Maximum number of values of one kind in a summary.
const MAX_VALUES: usize = 20;

#[derive(askama::Template)]
#[template(path = "trace.html")]
struct TracePage {
    frame: Frame,
    origin: String,
    origins: Vec<String>,
    tiles: Vec<Fact>,
    picture: Picture,
    more_credentials: usize,
    steps: Vec<StepRow>,
    bin: &'static str,
    timeline: String,
    timeline_rows: Vec<Fact>,
    events: Vec<TracedEventRow>,
    more_events: usize,
    kinds: Vec<KindRow>,
}

struct StepRow {
    time: String,
    name: &'static str,
    account: String,
    principal: String,
    issued_account: String,
    issued: String,
    key: String,
    event_id: String,
}

struct TracedEventRow {
    time: String,
    actor: String,
    call: String,
    account: String,
    region: String,
    address: String,
    outcome: String,
    id: String,
    is_denied: bool,
}

/// The counts of the values of one kind.
struct KindRow {
    kind: &'static str,
    values: Vec<[String; 6]>,
    more: usize,
}

/// The chain with accounts as lanes.
struct Picture {
    width: usize,
    height: usize,
    lanes: Vec<Lane>,
    boxes: Vec<PictureBox>,
    arrows: Vec<Arrow>,
}

struct Lane {
    y: usize,
    middle: usize,
    account: String,
}

struct PictureBox {
    x: usize,
    y: usize,
    label: String,
    tip: String,
    is_start: bool,
}

struct Arrow {
    path: String,
    label_x: usize,
    label_y: usize,
    label: &'static str,
    tip: String,
}

const LANE: usize = 84;
const BOX_WIDTH: usize = 170;
const BOX_HEIGHT: usize = 36;
const COLUMN: usize = 340;
const LEFT: usize = 130;
/// Characters of a name in a box; the whole is in its tooltip.
const BOX_CHARACTERS: usize = 22;

impl Picture {
    fn of(graph: &Graph) -> Picture {
        let accounts = graph.accounts();
        let lane = |account: &str| accounts.iter().position(|other| *other == account).unwrap_or_default();
        let columns = columns(graph);
        // Boxes of one lane and column are one below the other.
        let mut used: Vec<(usize, usize)> = Vec::new();
        let mut slots = Vec::with_capacity(graph.nodes.len());
        for (node, column) in graph.nodes.iter().zip(&columns) {
            let place = (lane(&node.account), *column);
            slots.push(used.iter().filter(|other| **other == place).count());
            used.push(place);
        }
        let rows_of = |lane_index: usize| {
            let of_lane = graph.nodes.iter().zip(&slots).filter(|(node, _)| lane(&node.account) == lane_index);
            of_lane.map(|(_, slot)| slot + 1).max().unwrap_or(1)
        };
        let mut tops = vec![0];
        for index in 0..accounts.len() {
            tops.push(tops[index] + rows_of(index) * LANE);
        }
        let x = |index: usize| LEFT + columns[index] * COLUMN;
        let y = |index: usize| tops[lane(&graph.nodes[index].account)] + slots[index] * LANE + (LANE - BOX_HEIGHT) / 2;
        let boxes = graph.nodes.iter().enumerate().map(|(index, node)| PictureBox {
            x: x(index),
            y: y(index),
            label: shortened(&node.label),
            tip: format!("{} in {}", node.label, account_name(&node.account)),
            is_start: node.is_start,
        });
        let arrow = |edge: &GraphEdge| {
            let (from_x, from_y) = (x(edge.from) + BOX_WIDTH, y(edge.from) + BOX_HEIGHT / 2);
            let (to_x, to_y) = (x(edge.to), y(edge.to) + BOX_HEIGHT / 2);
            let bend = usize::midpoint(from_x, to_x);
            Arrow {
                path: format!("M{from_x} {from_y} C{bend} {from_y} {bend} {to_y} {} {to_y}", to_x.saturating_sub(7)),
                label_x: bend,
                label_y: usize::midpoint(from_y, to_y).saturating_sub(6),
                label: edge.label,
                tip: format!("{} {}", edge.label, edge.time),
            }
        };
        Picture {
            width: LEFT + columns.iter().max().map_or(0, |last| last * COLUMN) + BOX_WIDTH + 20,
            height: tops.last().copied().unwrap_or(LANE).max(LANE),
            lanes: accounts
                .iter()
                .enumerate()
                .map(|(index, account)| Lane {
                    y: tops[index],
                    middle: usize::midpoint(tops[index], tops[index + 1]),
                    account: account_name(account).to_owned(),
                })
                .collect(),
            boxes: boxes.collect(),
            arrows: graph.edges.iter().map(arrow).collect(),
        }
    }
}

/// Returns the column of each node: one more than that of the node before it.
fn columns(graph: &Graph) -> Vec<usize> {
    let mut columns = vec![0; graph.nodes.len()];
    // An edge leads to a node that was added after the one it comes from, or with it.
    for edge in &graph.edges {
        columns[edge.to] = columns[edge.to].max(columns[edge.from] + 1);
    }
    columns
}

fn account_name(account: &str) -> &str {
    if account.is_empty() { "no account" } else { account }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= BOX_CHARACTERS {
        return label.to_owned();
    }
    label.chars().take(BOX_CHARACTERS - 1).chain(['…']).collect()
}

/// Returns the page of a trace.
///
/// # Errors
/// The page cannot be rendered, which is a defect.
pub fn trace(trace: &Trace, read: &ScanStatistics) -> Result<String, Error> {
    let all = &trace.summary.all;
    let bins = Bins::of(all.first.zip(all.last).map(|(first, last)| (first, last + SECOND)));
    let counts = bins.counts(trace.events.iter().filter_map(|event| event.time));
    let timeline: Vec<(String, usize)> = bins.names().into_iter().zip(counts.iter().copied()).collect();
    let data = Timeline::of_one("event", "All events", &bins, counts);
    let title = format!("Trace: {} {}", trace.start.kind, trace.start.value);
    let heading = origin(&trace.origin);
    let graph = Graph::of(trace);
    let page = TracePage {
        frame: Frame::new(&title, &heading, &data, read, None)?,
        origin: heading,
        origins: trace.origins.iter().map(origin).collect(),
        tiles: tiles(trace),
        picture: Picture::of(&graph),
        more_credentials: graph.more,
        steps: steps(trace),
        bin: bins.name,
        timeline: Chart::of("events over time", "event", &timeline)?,
        timeline_rows: counted(&timeline),
        events: trace.events.iter().take(MAX_EVENTS).map(event_row).collect(),
        more_events: trace.events.len().saturating_sub(MAX_EVENTS),
        kinds: kinds(trace),
    };
    rendered(&page)
}

fn tiles(trace: &Trace) -> Vec<Fact> {
    let all = &trace.summary.all;
    vec![
        fact("events", all.events.to_string()),
        fact("denied", all.denied.to_string()),
        fact("writing", all.writes.to_string()),
        fact("credentials", trace.credentials.len().to_string()),
        fact("accounts", trace.summary.accounts.len().to_string()),
        fact("addresses", trace.summary.addresses.len().to_string()),
    ]
}

fn steps(trace: &Trace) -> Vec<StepRow> {
    let row = |step: &crate::trace::ChainStep| StepRow {
        time: step.time.map(String::from).unwrap_or_default(),
        name: step.kind.event_name(),
        account: step.account.clone().unwrap_or_default(),
        principal: step.principal.clone().unwrap_or_default(),
        issued_account: step.issued_account.clone().unwrap_or_default(),
        issued: step.issued_principal.clone().unwrap_or_default(),
        key: step.issued_key.clone().unwrap_or_default(),
        event_id: step.event_id.clone(),
    };
    trace.chain.iter().map(row).collect()
}

fn event_row(event: &TracedEvent) -> TracedEventRow {
    TracedEventRow {
        time: event.time.map(String::from).unwrap_or_default(),
        actor: event.identity.actor.as_deref().unwrap_or_default().to_owned(),
        call: format!("{} {}", service(&event.source), event.name),
        account: event.account.to_string(),
        region: event.region.to_string(),
        address: event.address.to_string(),
        outcome: result(event).to_owned(),
        id: event.id.to_string(),
        is_denied: event.is_denied(),
    }
}

fn kinds(trace: &Trace) -> Vec<KindRow> {
    let summary = &trace.summary;
    let row = |value: &ValueCounts| {
        let time = |time: Option<crate::time::Instant>| time.map(String::from).unwrap_or_default();
        let counts = value.counts;
        [
            value.value.clone(),
            counts.events.to_string(),
            counts.denied.to_string(),
            counts.writes.to_string(),
            time(counts.first),
            time(counts.last),
        ]
    };
    let kind = |kind, values: &[ValueCounts]| KindRow {
        kind,
        values: values.iter().take(MAX_VALUES).map(row).collect(),
        more: values.len().saturating_sub(MAX_VALUES),
    };
    vec![
        kind("service", &summary.services),
        kind("event", &summary.names),
        kind("region", &summary.regions),
        kind("account", &summary.accounts),
        kind("actor", &summary.actors),
        kind("address", &summary.addresses),
    ]
}
