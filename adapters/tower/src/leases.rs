//! Leases that this process holds: renewed together, given back, and ended when the service says so.
//!
//! Promise: one call renews all of them (4,096 at most a call), at the time that the first is due. A holder that dies
//! renews nothing, so its leases are free again within one TTL.
//! Must never: keep a connection open whose lease the service calls lost, revoked or expired.

use crate::{
    client::Client,
    decision::duration,
    error::{Cause, NoDecision},
    tasks::Tasks,
    v1::{self as pb, renew_connections_response::State},
};
use prost::Message as _;
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::Instant,
};

/// The service's bound on one renewal; its other, 1 MiB, holds for leases of 256 bytes, so bytes are counted too.
const BATCH: usize = 4_096;
const BATCH_BYTES: usize = 900_000;
/// For calls that no client waits for.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Until a renewal that got no answer is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a lease is no longer held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Given back here.
    Released,
    /// It ran out, and its place is taken.
    Lost,
    /// The token that it was taken with was revoked.
    Revoked,
    /// The token's life is over.
    Expired,
}

impl Ended {
    /// For logs, metrics and the reason of a socket's close.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// Where the end of a lease is told; several leases of one request share it.
pub(crate) type End = watch::Sender<Option<Ended>>;

/// Resolves when the service ends a lease; a lease that was given back resolves nothing.
pub(crate) async fn ended(mut end: watch::Receiver<Option<Ended>>) -> Ended {
    match end.wait_for(Option::is_some).await.map(|ended| *ended) {
        Ok(Some(ended)) => ended,
        // Nobody is left who could end it.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

struct Held {
    connection: pb::Connection,
    renew_at: Instant,
    end: End,
}

#[derive(Default)]
struct Book {
    held: HashMap<String, Held>,
    is_renewing: bool,
}

pub(crate) struct Keeper {
    client: Arc<Client>,
    tasks: Arc<Tasks>,
    book: Mutex<Book>,
    sooner: Notify,
}

/// A held lease. To drop it gives it back.
#[must_use = "a lease that is dropped is given back"]
pub struct Lease {
    id: String,
    keeper: Arc<Keeper>,
    runtime: Handle,
    end: watch::Receiver<Option<Ended>>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lease").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Lease {
    /// As operators see it. Empty: it was let in while the service was away, and counts nowhere.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Resolves when the service ends it: stop then.
    pub async fn ended(&self) -> Ended {
        ended(self.end.clone()).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.keeper.book().held.remove(&self.id) {
            tell(Ended::Released);
            self.keeper.give_back(&self.runtime, held.connection);
        }
    }
}

/// Stops the renewals' flag however their task ends: a runtime that is shut down drops it.
struct Renewing {
    keeper: Arc<Keeper>,
    is_over: bool,
}

impl Drop for Renewing {
    fn drop(&mut self) {
        if !self.is_over {
            self.keeper.book().is_renewing = false;
        }
    }
}

impl Keeper {
    pub(crate) fn new(client: Arc<Client>, tasks: Arc<Tasks>) -> Arc<Self> {
        Arc::new(Self { client, tasks, book: Mutex::default(), sooner: Notify::new() })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are held now.
    pub(crate) fn len(&self) -> usize {
        self.book().held.len()
    }

    /// A lease that was granted. `asked`: what to renew it by, where the service does not say it.
    pub(crate) fn hold(self: &Arc<Self>, granted: pb::Lease, asked: pb::Connection, end: End) -> Lease {
        let connection = granted.connection.unwrap_or(asked);
        let lease = Lease {
            id: connection.lease_id.clone(),
            keeper: Arc::clone(self),
            runtime: Handle::current(),
            end: end.subscribe(),
        };
        let wait = granted.renew_after.map_or(RETRY, duration);
        let held = Held { connection, renew_at: Instant::now() + wait, end };
        let starts = {
            let mut book = self.book();
            book.held.insert(lease.id.clone(), held);
            !std::mem::replace(&mut book.is_renewing, true)
        };
        if starts {
            tokio::spawn(Arc::clone(self).renew_all());
        } else {
            self.sooner.notify_one();
        }
        lease
    }

    /// For what was let in without an answer: nothing is renewed, nothing is given back.
    pub(crate) fn none(self: &Arc<Self>, end: &End) -> Lease {
        Lease {
            id: String::new(),
            keeper: Arc::clone(self),
            runtime: Handle::current(),
            end: end.subscribe(),
        }
    }

    /// Gives back a lease; also one whose grant may have got lost on its way here.
    pub(crate) fn give_back(&self, runtime: &Handle, connection: pb::Connection) {
        let client = Arc::clone(&self.client);
        self.tasks.spawn(runtime, async move {
            let asked = pb::ReleaseConnectionRequest { connection: Some(connection) };
            if client.release_connection(asked, TIMEOUT).await.is_err() {
                tracing::info!(target: "quotad::lease", "a lease was not given back; it ends by itself");
            }
        });
    }

    /// Ends what was opened with this token, or with any token of the subject when `token_id` is empty.
    pub(crate) fn end_token(&self, issuer: &str, subject: &str, token_id: &str) {
        let is_of = |held: &Held| {
            held.connection.token.as_ref().is_some_and(|token| {
                !token.issuer.is_empty()
                    && token.issuer == issuer
                    && token.subject == subject
                    && (token_id.is_empty() || token.token_id == token_id)
            })
        };
        let ids: Vec<String> =
            self.book().held.iter().filter(|(_, held)| is_of(held)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some(connection) = self.end(&id, Ended::Revoked) {
                self.give_back(&Handle::current(), connection);
            }
        }
    }

    /// Gives all back.
    pub(crate) fn close(&self) {
        let held = std::mem::take(&mut self.book().held);
        for (_, held) in held {
            self.give_back(&Handle::current(), held.connection);
        }
        self.sooner.notify_one();
    }

    async fn renew_all(self: Arc<Self>) {
        let mut renewing = Renewing { keeper: Arc::clone(&self), is_over: false };
        loop {
            let due = {
                let mut book = self.book();
                let Some(due) = book.held.values().map(|held| held.renew_at).min() else {
                    // Under the lock: who holds one from here on starts anew.
                    book.is_renewing = false;
                    renewing.is_over = true;
                    return;
                };
                due
            };
            if due > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = self.sooner.notified() => {}
                }
                continue;
            }
            for batch in self.batches() {
                self.renew(batch).await;
            }
        }
    }

    /// As few calls as the service's bounds allow. What an answer leaves out is asked about again, and not at once.
    fn batches(&self) -> Vec<Vec<pb::Connection>> {
        let (mut batches, mut size) = (vec![Vec::new()], 0);
        let again = Instant::now() + RETRY;
        for held in self.book().held.values_mut() {
            held.renew_at = again;
            let bytes = held.connection.encoded_len() + 8;
            if batches.last().is_some_and(|batch| batch.len() == BATCH) || size + bytes > BATCH_BYTES {
                batches.push(Vec::new());
                size = 0;
            }
            size += bytes;
            if let Some(batch) = batches.last_mut() {
                batch.push(held.connection.clone());
            }
        }
        batches
    }

    async fn renew(&self, batch: Vec<pb::Connection>) {
        let asked = pb::RenewConnectionsRequest { connections: batch.clone() };
        match self.client.renew_connections(asked, TIMEOUT).await {
            Err(error) => {
                for connection in &batch {
                    self.not_renewed(&connection.lease_id, &error);
                }
            }
            Ok(answer) => {
                for (connection, renewal) in batch.into_iter().zip(answer.renewals) {
                    let state = State::try_from(renewal.state).unwrap_or(State::Lost);
                    match state {
                        State::Held | State::Unknown => {
                            self.renew_in(&connection.lease_id, renewal.renew_after.map_or(RETRY, duration));
                        }
                        State::Revoked => drop(self.end(&connection.lease_id, Ended::Revoked)),
                        State::Expired => drop(self.end(&connection.lease_id, Ended::Expired)),
                        State::Lost | State::Unspecified => self.take_again(connection).await,
                    }
                }
            }
        }
    }

    /// Away: the connections stay open, and who has been away too long finds out at the next renewal.
    fn not_renewed(&self, id: &str, error: &NoDecision) {
        match error.cause {
            Cause::Away | Cause::Undecided => self.renew_in(id, RETRY),
            Cause::Malformed | Cause::NotConfigured => drop(self.end(id, Ended::Lost)),
        }
    }

    /// A lease that ran out while nobody answered: the place may still be free.
    async fn take_again(&self, connection: pb::Connection) {
        let id = connection.lease_id.clone();
        if !self.book().held.contains_key(&id) {
            return;
        }
        let asked = pb::AcquireConnectionRequest { connection: Some(connection.clone()) };
        match self.client.acquire_connection(asked, TIMEOUT).await {
            Err(error) => self.not_renewed(&id, &error),
            Ok(pb::AcquireConnectionResponse { lease: Some(lease), .. }) => {
                let again = lease.renew_after.map_or(RETRY, duration);
                let is_held = self.book().held.contains_key(&id);
                if is_held {
                    self.renew_in(&id, again);
                } else {
                    self.give_back(&Handle::current(), connection);
                }
            }
            Ok(answer) => {
                let reason = answer.decision.unwrap_or_default().reason;
                let is_revoked = reason == i32::from(pb::Reason::TokenRevoked);
                drop(self.end(&id, if is_revoked { Ended::Revoked } else { Ended::Lost }));
            }
        }
    }

    fn renew_in(&self, id: &str, wait: Duration) {
        if let Some(held) = self.book().held.get_mut(id) {
            held.renew_at = Instant::now() + wait.max(Duration::from_millis(1));
        }
    }

    fn end(&self, id: &str, how: Ended) -> Option<pb::Connection> {
        let held = self.book().held.remove(id)?;
        tell(how);
        held.end.send_replace(Some(how));
        Some(held.connection)
    }
}

fn tell(how: Ended) {
    tracing::info!(target: "quotad::lease", state = how.as_str(), "a lease ended");
}
