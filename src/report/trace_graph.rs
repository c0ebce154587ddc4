//! The graph of a trace: principals and sessions, and the acts between them.

use std::fmt::Write as _;

use super::trace::short_principal;
use crate::text::printable;
use crate::time::Instant;
use crate::trace::{IssueKind, Trace};

/// Maximum number of credentials in a picture.
const MAX_CREDENTIALS: usize = 60;

/// A principal or a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphNode {
    /// Its name.
    pub(super) label: String,
    /// Its account.
    pub(super) account: String,
    /// Whether the trace starts from it.
    pub(super) is_start: bool,
    /// The principal that acts with it.
    principal: Option<String>,
    /// Its access key.
    key: Option<String>,
    /// The act that issued it.
    event_id: Option<String>,
}

/// An act that issued a session to a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphEdge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The name of the event.
    pub(super) label: &'static str,
    /// Its time.
    pub(super) time: String,
}

/// The nodes and edges of a trace.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<GraphNode>,
    pub(super) edges: Vec<GraphEdge>,
    /// The number of credentials that are left out.
    pub(super) more: usize,
}

/// An act, from either the chain or the credentials of a trace.
struct Act<'t> {
    kind: IssueKind,
    event_id: &'t str,
    time: Option<Instant>,
    caller: Option<&'t str>,
    caller_account: Option<&'t str>,
    caller_key: Option<&'t str>,
    parent_event_id: Option<&'t str>,
    issued: Option<&'t str>,
    issued_account: Option<&'t str>,
    key: Option<&'t str>,
}

impl Graph {
    /// Returns the graph of `trace`: its chain, and the credentials that were followed.
    pub(super) fn of(trace: &Trace) -> Graph {
        let mut graph = Graph::default();
        for step in &trace.chain {
            graph.add(&Act {
                kind: step.kind,
                event_id: &step.event_id,
                time: step.time,
                caller: step.principal.as_deref(),
                caller_account: step.account.as_deref(),
                caller_key: step.used_key.as_deref(),
                parent_event_id: step.parent_event_id.as_deref(),
                issued: step.issued_principal.as_deref(),
                issued_account: step.issued_account.as_deref(),
                key: step.issued_key.as_deref(),
            });
        }
        graph.more = trace.credentials.len().saturating_sub(MAX_CREDENTIALS);
        for credential in trace.credentials.iter().take(MAX_CREDENTIALS) {
            let act = credential.kind.zip(credential.issued_by.as_deref()).map(|(kind, event_id)| Act {
                kind,
                event_id,
                time: trace.events.iter().find(|event| *event.id == *event_id).and_then(|event| event.time),
                caller: credential.issuer.as_deref(),
                caller_account: credential.issuer_account.as_deref(),
                caller_key: credential.issuer_key.as_deref(),
                parent_event_id: credential.parent_event_id.as_deref(),
                issued: credential.principal.as_deref(),
                issued_account: credential.account.as_deref(),
                key: credential.access_key.as_deref(),
            });
            let node = if let Some(act) = act {
                graph.add(&act)
            } else {
                let principal = credential.principal.as_deref().or(credential.access_key.as_deref());
                graph.principal(principal, credential.account.as_deref(), credential.access_key.as_deref())
            };
            graph.nodes[node].is_start |= credential.depth == 0;
        }
        graph
    }

    /// Adds an act, unless it is known. Returns the node of what it issued.
    fn add(&mut self, act: &Act<'_>) -> usize {
        let issued_by = |event_id: &str| self.nodes.iter().position(|node| node.event_id.as_deref() == Some(event_id));
        if let Some(known) = issued_by(act.event_id) {
            return known;
        }
        let from = match act.parent_event_id.and_then(issued_by) {
            Some(parent) => parent,
            None => self.principal(act.caller, act.caller_account, act.caller_key),
        };
        let name = short_principal(act.issued);
        let label = match act.kind {
            IssueKind::CreateAccessKey => act.key.map(str::to_owned),
            IssueKind::ConsoleSignIn | IssueKind::SignInToken => {
                Some(format!("console session of {}", name.as_deref().unwrap_or("the user")))
            }
            IssueKind::GetSessionToken => Some(format!("session of {}", name.as_deref().unwrap_or("the user"))),
            _ => name,
        };
        let to = self.nodes.len();
        self.nodes.push(GraphNode {
            label: label.or_else(|| act.key.map(str::to_owned)).unwrap_or_else(|| "a session".to_owned()),
            account: act.issued_account.unwrap_or_default().to_owned(),
            is_start: false,
            principal: act.issued.map(str::to_owned),
            key: act.key.map(str::to_owned),
            event_id: Some(act.event_id.to_owned()),
        });
        let time = act.time.map(String::from).unwrap_or_default();
        self.edges.push(GraphEdge { from, to, label: act.kind.event_name(), time });
        to
    }

    /// Returns the node of a principal: the credential whose key it used, else the last session that acts as it, else its own.
    fn principal(&mut self, principal: Option<&str>, account: Option<&str>, key: Option<&str>) -> usize {
        let has_key = |node: &GraphNode| key.is_some() && node.key.as_deref() == key;
        let is_it = |node: &GraphNode| principal.is_some() && node.principal.as_deref() == principal;
        let known = self.nodes.iter().position(has_key).or_else(|| self.nodes.iter().rposition(is_it));
        if let Some(known) = known {
            return known;
        }
        self.nodes.push(GraphNode {
            label: short_principal(principal).unwrap_or_else(|| "unknown".to_owned()),
            account: account.unwrap_or_default().to_owned(),
            is_start: false,
            principal: principal.map(str::to_owned),
            key: key.map(str::to_owned),
            event_id: None,
        });
        self.nodes.len() - 1
    }

    /// Returns the accounts in order of their first node.
    pub(super) fn accounts(&self) -> Vec<&str> {
        let mut accounts: Vec<&str> = Vec::new();
        for node in &self.nodes {
            if !accounts.contains(&node.account.as_str()) {
                accounts.push(&node.account);
            }
        }
        accounts
    }

    /// Returns the graph in the DOT language of Graphviz.
    pub(super) fn dot(&self) -> String {
        // Writing to a string does not fail.
        let mut text = String::from("digraph trace {\n  rankdir=LR;\n  node [shape=box];\n");
        for (number, account) in self.accounts().iter().enumerate() {
            writeln!(text, "  subgraph cluster_{number} {{\n    label={};", dot_text(account)).ok();
            for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.account == *account) {
                let style = if node.is_start { ", style=bold" } else { "" };
                writeln!(text, "    n{index} [label={}{style}];", dot_text(&node.label)).ok();
            }
            text.push_str("  }\n");
        }
        for GraphEdge { from, to, label, time } in &self.edges {
            writeln!(text, "  n{from} -> n{to} [label={}];", dot_text(&format!("{label} {time}"))).ok();
        }
        text.push_str("}\n");
        text
    }
}

/// Returns a quoted string of the DOT language. A backslash would begin an escape, such as `\N` for the node's name.
fn dot_text(text: &str) -> String {
    format!("\"{}\"", printable(text).replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_dot_are_escaped() {
        assert_eq!(dot_text("a\"b\\N\n"), r#""a\"b\\N\\u{a}""#);
    }
}
