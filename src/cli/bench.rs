//! `quotad bench`: load for a running quotad, and a judgement of what it answered.
//!
//! Promise: what is reported was measured; a request that got no answer is counted, not left out; the limit check
//! never accuses falsely (see [`oracle`]).
//!
//! Must never: cost more than the server that it measures (requests are encoded once, answers read no further
//! than needed), or wait for ever.

pub mod course;
pub mod frames;
pub mod keys;
pub mod oracle;
pub mod plan;
pub mod report;
pub mod run;
mod stream;
pub mod tally;
pub mod usage;
pub mod wire;
pub mod worker;

use self::frames::{Depth, Question};
use self::keys::Distribution;
use self::plan::{Call, Load, Plan, Until};
use self::report::Report;
use super::screen::Screen;
use super::{EXIT_ALLOW, EXIT_DENY, EXIT_ERROR, json, parse_entry, span};
use crate::client::{Address, ClientError};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io;
use std::time::Duration;

pub(super) const AFTER_HELP: &str = "\
Examples:
  quotad bench --keys 1000 --duration 10s                          as fast as it goes
  quotad bench --rate 5000 --streams 64                            latency at a given load
  quotad bench --policy auth-per-ip --key-entry ip --limit-check   does it ever admit too much?
  quotad bench --call stream --batch 64                            the stream of checks
  quotad bench --server-pid \"$(pidof quotad)\" --json               for a script

A closed loop (the default) keeps connections x streams requests in flight and shows what the server can do.
An open loop (--rate) sends on schedule and counts latency from the moment a request was due, so that a stall shows;
it keeps a client thread busy while it waits.

The limit check knows each policy's window and bound from the answers. It counts only units that were certainly
admitted within one window, whatever the network did, so it may miss a little and never accuses falsely.

Exit codes: 0 done, 1 the limit check found too much admitted, 2 error, or nothing was answered.";

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No connection.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The keys do not fit into memory.
    #[error("--keys: {0}")]
    Keys(String),
    /// No thread, or no runtime for it.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The histogram cannot be made.
    #[error("cannot make a histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// A thread ended without a word.
    #[error("a thread of the bench died")]
    Died,
    /// Its processor time cannot be read.
    #[error("cannot read the processor time of process {pid}: {source}")]
    Process {
        /// Which.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// Which call to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CallName {
    /// CheckLimit, one request a call
    Check,
    /// CheckLimits, one stream a connection, many checks a message
    Stream,
}

/// `quotad bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Where quotad listens: HOST:PORT or unix:/path
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDR")]
    pub addr: Address,
    /// Connections to open
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Calls in flight on each connection (of a stream: messages)
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub streams: u32,
    /// Threads of this client
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub client_threads: u32,
    /// Open loop: requests a second in all [default: closed loop]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// How long to measure
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = span::parse, conflicts_with = "requests")]
    pub duration: Duration,
    /// Measure so many requests instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Time before measuring
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = span::parse)]
    pub warmup: Duration,
    /// Which call to make
    #[arg(long, value_enum, default_value_t = CallName::Check)]
    pub call: CallName,
    /// Checks in a message of --call stream
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub batch: u32,
    /// The domain of the policies
    #[arg(long, default_value = "default")]
    pub domain: String,
    /// Ask exactly this policy; may be repeated [default: every policy whose match holds]
    #[arg(long, value_name = "NAME")]
    pub policy: Vec<String>,
    /// Units of each request [default: each policy's own cost]
    #[arg(long, value_name = "UNITS")]
    pub cost: Option<u32>,
    /// The entry whose values make the keys; for `ip` they are addresses
    #[arg(long, default_value = "user", value_name = "NAME")]
    pub key_entry: String,
    /// How many different keys
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: u32,
    /// How requests spread over the keys
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub dist: Distribution,
    /// Check that no window ever admits more than the answers promise
    #[arg(long)]
    pub limit_check: bool,
    /// Report the processor time of this process (all its threads) for each request
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// The same of its Redis
    #[arg(long, value_name = "PID")]
    pub redis_pid: Option<u32>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Further entries of every request, such as plan=gold
    #[arg(value_parser = parse_entry, value_name = "KEY=VALUE")]
    pub entries: Vec<(String, String)>,
}

