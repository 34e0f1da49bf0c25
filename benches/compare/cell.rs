//! One measurement, and the median of several.

use crate::Options;
use anyhow::{Context as _, bail, ensure};
use quotad::cli::bench::frames::{Depth, Question};
use quotad::cli::bench::keys::Distribution;
use quotad::cli::bench::plan::{Call, Load, Plan, Until};
use quotad::cli::bench::{self};
use quotad::client;
use quotad::pb::quotad::v1::CheckLimitResponse;
use quotad::pb::quotad::v1::decision_service_client::DecisionServiceClient;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};

/// Keys that every load asks about.
pub(crate) const KEYS: u32 = 1_000;

/// How often a quotad is asked until its store is there, and how long between.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// What one measurement found. Times are microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// Operations a second.
    pub(crate) rate: f64,
    /// The median latency.
    pub(crate) p50: f64,
    /// One of a hundred takes longer.
    pub(crate) p99: f64,
    /// Processor time of the server for each operation.
    pub(crate) server: Option<f64>,
    /// The same of Redis.
    pub(crate) redis: Option<f64>,
}

/// Connections, and calls in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Connections.
    pub(crate) connections: u32,
    /// Calls in flight on each.
    pub(crate) lanes: u32,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} x {}", self.connections, self.lanes)
    }
}

fn question() -> Question {
    Question {
        domain: "default".to_owned(),
        policies: vec!["api-per-user".to_owned()],
        key_entry: "user".to_owned(),
        ..Question::default()
    }
}

/// Loads a server that answers `CheckLimit`.
pub(crate) fn checks(
    options: &Options,
    address: &str,
    shape: Shape,
    pids: (Option<u32>, Option<u32>),
) -> anyhow::Result<Found> {
    let plan = Plan {
        address: address.parse()?,
        connections: shape.connections,
        lanes: shape.lanes,
        threads: options.client_threads.min(shape.connections),
        load: Load::Closed,
        warmup: options.span() / 6,
        until: Until::Elapsed(options.span()),
        call: Call::Unary,
        question: question(),
        keys: KEYS,
        distribution: Distribution::Uniform,
        depth: Depth::Outcome,
        server: pids.0,
        redis: pids.1,
    };
    let report = block_on(bench::measure(plan, &mut |_| {}))??;
    let tally = &report.outcome.tally;
    ensure!(tally.errors.is_empty() && tally.denied == 0, "not every check was allowed: {tally:?}");
    let (latency, micros) = (report.latency(), |span: Duration| span.as_secs_f64() * 1e6);
    Ok(Found {
        rate: report.rate(),
        p50: latency.p50 * 1e6,
        p99: latency.p99 * 1e6,
        server: report.outcome.server_cpu.map(micros),
        redis: report.outcome.redis_cpu.map(micros),
    })
}

/// One answer, for the echo to repeat. A quotad listens before its store is there, so it is asked until it decides.
pub(crate) fn one_answer(address: &str) -> anyhow::Result<CheckLimitResponse> {
    let address: client::Address = address.parse()?;
    block_on(async {
        let connection = client::connect(&address, Duration::from_secs(5)).await?;
        let mut client = DecisionServiceClient::with_origin(connection, address.origin());
        let mut attempts = 1;
        loop {
            match client.check_limit(question().request(0)).await {
                Ok(answer) if answer.get_ref().decision.is_some() => return Ok(answer.into_inner()),
                Ok(_) => bail!("the answer has no decision in it"),
                Err(status) if attempts >= ATTEMPTS => return Err(status.into()),
                Err(_) => attempts += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
    })?
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(task: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("no runtime")?;
    Ok(runtime.block_on(task))
}

/// The median of each number, for itself.
pub(crate) fn median(rounds: &[Found]) -> Found {
    let pick = |field: fn(&Found) -> Option<f64>| {
        let mut values: Vec<f64> = rounds.iter().filter_map(field).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Found {
        rate: pick(|found| Some(found.rate)).unwrap_or_default(),
        p50: pick(|found| Some(found.p50)).unwrap_or_default(),
        p99: pick(|found| Some(found.p99)).unwrap_or_default(),
        server: pick(|found| found.server),
        redis: pick(|found| found.redis),
    }
}
