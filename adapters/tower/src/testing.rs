//! A stand-in for the service, in the process of the test and without sockets: `FakeDecisions::shield`.
//!
//! It keeps the promises that a test of an application looks at (a moving window, leases, revocation, settlements,
//! headers and bodies in the service's form) by a clock that the test moves. It is no second implementation: what depends
//! on exact bytes or on the algorithm is tested against the real one, `quotad serve --memory --port 0`.

use crate::{
    ShieldBuilder,
    client::Transport,
    error::{Cause, ConfigurationError, NoDecision},
    headers::SECURITY,
    rule::{Pattern, normalised},
    v1 as pb,
};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const LEASE_SECONDS: u64 = 30;

/// A policy of the fake.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    limit: u64,
    /// Seconds; `None`: leases.
    window: Option<u64>,
    partition: Vec<String>,
}

impl Policy {
    /// `limit` units in `window_seconds` for each `ip`.
    #[must_use]
    pub fn new(name: &str, limit: u64, window_seconds: u64) -> Self {
        Self { name: name.to_owned(), limit, window: Some(window_seconds), partition: vec!["ip".into()] }
    }

    /// At most `limit` leases at once for each `ip`.
    #[must_use]
    pub fn leases(name: &str, limit: u64) -> Self {
        Self { window: None, ..Self::new(name, limit, 0) }
    }

    /// For each combination of these entries.
    #[must_use]
    pub fn by<const N: usize>(mut self, entries: [&str; N]) -> Self {
        self.partition = entries.map(str::to_owned).to_vec();
        self
    }
}

/// A route of the fake.
#[derive(Clone, Debug)]
pub struct Route {
    path: String,
    policies: Vec<String>,
    wants_token: bool,
}

impl Route {
    /// `path` as in [`crate::Rule`].
    #[must_use]
    pub fn new<const N: usize>(path: &str, policies: [&str; N]) -> Self {
        Self { path: path.to_owned(), policies: policies.map(str::to_owned).to_vec(), wants_token: false }
    }

    /// Refuses requests without one, such as [`FakeDecisions::token`].
    #[must_use]
    pub fn token(mut self) -> Self {
        self.wants_token = true;
        self
    }
}

/// The service, in small. Clones are one.
#[derive(Clone)]
pub struct FakeDecisions(Arc<Mutex<Fake>>);

impl fmt::Debug for FakeDecisions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FakeDecisions").field("calls", &self.fake().calls).finish_non_exhaustive()
    }
}

type Key = Vec<String>;

#[derive(Default)]
struct Fake {
    now: u64,
    calls: Vec<&'static str>,
    last_policies: Vec<String>,
    policies: HashMap<String, Policy>,
    routes: Vec<(Pattern, Route)>,
    /// When each unit was charged.
    charged: HashMap<Key, VecDeque<u64>>,
    /// When each lease ends.
    leases: HashMap<Key, HashMap<String, u64>>,
    /// What a ticket charged, until it is settled.
    tickets: HashMap<Vec<u8>, Ticket>,
    denied: HashSet<String>,
    revoked: HashSet<String>,
    state: Reach,
}

#[derive(Clone)]
struct Ticket {
    keys: Vec<Key>,
    cost: u32,
    until: u64,
    settled: Option<pb::SettleCostResponse>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Reach {
    #[default]
    Up,
    Down,
    Stalled,
}

type Answer<T> = Result<T, NoDecision>;

impl FakeDecisions {
    /// With these policies and routes.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError::Rule`] for a route's path that is none.
    pub fn new(
        policies: impl IntoIterator<Item = Policy>,
        routes: impl IntoIterator<Item = Route>,
    ) -> Result<Self, ConfigurationError> {
        let routes = routes.into_iter().map(|route| Ok((Pattern::new(&route.path)?, route)));
        Ok(Self(Arc::new(Mutex::new(Fake {
            now: 1_700_000_000,
            policies: policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect(),
            routes: routes.collect::<Result<_, _>>()?,
            ..Fake::default()
        }))))
    }

    /// A Shield of this service.
    pub fn shield(&self) -> ShieldBuilder {
        ShieldBuilder::new("fake".to_owned()).transport(Transport::Fake(self.clone()))
    }

