//! The store on Redis 7 or Valkey: one server that several quotad share.
//!
//! Promise: one script call decides and charges; decisions that arrive while a call is under way share the next one.
//! Time is Redis's. Every key has an expiry. While Redis is away a call fails at once and the store recovers by
//! itself; the process starts without Redis.
//!
//! Must never: send a charge twice, block a thread, wait beyond the caller's patience or the configured timeout.
//!
//! | file | what |
//! |---|---|
//! | `take.lua`, `one.lua`, `plan.rs`, `reply.rs` | decisions: scripts for many and for one, question, answer |
//! | `settle.lua`, `settle.rs` | settlements of reservations |
//! | `renew.lua`, `release.lua`, `leases.rs` | leases |
//! | `answers.rs` | how many answers to request ids are kept |
//! | `revoke.lua` | revocations |
//! | `heartbeat.lua`, `replicas.rs` | who shares this Redis |
//! | `probe.lua`, `check.rs` | start-up checks |
//! | `line.rs`, `driver.rs`, `pipe.rs`, `resp.rs`, `away.rs` | decisions: waiting, sending, their connection and its protocol |
//! | `client.rs`, `upkeep.rs` | the connection of everything else |
//! | `name.rs`, `life.rs` | names and expiry of keys |

mod answers;
mod away;
mod check;
mod client;
mod driver;
mod leases;
mod life;
mod line;
mod name;
mod options;
mod pack;
mod pipe;
mod plan;
mod replicas;
mod reply;
mod resp;
mod script;
mod settle;
mod upkeep;

pub use answers::Answers;
pub use driver::RedisDriver;
pub use options::{BadUrl, DEFAULT_TIMEOUT, RedisOptions};
pub use replicas::Replicas;

use crate::clock;
use crate::engine::ask::{Answer, Ask};
use crate::engine::revocation::{Keep, Revocation, Target};
use crate::engine::settlement::{Settled, Settlement, SettlementState};
use crate::engine::units::{Micros, Moment};
use crate::store::{HeldLease, Renewed, Store, StoreError, StoreHealth};
use away::Away;
use bytes::Bytes;
use client::Connection;
use futures_util::{StreamExt, TryStreamExt};
use life::Life;
use line::Line;
use parking_lot::RwLock;
use script::Scripts;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Renewals under way at once: they hide the time on the wire, and leave room for decisions between them.
const RENEWALS: usize = 4;
/// Between two looks whether the client can be used yet.
const CLIENT_AGAIN: Duration = Duration::from_millis(10);
/// With a clock of the test's own, Redis's expiry must not run ahead of it.
const TEST_HOLD: Micros = Micros(86_400_000_000);

/// A store on one Redis server. Clones share it; its [`RedisDriver`] does the sending.
#[derive(Clone, Debug)]
pub struct RedisStore {
    shared: Arc<Shared>,
    _use: Arc<InUse>,
}

/// What the store and its driver share.
#[derive(Debug)]
struct Shared {
    /// Leases and revocations go straight to it.
    connection: Connection,
    /// Whether the decisions' own connection stands.
    away: Away,
    /// Decisions wait here to share a call.
    line: Line,
    scripts: Scripts,
    /// The longest that one call takes, whatever the caller's patience.
    timeout: Duration,
    /// What every key lives longer; zero but in tests with a clock of their own.
    hold: Micros,
    replicas: Replicas,
    answers: Answers,
    /// The findings of the last check.
    warnings: RwLock<Vec<String>>,
    /// The last store is gone; the driver ends.
    closed: AtomicBool,
}

/// Ends the driver with the last clone of the store.
/// To wait for the last reference to `Shared` would not do: the driver holds one itself.
#[derive(Debug)]
struct InUse(Arc<Shared>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.line.wake();
    }
}

