//! quotad beside what it must be measured against, in one run on one machine, in alternating rounds:
//!
//! - `CheckLimit` with the embedded store beside a bare tonic server on the stock multi-thread runtime with one worker
//!   that answers the same message and decides nothing;
//! - with `--envoy`, the rate limit service beside the same echo, and the latency that quotad and the echo add through a
//!   real Envoy;
//! - with `--redis`, `CheckLimit` on Redis beside bare `INCR` on the same Redis, pipelined and not.
//!
//! `cargo bench --bench compare [-- --redis] [--seconds 3] [--rounds 3]` prints Markdown for docs/performance.md.

mod cell;
mod child;
mod echo;
mod embedded;
mod envoy;
mod load;
mod machine;
mod rate_limit;
mod redis;
mod resp;
mod table;

use clap::Parser;
use mimalloc::MiMalloc;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What to compare.
#[derive(Clone, Debug, Parser)]
#[command(name = "compare", about = "Measures quotad beside a bare tonic echo, and beside bare INCR")]
pub(crate) struct Options {
    /// Compare with bare INCR on Redis too (redis-server from QUOTAD_REDIS7, or PATH)
    #[arg(long)]
    redis: bool,
    /// Measure Envoy's protocols too: the rate limit service beside an echo, and what each adds through a real Envoy
    /// (from QUOTAD_ENVOY)
    #[arg(long)]
    envoy: bool,
    /// Leave out the comparison with the echo
    #[arg(long)]
    no_embedded: bool,
    /// Seconds each measurement takes
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of the client
    #[arg(long, default_value_t = 1)]
    client_threads: u32,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Serve the echo with this answer; what this program starts itself as
    #[arg(long, hide = true)]
    echo: Option<PathBuf>,
    /// The service that the echo stands for
    #[arg(long, hide = true, value_enum, default_value = "native")]
    echo_kind: echo::Kind,
}

impl Options {
    /// How long each measurement takes.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.05, 3_600.0))
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(answer) = &options.echo {
        return echo::serve(options.echo_kind, answer);
    }
    let mut out = std::io::stdout().lock();
    if !options.bench {
        // `cargo test --all-targets` runs this too, and nobody wants a minute of load there.
        writeln!(out, "nothing to test; run it by `cargo bench --bench compare`")?;
        return Ok(());
    }
    writeln!(out, "{}", machine::describe(&options))?;
    if !options.no_embedded {
        writeln!(out, "{}", embedded::compare(&options)?)?;
    }
    if options.redis {
        writeln!(out, "{}", redis::compare(&options)?)?;
    }
    if options.envoy {
        writeln!(out, "{}", rate_limit::compare(&options)?)?;
        writeln!(out, "{}", envoy::compare(&options)?)?;
    }
    Ok(())
}