impl BenchArgs {
    /// What these flags ask for.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            address: self.addr.clone(),
            connections: self.connections,
            lanes: self.streams,
            // A thread without a connection has nothing to do.
            threads: self.client_threads.min(self.connections),
            load: self.rate.map_or(Load::Closed, |rate| Load::Open { rate }),
            warmup: self.warmup,
            until: self.requests.map_or(Until::Elapsed(self.duration), Until::Requests),
            call: match self.call {
                CallName::Check => Call::Unary,
                CallName::Stream => Call::Stream { batch: self.batch },
            },
            question: Question {
                domain: self.domain.clone(),
                policies: self.policy.clone(),
                cost: self.cost,
                entries: self.entries.clone(),
                key_entry: self.key_entry.clone(),
            },
            keys: self.keys,
            distribution: self.dist,
            depth: if self.limit_check { Depth::Whole } else { Depth::Outcome },
            server: self.server_pid,
            redis: self.redis_pid,
        }
    }
}

/// Runs a bench, prints what it found, and returns the exit code.
pub async fn bench(args: &BenchArgs, screen: &mut Screen<'_>) -> u8 {
    let bar = progress_bar();
    let outcome = measure(args.plan(), &mut |progress| {
        bar.set_position(progress.permille);
        bar.set_message(format!("{} answered", progress.done));
    })
    .await;
    bar.finish_and_clear();
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            if args.json {
                screen.print(&json::error("CLIENT", &error.to_string()));
            }
            screen.complain(&error.to_string(), error.hint());
            return EXIT_ERROR;
        }
    };
    screen.print(&if args.json { report.json() } else { report.text(screen.colour) });
    if report.answered() == 0 {
        screen.complain("not one request was answered with a decision", None);
        return EXIT_ERROR;
    }
    match &report.outcome.verdict {
        Some(verdict) if verdict.over_admissions > 0 => EXIT_DENY,
        _ => EXIT_ALLOW,
    }
}

/// Runs a plan: what `bench` does without the screen.
///
/// # Errors
/// It cannot begin.
pub async fn measure(plan: Plan, progress: &mut dyn FnMut(run::Progress)) -> Result<Report, BenchError> {
    let outcome = run::run(plan.clone(), progress).await?;
    Ok(Report { plan, outcome })
}

impl BenchError {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Client(error) => Some(error.hint()),
            Self::Process { .. } => {
                Some("processor times are read from /proc, so it must run on this Linux machine")
            }
            _ => None,
        }
    }
}

