//! One request: what the service said about it, and the questions that its handler may ask.

use crate::{
    Ask, Shield,
    claims::Claims,
    client::{holder, new_id},
    decision::{Decision, Origin},
    error::{Cause, Denied, NoDecision},
    facts,
    leases::{Ended, Lease},
    notice::Notice,
    rule::{OnUnavailable, Rule},
    settle::{Answered, Reservation, SettleFn, Settlement},
    v1 as pb,
};
use http::request::Parts;
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch, time::Instant};

/// Whose headers a response carries; a socket's handler may check for as long as it lives.
const MAX_DECISIONS: usize = 16;

/// The questions of one request. An axum handler takes it as an argument; a tower service finds it in the request's
/// extensions.
#[derive(Clone)]
pub struct Limits(Arc<Context>);

struct Context {
    shield: Shield,
    rule: Arc<Rule>,
    /// Method, address, headers and peer; without other extensions and the body.
    head: Parts,
    subject: Subject,
    state: Mutex<State>,
    end: watch::Sender<Option<Ended>>,
}

/// What is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    Request,
    /// Has no address, and needs none.
    Job,
}

#[derive(Default)]
struct State {
    /// Whether an `Authorize` was made, or is not to be.
    is_asked: bool,
    is_unchecked: bool,
    is_over: bool,
    route: String,
    client: String,
    claims: Option<Arc<Claims>>,
    authorized: Option<Decision>,
    checks: Vec<Decision>,
    leases: Vec<Lease>,
    settlements: Vec<Settlement>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Limits").field("route", &self.state().route).finish_non_exhaustive()
    }
}

impl Limits {
    pub(crate) fn new(shield: &Shield, parts: &Parts) -> Self {
        Self::of(shield, facts::head(parts), Subject::Request)
    }

    pub(crate) fn outside(shield: &Shield) -> Self {
        let (head, ()) = http::Request::new(()).into_parts();
        Self::of(shield, head, Subject::Job)
    }