impl RedisStore {
    /// A store and the task that it needs. Nothing is sent before the task runs; Redis may be away.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn connect(options: RedisOptions) -> Result<(Self, RedisDriver), BadUrl> {
        let shared = Arc::new(Shared {
            connection: Connection::new(&options)?,
            away: Away::new(),
            line: Line::default(),
            scripts: Scripts::new(options.clock_key.as_deref()),
            timeout: options.timeout,
            hold: if options.clock_key.is_some() { TEST_HOLD } else { Micros(0) },
            replicas: options.replicas,
            answers: options.answers,
            warnings: RwLock::default(),
            closed: AtomicBool::new(false),
        });
        let driver = RedisDriver::new(Arc::clone(&shared));
        Ok((Self { _use: Arc::new(InUse(Arc::clone(&shared))), shared }, driver))
    }

    /// Waits until both connections stand: from then on it decides exactly, as long as they do. To be waited for once, at
    /// the start; later a store that is away answers so.
    pub async fn stands(&self) {
        while !self.shared.client_answers().await {
            tokio::time::sleep(CLIENT_AGAIN).await;
        }
        self.shared.away.is_back().await;
    }

    /// Brings the scripts of decisions to Redis, so that the first decision does not pay for it. Without leave to do so
    /// they come with the first calls that need them.
    pub async fn bring_scripts(&self) {
        for script in [&self.shared.scripts.one, &self.shared.scripts.take] {
            let args = vec!["LOAD".into(), script.source.clone().into()];
            if let Err(error) = self.shared.connection.ask::<String>("SCRIPT", args).await {
                tracing::debug!(%error, "a script comes with the first call");
            }
        }
    }

    /// Says that this replica lives, and learns how many do. To be called every five seconds by one thread of
    /// a process.
    ///
    /// # Errors
    /// The store's; the last known number stays.
    pub async fn heartbeat(&self) -> Result<u64, StoreError> {
        let shared = &self.shared;
        let word = replicas::WORD.as_millis().to_string();
        let args = vec![shared.replicas.id().into(), word.into()];
        let count: u64 =
            shared.connection.run(&shared.scripts.heartbeat, vec![name::REPLICAS.into()], args).await?;
        shared.replicas.set(count, clock::monotonic());
        Ok(count)
    }

    /// Looks for what is wrong with this Redis; the findings stand in [`Store::health`]. The driver does this after
    /// every connect.
    pub async fn check(&self) {
        self.shared.check().await;
    }
}

impl Shared {
    /// Whether both connections stand.
    fn is_up(&self) -> bool {
        self.away.is_up() && self.connection.is_up()
    }

    /// Whether the client's connection carries a call. That Redis refuses it is an answer too.
    async fn client_answers(&self) -> bool {
        self.connection.is_up()
            && matches!(
                self.connection.ask::<String>("PING", Vec::new()).await,
                Ok(_) | Err(StoreError::Refused(_))
            )
    }

    /// For what is no decision: fails at once while Redis is away, else says how long to wait. When the decisions'
    /// connection is down so is most likely Redis, whatever the client has noticed yet.
    fn wait(&self, patience: Duration) -> Result<Duration, StoreError> {
        if !self.away.is_up() {
            return Err(self.away.error());
        }
        if !self.connection.is_up() {
            return Err(StoreError::Unreachable("not connected but for decisions".to_owned()));
        }
        Ok(self.timeout.min(patience))
    }

    /// New findings take the place of all old ones: what was mended must not stay a warning.
    async fn check(&self) {
        let mut warnings = match self.connection.ask::<String>("INFO", Vec::new()).await {
            Ok(info) => check::info_warnings(&info),
            Err(_) => Vec::new(),
        };
        let before = clock::now();
        let read = self.connection.run::<u64>(&self.scripts.probe, Vec::new(), Vec::new()).await;
        let after = clock::now();
        warnings.extend(match &read {
            Ok(read) => check::clock_warning(Ok(Moment(*read)), before, after),
            Err(StoreError::Refused(why)) => check::clock_warning(Err(why), before, after),
            Err(_) => None,
        });
        *self.warnings.write() = warnings;
    }

    /// One script's worth of leases. A reply of another length is refused whole: which lease is whose would be
    /// a guess.
    async fn renew_some(&self, leases: Vec<HeldLease>) -> Result<Vec<Renewed>, StoreError> {
        let (keys, args) = leases::renewal(&leases, self.hold);
        let reply: Bytes = self.connection.run(&self.scripts.renew, keys, args).await?;
        let renewed: Option<Vec<Renewed>> = reply.iter().map(|byte| leases::renewed(*byte)).collect();
        renewed
            .filter(|renewed| renewed.len() == leases.len())
            .ok_or_else(|| StoreError::Refused("a reply that does not fit the question".to_owned()))
    }
}

/// Gives up after `patience`; what was sent may have been applied.
async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(patience, call).await.unwrap_or(Err(StoreError::Timeout(patience)))
}

/// All demands are read before any is charged, so two on one key would not see each other.
/// There are few, at most 128, so comparing each with each is cheaper than a set.
fn names_a_key_twice(ask: &Ask) -> bool {
    let demands = ask.demands.iter().enumerate();
    demands.into_iter().any(|(i, demand)| ask.demands.iter().take(i).any(|other| other.key == demand.key))
}

