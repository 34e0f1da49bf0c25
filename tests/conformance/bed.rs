//! What the suite needs of a store: stores that share one state, and a clock that it sets.

use crate::redis::{Client, Kind, Server};
use quotad::engine::units::{Micros, Moment};
use quotad::store::memory::{MemoryOptions, MemoryStore, StoreClock};
use quotad::store::redis::{RedisOptions, RedisStore};
use quotad::store::{Store, StoreError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Where the suite's clocks begin.
pub(crate) const BEGIN: Moment = Moment(1_700_000_000_000_000);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A store under test. Every bed has names of its own, so that beds can share a server.
pub(crate) trait Bed {
    /// The store.
    type Store: Store + Clone;

    /// A store on the bed's state; several are replicas of each other.
    fn store(&self) -> impl Future<Output = Self::Store>;

    /// Sets the store's clock.
    fn set_clock(&self, now: Moment);

    /// A domain that nobody else uses.
    fn domain(&self) -> String;
}

/// A bed on a Redis.
#[derive(Debug)]
pub(crate) struct RedisBed {
    server: &'static Server,
    client: Mutex<Client>,
    name: String,
}

impl RedisBed {
    /// A bed on the process's server of this kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self::on(shared(kind))
    }

    /// A bed on a server.
    pub(crate) fn on(server: &'static Server) -> Self {
        let name = format!("bed-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bed = Self { server, client: Mutex::new(server.client()), name };
        bed.set_clock(BEGIN);
        bed
    }

    fn clock_key(&self) -> String {
        format!("clock:{}", self.name)
    }
}

impl Bed for RedisBed {
    type Store = RedisStore;

    async fn store(&self) -> RedisStore {
        let mut options = RedisOptions::new(self.server.url());
        options.timeout = PATIENCE;
        options.clock_key = Some(self.clock_key());
        connected(options).await
    }

    fn set_clock(&self, now: Moment) {
        let (key, seconds, micros) =
            (self.clock_key(), now.seconds().to_string(), (now.0 % 1_000_000).to_string());
        let mut client = self.client.lock().unwrap();
        client.run(&["EVAL", SET_CLOCK, "1", &key, &seconds, &micros]);
    }

    fn domain(&self) -> String {
        self.name.clone()
    }
}

/// A bed on an embedded store of its own.
#[derive(Debug)]
pub(crate) struct MemoryBed {
    clock: Arc<AtomicU64>,
    store: Arc<MemoryStore>,
}

impl MemoryBed {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(BEGIN.0));
        let options = MemoryOptions {
            clock: StoreClock::Manual(Arc::clone(&clock)),
            hold: Micros::from_seconds(86_400),
            ..MemoryOptions::default()
        };
        Self { clock, store: Arc::new(MemoryStore::new(options).unwrap()) }
    }
}

impl Bed for MemoryBed {
    type Store = Arc<MemoryStore>;

    async fn store(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.store)
    }

    fn set_clock(&self, now: Moment) {
        self.clock.store(now.0, Ordering::SeqCst);
    }

    fn domain(&self) -> String {
        "bed".to_owned()
    }
}

const SET_CLOCK: &str = "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])";

/// The process's server of a kind; it ends with the process.
fn shared(kind: Kind) -> &'static Server {
    static SERVERS: [OnceLock<Server>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    let [redis7, redis8, valkey8] = &SERVERS;
    let place = match kind {
        Kind::Redis7 => redis7,
        Kind::Redis8 => redis8,
        Kind::Valkey8 => valkey8,
    };
    place.get_or_init(|| Server::start(kind))
}

/// A store with its driver running, connected.
pub(crate) async fn connected(options: RedisOptions) -> RedisStore {
    let store = started(options);
    reachable(&store).await;
    store
}

/// A store with its driver running.
pub(crate) fn started(options: RedisOptions) -> RedisStore {
    let (store, driver) = RedisStore::connect(options).unwrap();
    spawn(driver.run());
    store
}

/// Runs a task beside the test, on its runtime.
#[expect(clippy::disallowed_methods, reason = "the test's runtime ends its tasks")]
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}

/// Waits until the store answers.
pub(crate) async fn reachable(store: &impl Store) {
    let waiting = async {
        while !store.health().reachable {
            // A poll of a condition with a deadline.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the store connects");
}

/// The error of a call that must fail.
pub(crate) fn failed<T: std::fmt::Debug>(result: Result<T, StoreError>) -> StoreError {
    result.expect_err("the call must fail")
}
