//! What a decision of the embedded store costs, on one key, on many, and on two threads; and what a key takes.
//!
//! `cargo bench --bench memory`. After the times stand the bytes of a live `token_bucket` key at a million keys:
//! what the store's tables hold, and what the process grew by.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use futures_util::FutureExt as _;
use mimalloc::MiMalloc;
use quotad::engine::ask::{Answer, Ask, Demand, Take, Weight};
use quotad::engine::bucket::Bucket;
use quotad::engine::fixed::Fixed;
use quotad::engine::key::Key;
use quotad::engine::rule::Rule;
use quotad::engine::units::Micros;
use quotad::engine::window::Window;
use quotad::store::Store as _;
use quotad::store::memory::{MemoryOptions, MemoryStore};
use smallvec::smallvec;
use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

const PATIENCE: Duration = Duration::from_millis(5);
const MINUTE: Micros = Micros(60_000_000);
const HOUR: Micros = Micros(3_600_000_000);
/// Keys whose memory is measured.
const MANY: usize = 1_000_000;
/// Bytes of a page of `/proc/self/statm`.
const PAGE: usize = 4_096;

/// One policy of each algorithm that keeps one number, and the two forms of the sliding window.
#[derive(Clone, Copy)]
enum Kind {
    Bucket,
    Fixed,
    ExactWindow,
    WideWindow,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Bucket => "token_bucket",
            Self::Fixed => "fixed_window",
            Self::ExactWindow => "sliding_window_10",
            Self::WideWindow => "sliding_window_1000",
        })
    }
}

const KINDS: [Kind; 4] = [Kind::Bucket, Kind::Fixed, Kind::ExactWindow, Kind::WideWindow];

fn main() -> anyhow::Result<()> {
    // A filter asks for something else, and `cargo test` for a dry run, which has no `--bench`.
    let whole = std::env::args().skip(1).eq(["--bench".to_owned()]);
    // First, for what the times below take and give back would hide what the process grows by.
    let size = if whole { report_size()? } else { String::new() };
    divan::main();
    write!(std::io::stdout().lock(), "{size}")?;
    Ok(())
}

#[divan::bench(args = KINDS, threads = [1, 2])]
fn take_one_key(bencher: Bencher<'_, '_>, kind: Kind) {
    takes(bencher, kind, 1);
}

#[divan::bench(args = KINDS, threads = [1, 2])]
fn take_of_a_hundred_thousand_keys(bencher: Bencher<'_, '_>, kind: Kind) {
    takes(bencher, kind, 100_000);
}

/// Four policies of one request: four shards locked in order.
#[divan::bench(threads = [1, 2])]
fn take_four_policies(bencher: Bencher<'_, '_>) {
    let store = store();
    let next = AtomicUsize::new(0);
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| {
            let user = next.fetch_add(1, Ordering::Relaxed) % 1_000;
            let demands =
                (0..4).map(|policy| demand(Kind::Bucket, &format!("policy-{policy}"), user)).collect();
            Ask { demands, ..Ask::default() }
        })
        .bench_values(|ask| take(&store, ask));
}

fn takes(bencher: Bencher<'_, '_>, kind: Kind, keys: usize) {
    let store = store();
    let asks: Vec<Ask> = (0..keys).map(|user| ask(kind, user)).collect();
    for ask in &asks {
        take(&store, ask.clone());
    }
    let next = AtomicUsize::new(0);
    bencher
        .counter(ItemsCount::new(1_u32))
        .with_inputs(|| {
            // A stride that is prime to the number of keys visits all of them, never a neighbour.
            let at = next.fetch_add(7_919, Ordering::Relaxed) % asks.len();
            asks.get(at).cloned().unwrap_or_default()
        })
        .bench_values(|ask| take(&store, ask));
}

#[expect(clippy::expect_used, reason = "a bench without its store measures nothing")]
fn store() -> MemoryStore {
    MemoryStore::new(MemoryOptions::default()).expect("a store without data_dir opens")
}

#[expect(clippy::expect_used, reason = "a bench of answers that do not come measures nothing")]
fn take(store: &MemoryStore, ask: Ask) -> Answer {
    let answer = store.take(black_box(ask), PATIENCE).now_or_never();
    answer.expect("the embedded store does not wait").expect("it answers")
}

fn ask(kind: Kind, user: usize) -> Ask {
    Ask { demands: smallvec![demand(kind, "api-per-user", user)], ..Ask::default() }
}

fn demand(kind: Kind, policy: &str, user: usize) -> Demand {
    let rule = match kind {
        Kind::Bucket => Rule::Bucket(Bucket::new(1_000_000, MINUTE, 1_000_000)),
        Kind::Fixed => Rule::Fixed(Fixed { limit: 1_000_000, window: MINUTE }),
        Kind::ExactWindow => Rule::Window(Window::new(10, MINUTE)),
        Kind::WideWindow => Rule::Window(Window::new(1_000, MINUTE)),
    };
    let user = format!("user-{user}");
    Demand {
        key: Key::new("default", policy, [("user", user.as_str())].into_iter(), &rule),
        rule,
        cost: 1,
        take: Take::Charge,
        weight: Weight::Enforced,
        lease: None,
    }
}

/// Bytes a live `token_bucket` key: of a bucket so slow that none of a million is full again before the last is charged.
fn report_size() -> anyhow::Result<String> {
    let rule = Rule::Bucket(Bucket::new(10, HOUR, 10));
    let store = store();
    let before = resident()?;
    for user in 0..MANY {
        let demand = Demand { rule, ..demand(Kind::Bucket, "api-per-user", user) };
        take(&store, Ask { demands: smallvec![demand], ..Ask::default() });
    }
    let after = resident()?;
    let (keys, bytes) = store.size();
    anyhow::ensure!(keys == MANY, "{keys} keys are live, not {MANY}");
    let tenths = |bytes: usize| format!("{}.{}", bytes / keys, bytes % keys * 10 / keys);
    Ok(format!(
        "\n{keys} live token_bucket keys (at most 60 bytes each is the target)\n  in the tables       {} bytes a key\n  \
         the process grew by {} bytes a key\n",
        tenths(bytes),
        tenths(after.saturating_sub(before))
    ))
}

/// Bytes of this process in memory.
fn resident() -> anyhow::Result<usize> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split_ascii_whitespace().nth(1).unwrap_or_default().parse()?;
    Ok(pages * PAGE)
}