    fn fake(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds pass: windows move on, leases that nobody renewed end.
    pub fn advance(&self, seconds: u64) {
        self.fake().now += seconds;
    }

    /// This policy refuses everything, until [`FakeDecisions::restore`].
    pub fn deny(&self, policy: &str) {
        self.fake().denied.insert(policy.to_owned());
    }

    /// Nobody answers, at once.
    pub fn down(&self) {
        self.fake().state = Reach::Down;
    }

    /// Nobody answers until the deadline.
    pub fn stall(&self) {
        self.fake().state = Reach::Stalled;
    }

    /// Takes back `deny`, `down` and `stall`.
    pub fn restore(&self) {
        let mut fake = self.fake();
        fake.denied.clear();
        fake.state = Reach::Up;
    }

    /// Refuses the tokens of a user, or the token of this id.
    pub fn revoke(&self, user: &str) {
        self.fake().revoked.insert(user.to_owned());
    }

    /// As if nobody had renewed them in time.
    pub fn lose_leases(&self) {
        self.fake().leases.clear();
    }

    /// How many leases are held under this policy.
    #[must_use]
    pub fn held(&self, policy: &str) -> usize {
        let fake = self.fake();
        let keys = fake.leases.iter().filter(|(key, _)| key.first().is_some_and(|name| name == policy));
        keys.map(|(_, held)| held.values().filter(|ends| **ends > fake.now).count()).sum()
    }

    /// How many units are charged under this policy, by all together.
    #[must_use]
    pub fn charged(&self, policy: &str) -> usize {
        let fake = self.fake();
        let keys = fake.charged.iter().filter(|(key, _)| key.first().is_some_and(|name| name == policy));
        keys.map(|(_, units)| units.len()).sum()
    }

    /// The names of the calls that came, in order. A connection's opening is one `RenewConnections` of nothing.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.fake().calls.clone()
    }

    /// The policies that the last check or `Authorize` named.
    #[must_use]
    pub fn last_policies(&self) -> Vec<String> {
        self.fake().last_policies.clone()
    }