/// Shows itself on a terminal only; standard output stays clean for the result.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1_000), ProgressDrawTarget::stderr());
    // The template is a constant that parses; if it did not, the default one is as good.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent:>3}%  {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::super::check::samples;
    use super::super::fake::Fake;
    use super::super::screen::Colour;
    use super::plan::tests::plan;
    use super::*;
    use crate::pb::quotad::v1::Decision;
    use clap::Parser as _;
    use std::collections::BTreeMap;
    use tonic::Status;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn args(line: &str) -> BenchArgs {
        Line::try_parse_from(line.split_ascii_whitespace()).unwrap().bench
    }

    async fn measured(plan: Plan) -> Report {
        measure(plan, &mut |_| {}).await.unwrap()
    }

    /// Allows everything and promises to allow only ten units a minute.
    fn careless() -> Decision {
        let mut decision = samples::denied();
        decision.outcome = samples::unlimited().outcome;
        decision
    }

    #[tokio::test]
    async fn a_closed_loop_measures_for_its_time() {
        let fake = Fake::start(|_| Ok(samples::unlimited()));
        let report = measured(plan(fake.address.clone())).await;
        assert!(report.outcome.tally.allowed > 20, "{report:?}");
        assert!(report.outcome.tally.errors.is_empty(), "{:?}", report.outcome.tally.errors);
        let elapsed = report.outcome.elapsed;
        assert!(elapsed > Duration::from_millis(150) && elapsed < Duration::from_secs(3), "{elapsed:?}");
        assert_eq!(report.outcome.tally.latency.len(), report.answered());
        // The fake saw the warm-up too.
        assert!(fake.calls() >= report.answered());
    }

    #[tokio::test]
    async fn a_number_of_requests_is_kept_exactly_with_several_threads() {
        let fake = Fake::start(|_| Ok(samples::denied()));
        let plan = Plan {
            until: Until::Requests(321),
            threads: 2,
            server: Some(std::process::id()),
            ..plan(fake.address.clone())
        };
        let report = measured(plan).await;
        assert_eq!((report.outcome.tally.denied, report.outcome.tally.allowed), (321, 0));
        assert!(report.outcome.server_cpu.is_some());
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_rate() {
        let fake = Fake::start(|_| Ok(samples::unlimited()));
        let plan = Plan {
            load: Load::Open { rate: 500 },
            until: Until::Elapsed(Duration::from_secs(1)),
            ..plan(fake.address.clone())
        };
        let report = measured(plan).await;
        assert_eq!(report.answered(), 500, "everything due in a second is sent and answered");
    }

    #[tokio::test]
    async fn a_stream_carries_batches_and_every_check_is_answered() {
        let fake = Fake::start(|request| match request.entries["user"].as_str() {
            "bench-3" => Err(Status::not_found("no")),
            _ => Ok(samples::unlimited()),
        });
        let plan = Plan {
            call: Call::Stream { batch: 10 },
            until: Until::Requests(1_005),
            ..plan(fake.address.clone())
        };
        let report = measured(plan).await;
        let refused = report.outcome.tally.errors["NOT_FOUND"];
        assert_eq!(report.answered() + refused, 1_005, "{:?}", report.outcome.tally.errors);
        assert!(refused > 50 && refused < 200, "one key of ten: {refused}");
    }

    #[tokio::test]
    async fn the_limit_check_catches_a_careless_server_and_the_exit_code_says_so() {
        let fake = Fake::start(|_| Ok(careless()));
        let line =
            format!("bench --addr {} --requests 200 --keys 2 --warmup 10ms --limit-check", fake.address);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, colour: Colour::Off };
        assert_eq!(bench(&args(&line), &mut screen).await, EXIT_DENY);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("BROKEN for 2 counters") && text.contains("bound 10"), "{text}");
    }

    #[tokio::test]
    async fn a_call_that_fails_is_counted_and_never_taken_for_an_answer() {
        let fake = Fake::start(|_| Err(Status::unavailable("the store is away")));
        let line = format!("bench --addr {} --requests 50 --warmup 10ms --json", fake.address);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, colour: Colour::Off };
        assert_eq!(bench(&args(&line), &mut screen).await, EXIT_ERROR);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&value["errors"]["UNAVAILABLE"], &value["requests"]), (&50.into(), &0.into()));
        assert!(String::from_utf8(err).unwrap().contains("not one request"));
    }

    #[tokio::test]
    async fn a_server_that_goes_away_is_reported_and_ends_the_run() {
        let fake = Fake::start(|_| Ok(samples::unlimited()));
        let run = measured(plan(fake.address.clone()));
        let stop = async {
            while fake.calls() < 100 {
                tokio::task::yield_now().await;
            }
            fake.stop();
        };
        let (report, ()) = tokio::join!(run, stop);
        let errors: u64 = report.outcome.tally.errors.values().sum();
        assert!(errors > 0, "{:?}", report.outcome.tally);
    }

    #[tokio::test]
    async fn a_connection_that_the_server_ends_in_order_costs_no_request() {
        for call in [Call::Unary, Call::Stream { batch: 4 }] {
            let fake = Fake::start(|_| Ok(samples::unlimited()));
            let plan = Plan { until: Until::Requests(3_000), call, ..plan(fake.address.clone()) };
            let hang_ups = async {
                for calls in [400, 900, 1_400] {
                    while fake.calls() < calls {
                        tokio::task::yield_now().await;
                    }
                    fake.hang_up();
                }
            };
            let (report, ()) = tokio::join!(measured(plan), hang_ups);
            let tally = &report.outcome.tally;
            assert_eq!((tally.allowed, &tally.errors), (3_000, &BTreeMap::new()), "{call:?}");
            assert!(call != Call::Unary || tally.reconnects >= 2, "{call:?}: {}", tally.reconnects);
        }
    }

    #[tokio::test]
    async fn a_bench_against_nobody_is_an_error_with_a_hint() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, colour: Colour::Off };
        assert_eq!(bench(&args(&format!("bench --addr {free}")), &mut screen).await, EXIT_ERROR);
        assert!(String::from_utf8(err).unwrap().contains("is quotad running there?"));
        let plan = Plan { server: Some(u32::MAX), ..plan(free.to_string().parse().unwrap()) };
        let error = measure(plan, &mut |_| {}).await.unwrap_err();
        assert!(matches!(error, BenchError::Process { .. }), "{error}");
    }

    #[test]
    fn flags_become_a_plan() {
        let plan = args("bench --rate 100 --client-threads 4 --connections 2 --call stream --batch 5").plan();
        assert_eq!((plan.load, plan.threads), (Load::Open { rate: 100 }, 2));
        assert_eq!(plan.call, Call::Stream { batch: 5 });
        assert_eq!(plan.until, Until::Elapsed(Duration::from_secs(5)));
        assert_eq!(plan.depth, Depth::Outcome);
        assert!(Line::try_parse_from(["bench", "--duration", "1s", "--requests", "5"]).is_err());
        assert!(Line::try_parse_from(["bench", "--keys", "0"]).is_err());
    }
}