impl Store for RedisStore {
    async fn take(&self, mut ask: Ask, patience: Duration) -> Result<Answer, StoreError> {
        if !self.shared.away.is_up() {
            return Err(self.shared.away.error());
        }
        let patience = self.shared.timeout.min(patience);
        if names_a_key_twice(&ask) {
            return Err(StoreError::Refused("an ask that names one key twice".to_owned()));
        }
        let places = ask.sort();
        let kept = self.shared.answers.reserve(&mut ask).map(|place| (place, ask.demands.clone()));
        let answer = self.shared.line.wait(ask, patience).await;
        if let Some((place, demands)) = kept {
            // The first answer has a place of its own.
            let is_kept = |answer: &Answer| !answer.repeated && !answer.revoked;
            let life =
                answer.as_ref().map(|answer| if is_kept(answer) { answer.life(&demands) } else { Micros(0) });
            self.shared.answers.settle(place, life);
        }
        Ok(answer?.placed(&places))
    }

    async fn settle(&self, settlement: Settlement, patience: Duration) -> Result<Settled, StoreError> {
        let patience = self.shared.wait(patience)?;
        let names_a_key_twice = settlement
            .adjustments
            .iter()
            .enumerate()
            .any(|(i, one)| settlement.adjustments.iter().take(i).any(|other| other.key == one.key));
        let Some((keys, first)) = settle::keys(&settlement).filter(|_| !names_a_key_twice) else {
            return Err(StoreError::Refused("a settlement of no counter, or of one twice".to_owned()));
        };
        let kept = self.shared.answers.reserve_for(first, settlement.remembered_until().since(settlement.at));
        let args = settle::arguments(&settlement, kept.is_some(), self.shared.hold);
        let call = self.shared.connection.run::<Bytes>(&self.shared.scripts.settle, keys, args);
        let settled = within(patience, call).await.and_then(|reply| settle::settled(&reply, &settlement));
        if let Some(place) = kept {
            let left = |settled: &Settled| match settled.state {
                SettlementState::Settled => settlement.remembered_until().since(settled.now),
                SettlementState::Repeated | SettlementState::TooLate | SettlementState::NoRoom => Micros(0),
            };
            self.shared.answers.settle(place, settled.as_ref().map(left));
        }
        settled
    }

    /// Each script has the configured timeout, all of them `patience`.
    async fn renew(&self, leases: Vec<HeldLease>, patience: Duration) -> Result<Vec<Renewed>, StoreError> {
        // The client's own timeout does not hold for a call that meets a connection on its way out.
        let each = self.shared.wait(patience)?;
        let mut left = leases.into_iter();
        // A chunk is packed when its turn comes, so the thread answers others between two of them.
        let chunks = std::iter::from_fn(move || {
            let chunk: Vec<_> = left.by_ref().take(leases::MAX_LEASES).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        let calls = futures_util::stream::iter(chunks)
            .map(|chunk| within(each, self.shared.renew_some(chunk)))
            .buffered(RENEWALS)
            .try_concat();
        within(patience, calls).await
    }

    async fn release(&self, lease: HeldLease, patience: Duration) -> Result<bool, StoreError> {
        let patience = self.shared.wait(patience)?;
        let (keys, args) = leases::release(&lease);
        let released: u64 =
            within(patience, self.shared.connection.run(&self.shared.scripts.release, keys, args)).await?;
        Ok(released == 1)
    }

    async fn revoke(&self, revocation: Revocation, patience: Duration) -> Result<bool, StoreError> {
        let patience = self.shared.wait(patience)?;
        let kind = match revocation.target {
            Target::TokenId(_) => "id",
            Target::Subject(_) => "subject",
        };
        let (keep, span) = match revocation.keep {
            Keep::Until(moment) => ("until", moment.0),
            Keep::For(span) => ("for", span.0),
        };
        let keys = vec![name::revocation(&revocation.issuer, &revocation.target).into()];
        let margin = Life::fixed(Micros(0), self.shared.hold).px().to_string();
        let args = vec![kind.into(), keep.into(), span.to_string().into(), margin.into()];
        let newly: u64 =
            within(patience, self.shared.connection.run(&self.shared.scripts.revoke, keys, args)).await?;
        Ok(newly == 1)
    }

    fn replicas(&self) -> Option<u64> {
        self.shared.replicas.count()
    }

    fn health(&self) -> StoreHealth {
        StoreHealth { reachable: self.shared.is_up(), warnings: self.shared.warnings.read().clone() }
    }
}