    /// A token that the fake takes for good, with further claims. It is not signed.
    #[must_use]
    pub fn token(user: &str, claims: &Value) -> String {
        let mut all = claims.as_object().cloned().unwrap_or_default();
        all.insert("sub".to_owned(), user.into());
        Value::Object(all)
            .to_string()
            .bytes()
            .fold("fake.".to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// Whether the fake is there, at once or after the deadline.
    async fn reach(&self, call: &'static str, deadline: Duration) -> Answer<MutexGuard<'_, Fake>> {
        let state = {
            let mut fake = self.fake();
            fake.calls.push(call);
            fake.state
        };
        if state == Reach::Stalled {
            tokio::time::sleep(deadline).await;
        }
        if state == Reach::Up { Ok(self.fake()) } else { Err(NoDecision::away("the fake is away")) }
    }

    pub(crate) async fn authorize(
        &self,
        asked: pb::AuthorizeRequest,
        deadline: Duration,
    ) -> Answer<pb::AuthorizeResponse> {
        self.reach("Authorize", deadline).await?.authorize(asked)
    }

    pub(crate) async fn check_limit(
        &self,
        asked: pb::CheckLimitRequest,
        deadline: Duration,
    ) -> Answer<pb::CheckLimitResponse> {
        let mut fake = self.reach("CheckLimit", deadline).await?;
        fake.last_policies.clone_from(&asked.policies);
        let decision = fake.decide(&Demand {
            policies: &asked.policies,
            entries: &asked.entries,
            cost: asked.cost.unwrap_or(1),
            lease: None,
            settle_within: asked.settle_within,
        })?;
        Ok(pb::CheckLimitResponse { decision: Some(decision) })
    }

    pub(crate) async fn acquire_connection(
        &self,
        asked: pb::AcquireConnectionRequest,
        deadline: Duration,
    ) -> Answer<pb::AcquireConnectionResponse> {
        let mut fake = self.reach("AcquireConnection", deadline).await?;
        let connection = asked.connection.unwrap_or_default();
        if fake.is_revoked(&connection) {
            let decision = refusal(401, pb::Reason::TokenRevoked, "TOKEN_INVALID", "The token is not valid.");
            return Ok(pb::AcquireConnectionResponse { decision: Some(decision), lease: None });
        }
        let decision = fake.decide(&Demand {
            policies: &connection.policies,
            entries: &connection.entries,
            cost: 1,
            lease: Some(&connection.lease_id),
            settle_within: None,
        })?;
        let is_allowed = decision.outcome == i32::from(pb::Outcome::Allow);
        let lease = is_allowed.then(|| granted(connection));
        Ok(pb::AcquireConnectionResponse { decision: Some(decision), lease })
    }

    pub(crate) async fn renew_connections(
        &self,
        asked: pb::RenewConnectionsRequest,
        deadline: Duration,
    ) -> Answer<pb::RenewConnectionsResponse> {
        let mut fake = self.reach("RenewConnections", deadline).await?;
        let renewals = asked.connections.iter().map(|connection| fake.renew(connection)).collect();
        Ok(pb::RenewConnectionsResponse { renewals })
    }

    pub(crate) async fn release_connection(
        &self,
        asked: pb::ReleaseConnectionRequest,
        deadline: Duration,
    ) -> Answer<pb::ReleaseConnectionResponse> {
        let mut fake = self.reach("ReleaseConnection", deadline).await?;
        let released = fake.release(&asked.connection.unwrap_or_default());
        Ok(pb::ReleaseConnectionResponse { released })
    }

    pub(crate) async fn revoke_token(
        &self,
        asked: pb::RevokeTokenRequest,
        deadline: Duration,
    ) -> Answer<pb::RevokeTokenResponse> {
        use pb::revoke_token_request::Target;
        let mut fake = self.reach("RevokeToken", deadline).await?;
        let name = match asked.target {
            Some(Target::Subject(subject)) => subject.subject,
            Some(Target::TokenId(token)) => token.id,
            Some(Target::Token(_)) | None => {
                return Err(NoDecision { cause: Cause::Malformed, detail: "the fake revokes by id".into() });
            }
        };
        Ok(pb::RevokeTokenResponse { newly_revoked: fake.revoked.insert(name) })
    }

    pub(crate) async fn settle_cost(
        &self,
        asked: pb::SettleCostRequest,
        deadline: Duration,
    ) -> Answer<pb::SettleCostResponse> {
        self.reach("SettleCost", deadline).await?.settle(&asked)
    }
}

/// What one decision is about.
struct Demand<'a> {
    policies: &'a [String],
    entries: &'a HashMap<String, String>,
    cost: u32,
    lease: Option<&'a str>,
    settle_within: Option<prost_types::Duration>,
}

impl Fake {
    fn authorize(&mut self, asked: pb::AuthorizeRequest) -> Answer<pb::AuthorizeResponse> {
        let http = asked.http.unwrap_or_default();
        let path = normalised(http.path.split('?').next().unwrap_or_default());
        let found = self.routes.iter().find(|(pattern, _)| pattern.matches(&http.method, &path));
        let route = found.map_or_else(|| Route::new("", []), |(_, route)| route.clone());
        let mut answer = pb::AuthorizeResponse {
            route: route.path.clone(),
            remove_headers: vec!["x-user-id".to_owned()],
            client_address: http.peer_address.clone(),
            ..pb::AuthorizeResponse::default()
        };
        let mut entries = asked.entries;
        entries.insert("ip".to_owned(), http.peer_address.clone());
        let sent = http.headers.iter().find(|header| header.name == "authorization");
        if route.wants_token || sent.is_some() {
            match self.token(sent.map_or("", |header| &header.value)) {
                Ok(claims) => {
                    entries.insert("user".to_owned(), claims.subject.clone());
                    let user = pb::Header { name: "x-user-id".into(), value: claims.subject.clone() };
                    answer.upstream_headers.push(user);
                    answer.claims = Some(claims);
                }
                Err(refused) if route.wants_token => {
                    answer.decision = Some(secured(*refused));
                    return Ok(answer);
                }
                Err(_) => {}
            }
        }
        let mut names = route.policies;
        names.extend(asked.policies.iter().cloned());
        self.last_policies.clone_from(&asked.policies);
        let offer = asked.connection.unwrap_or_default();
        let decision = self.decide(&Demand {
            policies: &names,
            entries: &entries,
            cost: asked.cost.unwrap_or(1),
            lease: Some(&offer.lease_id),
            settle_within: asked.settle_within,
        })?;
        let is_allowed = decision.outcome == i32::from(pb::Outcome::Allow);
        let held: Vec<String> = names.into_iter().filter(|name| self.is_leases(name)).collect();
        if is_allowed && !held.is_empty() {
            let token = answer.claims.clone().map(|claims| pb::TokenReference {
                issuer: claims.issuer,
                subject: claims.subject,
                token_id: claims.token_id,
                issued_at: claims.issued_at,
                expires_at: claims.expires_at,
            });
            answer.lease = Some(granted(pb::Connection {
                entries,
                policies: held,
                lease_id: offer.lease_id,
                holder: offer.holder,
                token,
                ..pb::Connection::default()
            }));
        }
        answer.decision = Some(secured(decision));
        Ok(answer)
    }

    fn is_leases(&self, name: &str) -> bool {
        self.policies.get(name).is_some_and(|policy| policy.window.is_none())
    }

    fn token(&self, sent: &str) -> Result<pb::Claims, Box<pb::Decision>> {
        if sent.is_empty() {
            let message = "A token is required.";
            return Err(Box::new(refusal(401, pb::Reason::TokenMissing, "TOKEN_MISSING", message)));
        }
        let invalid = |reason| Box::new(refusal(401, reason, "TOKEN_INVALID", "The token is not valid."));
        let hex = sent.strip_prefix("Bearer fake.").unwrap_or_default();
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
        let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
        let claims: Option<Value> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some(Value::Object(claims)) = claims else { return Err(invalid(pb::Reason::TokenMalformed)) };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (subject, token_id) = (text("sub"), text("jti"));
        if self.revoked.contains(&subject) || self.revoked.contains(&token_id) {
            return Err(invalid(pb::Reason::TokenRevoked));
        }
        let expires_at = i64::try_from(self.now).unwrap_or(i64::MAX).saturating_add(3600);
        let fields = claims.iter().map(|(name, value)| (name.clone(), proto_value(value))).collect();
        Ok(pb::Claims {
            issuer: "fake".to_owned(),
            user: subject.clone(),
            subject,
            token_id,
            expires_at: Some(prost_types::Timestamp { seconds: expires_at, nanos: 0 }),
            all: Some(prost_types::Struct { fields }),
            ..pb::Claims::default()
        })
    }

    /// All or none.
    fn decide(&mut self, demand: &Demand<'_>) -> Answer<pb::Decision> {
        if let Some(unknown) = demand.policies.iter().find(|name| !self.policies.contains_key(*name)) {
            let detail = format!("the fake has no policy {unknown}");
            return Err(NoDecision { cause: Cause::NotConfigured, detail });
        }
        let Some(keys) = self.keys(demand.policies, demand.entries) else {
            let message = "The request cannot be counted.";
            return Ok(refusal(403, pb::Reason::PartitionMissing, "FORBIDDEN", message));
        };
        let mut statuses: Vec<pb::PolicyStatus> =
            keys.iter().map(|key| self.status(key, demand.cost)).collect();
        if statuses.iter().any(|status| status.violated) {
            return Ok(denial(statuses));
        }
        let mut charged = Vec::new();
        for (key, status) in keys.iter().zip(&mut statuses) {
            if status.window.is_none() {
                let ends = self.now + LEASE_SECONDS;
                let lease = demand.lease.unwrap_or_default().to_owned();
                self.leases.entry(key.clone()).or_default().insert(lease, ends);
                status.remaining = status.remaining.saturating_sub(1);
            } else {
                self.charge(key, demand.cost);
                status.remaining = status.remaining.saturating_sub(demand.cost.into());
                charged.push(key.clone());
            }
        }
        let reservation = demand.settle_within.filter(|_| !charged.is_empty() && demand.cost > 0);
        let reservation = reservation.map(|within| self.reserve(charged, demand.cost, within));
        let mut answer = pb::Decision {
            outcome: pb::Outcome::Allow.into(),
            reason: pb::Reason::WithinLimit.into(),
            mode: pb::Mode::Exact.into(),
            http_status: 200,
            reservation,
            statuses,
            ..pb::Decision::default()
        };
        describe(&mut answer);
        Ok(answer)
    }

    /// `None`: a fact is missing.
    fn keys(&self, names: &[String], entries: &HashMap<String, String>) -> Option<Vec<Key>> {
        let key = |name: &String| {
            let parts = self.policies.get(name)?.partition.iter();
            let parts = parts.map(|entry| entries.get(entry).filter(|value| !value.is_empty()).cloned());
            std::iter::once(Some(name.clone())).chain(parts).collect::<Option<Key>>()
        };
        names.iter().map(key).collect()
    }

    fn charge(&mut self, key: &Key, cost: u32) {
        let now = self.now;
        self.charged.entry(key.clone()).or_default().extend((0..cost).map(|_| now));
    }

    fn reserve(&mut self, keys: Vec<Key>, cost: u32, within: prost_types::Duration) -> pb::Reservation {
        let ticket = format!("ticket {}", self.tickets.len()).into_bytes();
        let seconds = u64::try_from(within.seconds).unwrap_or_default();
        let until = self.now + seconds;
        self.tickets.insert(ticket.clone(), Ticket { keys, cost, until, settled: None });
        pb::Reservation { ticket, settle_within: Some(within) }
    }

    fn settle(&mut self, asked: &pb::SettleCostRequest) -> Answer<pb::SettleCostResponse> {
        use pb::settle_cost_response::State;
        let Some(ticket) = self.tickets.get(&asked.ticket).cloned() else {
            return Err(NoDecision {
                cause: Cause::Malformed,
                detail: "the fake gave no such ticket".into(),
            });
        };
        if let Some(settled) = ticket.settled {
            return Ok(settled);
        }
        let state = if self.now > ticket.until { State::TooLate } else { State::Settled };
        let mut policies = Vec::new();
        for key in ticket.keys.iter().filter(|_| state == State::Settled) {
            let name = key.first().cloned().unwrap_or_default();
            let cost = asked.policy_costs.get(&name).copied().or(asked.cost).unwrap_or(ticket.cost);
            let (back, more) = (ticket.cost.saturating_sub(cost), cost.saturating_sub(ticket.cost));
            let units = self.charged.entry(key.clone()).or_default();
            for _ in 0..back {
                units.pop_back();
            }
            self.charge(key, more);
            policies.push(pb::PolicySettlement {
                policy: name,
                reserved: ticket.cost,
                cost,
                returned: back,
                charged: more,
                ..pb::PolicySettlement::default()
            });
        }
        let answer = pb::SettleCostResponse { state: state.into(), policies, delay: None };
        if let Some(ticket) = self.tickets.get_mut(&asked.ticket) {
            ticket.settled = Some(answer.clone());
        }
        Ok(answer)
    }

    fn status(&mut self, key: &Key, cost: u32) -> pb::PolicyStatus {
        let name = key.first().cloned().unwrap_or_default();
        let Some(policy) = self.policies.get(&name).cloned() else { return pb::PolicyStatus::default() };
        let now = self.now;
        let mut status = pb::PolicyStatus {
            policy: name,
            limit: policy.limit,
            mode: pb::Mode::Exact.into(),
            bound: Some(policy.limit),
            ..pb::PolicyStatus::default()
        };
        let needed = match policy.window {
            None => {
                let held = self.leases.entry(key.clone()).or_default();
                held.retain(|_, ends| *ends > now);
                status.algorithm = pb::Algorithm::Concurrency.into();
                status.remaining = policy.limit.saturating_sub(count(held.len()));
                1
            }
            Some(window) => {
                let units = self.charged.entry(key.clone()).or_default();
                units.retain(|at| *at + window > now);
                status.algorithm = pb::Algorithm::SlidingWindow.into();
                status.remaining = policy.limit.saturating_sub(count(units.len()));
                status.window = Some(seconds(window));
                status.reset_after = units.front().map(|first| seconds(first + window - now));
                u64::from(cost)
            }
        };
        if self.denied.contains(&policy.name) {
            status.remaining = 0;
        }
        status.violated = status.remaining < needed;
        status
    }

    fn is_revoked(&self, connection: &pb::Connection) -> bool {
        connection.token.as_ref().is_some_and(|token| {
            self.revoked.contains(&token.subject) || self.revoked.contains(&token.token_id)
        })
    }

    fn renew(&mut self, connection: &pb::Connection) -> pb::renew_connections_response::Renewal {
        use pb::renew_connections_response::{Renewal, State};
        let (now, mut state) = (self.now, State::Held);
        for key in self.keys(&connection.policies, &connection.entries).unwrap_or_default() {
            match self.leases.get_mut(&key).and_then(|held| held.get_mut(&connection.lease_id)) {
                Some(ends) if *ends > now => *ends = now + LEASE_SECONDS,
                Some(_) | None => state = State::Lost,
            }
        }
        if self.is_revoked(connection) {
            state = State::Revoked;
        }
        if state != State::Held {
            self.release(connection);
        }
        Renewal {
            lease_id: connection.lease_id.clone(),
            state: state.into(),
            renew_after: Some(seconds(LEASE_SECONDS / 3)),
        }
    }

    fn release(&mut self, connection: &pb::Connection) -> bool {
        let keys = self.keys(&connection.policies, &connection.entries).unwrap_or_default();
        let mut released = false;
        for key in keys {
            let held = self.leases.get_mut(&key);
            released |= held.is_some_and(|held| held.remove(&connection.lease_id).is_some());
        }
        released
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn seconds(seconds: u64) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

fn granted(connection: pb::Connection) -> pb::Lease {
    pb::Lease {
        lease_id: connection.lease_id.clone(),
        ttl: Some(seconds(LEASE_SECONDS)),
        renew_after: Some(seconds(LEASE_SECONDS / 3)),
        connection: Some(connection),
    }
}

fn denial(statuses: Vec<pb::PolicyStatus>) -> pb::Decision {
    let violated: Vec<&pb::PolicyStatus> = statuses.iter().filter(|status| status.violated).collect();
    let wait = violated.iter().map(|status| status.reset_after.unwrap_or_default().seconds).max();
    let details: Vec<Value> =
        violated.iter().map(|status| json!({"policy": status.policy, "limit": status.limit})).collect();
    let message = "Too many requests. Please try again later.";
    let mut answer = refusal(429, pb::Reason::LimitExceeded, "RATE_LIMIT_EXCEEDED", message);
    set_body(&mut answer, "RATE_LIMIT_EXCEEDED", message, &details);
    answer.statuses = statuses;
    if let Some(wait) = wait.filter(|wait| *wait > 0) {
        answer.retry_after = Some(prost_types::Duration { seconds: wait, nanos: 0 });
        answer.headers.push(header("Retry-After", wait.to_string()));
    }
    describe(&mut answer);
    answer
}

fn refusal(status: u32, reason: pb::Reason, code: &str, message: &str) -> pb::Decision {
    let mut answer = pb::Decision {
        outcome: pb::Outcome::Deny.into(),
        reason: reason.into(),
        mode: pb::Mode::Exact.into(),
        http_status: status,
        headers: vec![header("Cache-Control", "no-store".to_owned())],
        ..pb::Decision::default()
    };
    if status == 401 {
        answer.headers.push(header("WWW-Authenticate", "Bearer".to_owned()));
    }
    set_body(&mut answer, code, message, &[]);
    answer
}

fn set_body(answer: &mut pb::Decision, code: &str, message: &str, details: &[Value]) {
    let body = json!({"status": "error", "code": code, "message": message, "details": details});
    answer.body = Some(pb::Body {
        content_type: "application/json".to_owned(),
        content: body.to_string().into_bytes(),
    });
}

fn header(name: &str, value: String) -> pb::Header {
    pb::Header { name: name.to_owned(), value }
}

/// RateLimit and RateLimit-Policy, as lists.
fn describe(answer: &mut pb::Decision) {
    let policy = |status: &pb::PolicyStatus| {
        let window = status.window.map(|window| format!(";w={}", window.seconds));
        let window = window.unwrap_or_else(|| ";qu=\"concurrent-requests\"".to_owned());
        format!("\"{}\";q={}{window}", status.policy, status.limit)
    };
    let left = |status: &pb::PolicyStatus| {
        let reset = status.reset_after.unwrap_or_default().seconds;
        format!("\"{}\";r={};t={reset}", status.policy, status.remaining)
    };
    if answer.statuses.is_empty() {
        return;
    }
    let policies: Vec<String> = answer.statuses.iter().map(policy).collect();
    let limits: Vec<String> = answer.statuses.iter().map(left).collect();
    answer.headers.push(header("RateLimit-Policy", policies.join(", ")));
    answer.headers.push(header("RateLimit", limits.join(", ")));
}

fn secured(mut answer: pb::Decision) -> pb::Decision {
    answer.headers.extend(SECURITY.map(|(name, value)| header(name, value.to_owned())));
    answer
}

fn proto_value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.iter().map(proto_value).collect() })
        }
        Value::Object(object) => Kind::StructValue(prost_types::Struct {
            fields: object.iter().map(|(name, value)| (name.clone(), proto_value(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
