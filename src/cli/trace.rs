use std::net::IpAddr;

use clap::{ArgGroup, Args};
use ipnet::IpNet;

use super::data::DataArgs;
use super::range::EventRangeArgs;
use super::{Context, format};
use crate::error::{Error, Status};
use crate::report::trace::{self as report, TraceFormat};
use crate::statistics::number_of;
use crate::store::{self, Location};
use crate::time::Range;
use crate::trace::{self, DEFAULT_DEPTH, Start, TraceOutcome, TraceRequest};

/// Follow a credential: who began its chain, and everything that was done with it
///
/// Backwards, from an access key or session to the event that issued it, across accounts, to the user, key or service that
/// began the chain. Forwards, everything done with the credential and with those that it issued.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("start").required(true).args(["finding", "event", "key", "arn", "actor", "ip"]),
    after_help = "Examples:\n  tawny trace lake/ --key AKIAIOSFODNN7EXAMPLE\n  tawny trace lake/ --event 8feee4c2-5e27-4857-8475-bfa7e7b6d791 --from-origin\n  tawny trace lake/ --finding 0a1b2c3d --findings findings.jsonl --format json\n  tawny trace s3://logs/AWSLogs --ip 192.0.2.0/24 --from 2026-09-01 --to 2026-09-02"
)]
pub(super) struct TraceCommand {
    /// Start from the events of the finding with this `finding_id`, or the start of it
    #[arg(long, value_name = "ID", requires = "findings")]
    finding: Option<String>,
    /// File with the finding, as `tawny hunt --format json` or `jsonl` writes it
    #[arg(long, value_name = "FILE", requires = "finding")]
    findings: Option<String>,
    /// Start from the event with this eventID
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Start from this access key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Start from the calls of this user, role, role session or federated user
    #[arg(long, value_name = "ARN")]
    arn: Option<String>,
    /// Start from the calls of this actor, as tables of findings name it
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Start from the calls of this address or network
    #[arg(long, value_name = "NET", value_parser = network)]
    ip: Option<IpNet>,
    #[command(flatten)]
    range: EventRangeArgs,
    /// How many times credentials may issue others; those beyond are not followed
    #[arg(long, value_name = "N", default_value_t = DEFAULT_DEPTH, value_parser = clap::value_parser!(u32).range(0..=100))]
    depth: u32,
    /// Follow everything that the chain's credentials did, from the origin on, not only what was done with the start's
    #[arg(long)]
    from_origin: bool,
    /// Output format [default: by the ending of `--output`, else table]
    #[arg(long, value_enum)]
    format: Option<TraceFormat>,
    /// Write the output to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

/// Parses an address or a network.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let wrong = || "expected an address or a network, such as 192.0.2.7 or 192.0.2.0/24".to_owned();
    text.parse::<IpNet>().ok().or_else(address).ok_or_else(wrong)
}

impl TraceCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &None])?;
        let range = self.range.range()?;
        let start = self.start()?;
        let request = TraceRequest { start, range, depth: self.depth, from_origin: self.from_origin };
        let opened = self.data.open(context, None, "tracing").await?;
        let TraceOutcome { trace, read } = trace::trace(&opened.engine, opened.table.as_ref(), &request).await?;
        opened.bar.finish_and_clear();
        let mut summary = opened.summary(range, "searched");
        summary.without_times = Some("no chain of credentials can be followed");
        let Some(trace) = trace else {
            let status = summary.report(context.output, &read).await?;
            let range = if range == Range::default() { "" } else { " in the range" };
            context.output.warn(&format!("error: the data holds no event {}{range}", what(&request.start)));
            return Ok(status.max(Status::Usage));
        };
        context.write(report::encode(&trace, &read, format)?.into_bytes(), self.output.as_deref()).await?;
        summary.has_results = trace.events.iter().any(|event| event.time.is_some());
        let status = summary.report(context.output, &read).await?;
        if trace.is_cut {
            context.output.warn(&format!(
                "note: credentials beyond the depth of {} are not followed; a larger `--depth` follows them",
                self.depth
            ));
        }
        if trace.of_unknown_sessions > 0 {
            let records = number_of(trace.of_unknown_sessions, "record");
            context.output.warn(&format!(
                "note: {records} of other accounts left out: they name a session of the trace, but not which one of that name"
            ));
        }
        let events = number_of(trace.events.len(), "event");
        let credentials = number_of(trace.credentials.len(), "credential");
        context.output.talk(&format!("{events} of {credentials}"));
        Ok(status)
    }

    fn start(&self) -> Result<Start, Error> {
        if let (Some(id), Some(file)) = (&self.finding, &self.findings) {
            let Location::Disk(path) = Location::of(file) else {
                return Err(Error::usage("`--findings` must be a file on disk"));
            };
            let text = store::read_named("file of findings", &path, u64::MAX)?;
            return Start::of_finding(id, &text).map_err(|error| Error::Usage {
                message: format!("`{file}`: {error}"),
                hint: Some(
                    "name the `finding_id` of a finding that `tawny hunt --format jsonl` wrote there".to_owned(),
                ),
            });
        }
        if let Some(network) = self.ip {
            return Ok(Start::Ip(network));
        }
        if let Some(arn) = self.arn.as_ref().filter(|arn| !arn.starts_with("arn:")) {
            return Err(Error::Usage {
                message: format!("`--arn {arn}` is not an ARN"),
                hint: Some("`--actor` takes the name of a user or role".to_owned()),
            });
        }
        let named = [
            self.event.clone().map(Start::Event),
            self.key.clone().map(Start::Key),
            self.arn.clone().map(Start::Arn),
            self.actor.clone().map(Start::Actor),
        ];
        let start = named.into_iter().flatten().next();
        start.ok_or_else(|| Error::usage("name a start: `--finding`, `--event`, `--key`, `--arn`, `--actor` or `--ip`"))
    }
}

/// Names a start, after the words "no event".
fn what(start: &Start) -> String {
    let value = start.value();
    match start {
        Start::Finding { .. } => format!("of the finding `{value}`"),
        Start::Event(_) => format!("with the ID `{value}`"),
        Start::Key(_) => format!("of the access key `{value}`"),
        Start::Arn(_) | Start::Actor(_) => format!("of `{value}`"),
        Start::Ip(_) => format!("from `{value}`"),
    }
}