    fn of(shield: &Shield, head: Parts, subject: Subject) -> Self {
        let rule = shield.0.settings.rules.find(&head);
        let (state, end) = (Mutex::default(), watch::Sender::new(None));
        Self(Arc::new(Context { shield: shield.clone(), rule, head, subject, state, end }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shield(&self) -> &Shield {
        &self.0.shield
    }

    pub(crate) fn rule(&self) -> &Rule {
        &self.0.rule
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.state().is_asked
    }

    pub(crate) fn end_of_lease(&self) -> watch::Receiver<Option<Ended>> {
        self.0.end.subscribe()
    }

    /// The token's claims; `None` when the route asks for no token, and when nobody could check it.
    #[must_use]
    pub fn claims(&self) -> Option<Arc<Claims>> {
        self.state().claims.clone()
    }

    /// The service's route; empty when none matched.
    #[must_use]
    pub fn route(&self) -> String {
        self.state().route.clone()
    }

    /// What the service said about the request as a whole.
    #[must_use]
    pub fn authorized(&self) -> Option<Decision> {
        self.state().authorized.clone()
    }

    /// The client's address: as the service found it, else by `trusted_proxies`. `None`: nobody knows it.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        if let Ok(told) = self.state().client.parse() {
            return Some(told);
        }
        let inner = &self.0.shield.0;
        match self.0.subject {
            Subject::Request => facts::client(&self.0.head, &inner.settings.trusted, &inner.notices),
            Subject::Job => None,
        }
    }

    /// Charges these policies, all or none.
    ///
    /// # Errors
    ///
    /// [`Denied`] when one refuses, or nobody answers and the rule says closed.
    pub async fn check(&self, ask: impl Into<Ask>) -> Result<Decision, Denied> {
        let decision = self.ask_check(ask.into()).await;
        self.carry(&decision);
        self.allowed(decision)
    }

    /// What a check would say now. Charges nothing and refuses nothing.
    pub async fn peek(&self, ask: impl Into<Ask>) -> Decision {
        self.ask_check(Ask { cost: Some(0), settle_within: None, ..ask.into() }).await
    }

    /// Charges ahead what is known only later. `None`: nothing was charged that could be settled.
    ///
    /// # Errors
    ///
    /// As [`Limits::check`].
    pub async fn reserve(
        &self,
        ask: impl Into<Ask>,
        within: Duration,
    ) -> Result<Option<Reservation>, Denied> {
        let ask = ask.into().settle_within(within);
        let policies = ask.policies.clone();
        let decision = self.check(ask).await?;
        Ok(self.reservation(&decision, policies, within))
    }

    /// A lease, held until it is dropped. When the service ends it, the request ends.
    ///
    /// # Errors
    ///
    /// [`Denied`] when there is none, or nobody answers and the rule says closed.
    pub async fn lease(&self, ask: impl Into<Ask>) -> Result<Lease, Denied> {
        let ask = ask.into();
        let connection = pb::Connection {
            domain: self.0.shield.0.settings.domain.clone(),
            entries: self.entries(&ask.entries),
            policies: ask.policies,
            lease_id: new_id(),
            holder: holder(),
            token: self.claims().map(|claims| claims.reference.clone()),
        };
        let keeper = &self.0.shield.0.keeper;
        // A caller that goes away while we wait would leave a lease behind.
        let mut forgotten = Forgotten { limits: self, connection: Some(connection.clone()) };
        let (asked, began) = (Some(connection.clone()), Instant::now());
        let client = &self.0.shield.0.client;
        let asked = pb::AcquireConnectionRequest { connection: asked };
        match client.acquire_connection(asked, self.deadline()).await {
            Err(error) => {
                drop(forgotten);
                self.allowed(self.without_answer(&error, 0))?;
                Ok(keeper.none(&self.0.end))
            }
            Ok(answer) => {
                forgotten.connection = None;
                let decision = Decision::read(answer.decision.unwrap_or_default(), Origin::Check);
                self.told("AcquireConnection", &decision, began);
                self.carry(&decision);
                self.allowed(decision)?;
                let lease = answer.lease.unwrap_or_default();
                Ok(keeper.hold(lease, connection, self.0.end.clone()))
            }
        }
    }

    /// Token, limits and lease by the service's routes and by `ask`, in one call.
    pub(crate) async fn authorize(&self, parts: &mut Parts, ask: &Ask) -> Result<(), Denied> {
        let settings = &self.0.shield.0.settings;
        let cost = ask.cost.or_else(|| self.0.rule.cost.as_ref().map(|cost| cost.of(parts)));
        let offer = pb::authorize_request::ConnectionOffer { lease_id: new_id(), holder: holder() };
        let request = pb::AuthorizeRequest {
            domain: settings.domain.clone(),
            http: Some(facts::http_request(parts)),
            token: None,
            entries: ask.entries.iter().cloned().collect(),
            cost,
            request_id: new_id(),
            connection: Some(offer.clone()),
            policies: ask.policies.clone(),
            settle_within: ask.settle_within.and_then(|within| within.try_into().ok()),
        };
        self.state().is_asked = true;
        let began = Instant::now();
        let answer = match self.0.shield.0.client.authorize(request, self.deadline()).await {
            Ok(answer) => answer,
            Err(error) => {
                let decision = self.without_answer(&error, cost.unwrap_or(1));
                self.forbid_identity(parts);
                let mut state = self.state();
                state.is_unchecked = true;
                state.authorized = Some(decision.clone());
                drop(state);
                return self.allowed(decision).map(drop);
            }
        };
        let decision = Decision::read(answer.decision.unwrap_or_default(), Origin::Authorize);
        self.0.shield.0.learn_identity(&answer.remove_headers);
        facts::shape(&mut parts.headers, &answer.upstream_headers, &answer.remove_headers);
        {
            let mut state = self.state();
            state.route = answer.route;
            state.client = answer.client_address;
            state.claims = answer.claims.map(|claims| Arc::new(Claims::read(claims)));
            state.authorized = Some(decision.clone());
        }
        self.told("Authorize", &decision, began);
        if let Some(granted) = answer.lease {
            let asked = self.terms(&decision, offer);
            let lease = self.0.shield.0.keeper.hold(granted, asked, self.0.end.clone());
            self.keep(lease);
        }
        self.allowed(decision).map(drop)
    }

    /// What renews the lease of an `Authorize`, of a service that does not say it itself.
    fn terms(&self, decision: &Decision, offer: pb::authorize_request::ConnectionOffer) -> pb::Connection {
        let held = decision.statuses.iter().filter(|status| status.is_concurrency);
        pb::Connection {
            domain: self.0.shield.0.settings.domain.clone(),
            entries: self.entries(&[]),
            policies: held.map(|status| status.policy.clone()).collect(),
            lease_id: offer.lease_id,
            holder: offer.holder,
            token: self.claims().map(|claims| claims.reference.clone()),
        }
    }

    /// Takes away the identity headers that a client sent, where the service is not asked.
    pub(crate) fn forbid_identity(&self, parts: &mut Parts) {
        facts::shape(&mut parts.headers, &[], &self.0.shield.0.identity());
    }

    /// A lease that is held until the response is over; given back at once when it is over already.
    pub(crate) fn keep(&self, lease: Lease) {
        let mut state = self.state();
        if !state.is_over {
            state.leases.push(lease);
        }
    }

    /// What a socket takes over from its handshake.
    #[cfg(feature = "axum")]
    pub(crate) fn take_leases(&self) -> Vec<Lease> {
        std::mem::take(&mut self.state().leases)
    }

    /// Whether the end of the response means something.
    pub(crate) fn holds(&self) -> bool {
        let state = self.state();
        !state.leases.is_empty() || !state.settlements.is_empty()
    }

    pub(crate) fn has_leases(&self) -> bool {
        !self.state().leases.is_empty()
    }

    /// The response is over: what was held is given back, what was reserved is settled.
    pub(crate) fn end(&self, answered: &Answered) {
        let (leases, settlements) = {
            let mut state = self.state();
            state.is_over = true;
            (std::mem::take(&mut state.leases), std::mem::take(&mut state.settlements))
        };
        drop(leases);
        for Settlement { reservation, cost } in settlements {
            reservation.settle(cost(answered));
        }
    }

    /// Settles after the response what `decision` reserved.
    pub(crate) fn settle_after(&self, ask: &Ask, decision: &Decision, cost: &SettleFn) {
        let within = ask.settle_within.unwrap_or_default();
        if let Some(reservation) = self.reservation(decision, ask.policies.clone(), within) {
            self.state().settlements.push(Settlement { reservation, cost: Arc::clone(cost) });
        }
    }

    fn reservation(
        &self,
        decision: &Decision,
        policies: Vec<String>,
        within: Duration,
    ) -> Option<Reservation> {
        let inner = &self.0.shield.0;
        Some(Reservation {
            ticket: decision.ticket.clone()?,
            policies,
            until: Instant::now() + within,
            client: Arc::clone(&inner.client),
            tasks: Arc::clone(&inner.tasks),
            runtime: Handle::current(),
        })
    }

    /// The claims of a checked token, or the refusal: what `on_unavailable` lets pass is not logged in.
    pub(crate) fn require_claims(&self) -> Result<Arc<Claims>, Denied> {
        let (claims, is_unchecked) = {
            let state = self.state();
            (state.claims.clone(), state.is_unchecked)
        };
        let bodies = self.0.shield.0.settings.bodies;
        claims.ok_or_else(|| {
            self.denied(if is_unchecked { bodies.token_unavailable() } else { bodies.token_missing() })
        })
    }

    /// For the response's headers.
    pub(crate) fn told_so_far(&self) -> (Option<Decision>, Vec<Decision>) {
        let state = self.state();
        (state.authorized.clone(), state.checks.clone())
    }

    /// A socket's answer has been sent: nothing more is told in its headers.
    #[cfg(feature = "axum")]
    pub(crate) fn forget_checks(&self) {
        self.state().checks.clear();
    }

    async fn ask_check(&self, ask: Ask) -> Decision {
        let request = pb::CheckLimitRequest {
            domain: self.0.shield.0.settings.domain.clone(),
            entries: self.entries(&ask.entries),
            policies: ask.policies.clone(),
            cost: ask.cost,
            request_id: new_id(),
            settle_within: ask.settle_within.and_then(|within| within.try_into().ok()),
        };
        let began = Instant::now();
        match self.0.shield.0.client.check_limit(request, self.deadline()).await {
            Err(error) => self.without_answer(&error, ask.cost.unwrap_or(1)),
            Ok(answer) => {
                let decision = Decision::read(answer.decision.unwrap_or_default(), Origin::Check);
                if decision.reason == "partition_missing" {
                    self.0.shield.0.notices.once(Notice::EntryMissing, &ask.policies.join(", "));
                }
                self.told("CheckLimit", &decision, began);
                decision
            }
        }
    }

    fn entries(&self, given: &[(String, String)]) -> HashMap<String, String> {
        let mut own = self.claims().map(|claims| claims.entries()).unwrap_or_default();
        own.insert("method".to_owned(), facts::method(&self.0.head).to_owned());
        own.insert("route".to_owned(), self.route());
        let client = self.client().map(|address| address.to_string());
        own.insert("ip".to_owned(), client.unwrap_or_default());
        facts::entries(own, given)
    }

    fn deadline(&self) -> Duration {
        self.0.rule.deadline.unwrap_or(self.0.shield.0.settings.deadline)
    }

    fn carry(&self, decision: &Decision) {
        let mut state = self.state();
        if state.checks.len() < MAX_DECISIONS {
            state.checks.push(decision.clone());
        }
    }

    fn allowed(&self, decision: Decision) -> Result<Decision, Denied> {
        if decision.allowed { Ok(decision) } else { Err(self.denied(decision)) }
    }

    pub(crate) fn denied(&self, decision: Decision) -> Denied {
        Denied { decision: Box::new(decision), error: self.0.shield.0.settings.error.clone() }
    }

    fn told(&self, rpc: &'static str, decision: &Decision, began: Instant) {
        tracing::debug!(
            target: "quotad::decision",
            rpc,
            allowed = decision.allowed,
            reason = &*decision.reason,
            mode = &*decision.mode,
            route = self.route(),
            policies = ?decision.statuses.iter().map(|status| status.policy.as_str()).collect::<Vec<_>>(),
            seconds = began.elapsed().as_secs_f64(),
            "a decision"
        );
    }

    /// What a request gets that nobody decided about. Must never let pass what a client brought about itself, by sending
    /// what the service cannot take; nor call an outage a 429 when nothing was counted.
    fn without_answer(&self, error: &NoDecision, cost: u32) -> Decision {
        let settings = &self.0.shield.0.settings;
        let choice = self.0.rule.on_unavailable.as_ref().unwrap_or(&settings.on_unavailable);
        let (handled, decision) = match error.cause {
            Cause::Malformed => ("closed", settings.bodies.malformed()),
            Cause::NotConfigured => {
                self.0.shield.0.notices.once(Notice::NotConfigured, &error.detail);
                ("closed", settings.bodies.not_configured())
            }
            Cause::Away | Cause::Undecided => match choice {
                OnUnavailable::Closed => ("closed", settings.bodies.unavailable()),
                OnUnavailable::Open => ("open", Decision::passed("failed_open")),
                #[cfg(feature = "local")]
                OnUnavailable::Local(local) => ("local", self.count_here(local, cost)),
            },
        };
        #[cfg(not(feature = "local"))]
        let _ = cost;
        tracing::info!(
            target: "quotad::unavailable", cause = error.cause.as_str(), handled, "no decision"
        );
        decision
    }

    #[cfg(feature = "local")]
    fn count_here(&self, local: &crate::Local, cost: u32) -> Decision {
        use crate::local::Counted;
        let bodies = self.0.shield.0.settings.bodies;
        match local.hit(&self.0.head, self.client(), cost) {
            Counted::Passed => Decision::passed("local"),
            Counted::Refused { retry_after } => bodies.limited_here(retry_after),
            Counted::NoKey => bodies.unavailable(),
        }
    }
}

/// Gives back a lease whose grant nobody waited for, or whose answer did not come.
struct Forgotten<'a> {
    limits: &'a Limits,
    connection: Option<pb::Connection>,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        if let (Some(connection), Ok(runtime)) = (self.connection.take(), Handle::try_current()) {
            self.limits.0.shield.0.keeper.give_back(&runtime, connection);
        }
    }
}
