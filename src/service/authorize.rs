//! `Authorize`: token, limits and lease of one HTTP request, in one store call, by the routes.
//!
//! Must never: let an identity header that a client sent reach the application, on any route.

mod asking;

use crate::engine::ask::Ask;
use crate::engine::decision::{Decision, Mode, Outcome, Reason};
use crate::engine::glob::Case;
use crate::engine::http::Header;
use crate::engine::issuer::OnRevocationError;
use crate::engine::path;
use crate::engine::route::{Route, TokenNeed, normalise_host};
use crate::engine::units::Micros;
use crate::service::connection::{LeaseGrant, grant};
use crate::service::facts::{HttpFacts, client_address};
use crate::service::fallback::exact;
use crate::service::identity::{removed, told};
use crate::service::plan::{Plan, check_domain, domain_or_default};
use crate::service::readings::{Reading, ambiguous, routes, stand_once};
use crate::service::settle::{CountedBy, Receipt};
use crate::service::token::refused;
use crate::service::{Answered, Deadline, Live, Service, ServiceError, answer, repeat};
use crate::store::{Store, StoreError};
use crate::token::extract::Found;
use crate::token::{Good, extract};
use asking::{Asking, Unplanned};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A lease that the request's connection would hold.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// 128 random bits.
    pub lease_id: &'a str,
    /// Whether the id may come again.
    pub made_by: MadeBy,
}

/// Who made a lease id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// The caller, who asks with it again when an answer was lost: what a refused attempt holds may be its by then.
    Caller,
    /// This process, for this one request. Refused, it is nobody's.
    Us,
}

/// One HTTP request, within the bounds of the API.
#[derive(Clone, Copy)]
pub struct HttpCall<'a> {
    /// Empty means the route's own.
    pub domain: &'a str,
    /// As sent.
    pub method: &'a str,
    /// As sent.
    pub host: &'a str,
    /// As sent, with the query.
    pub path: &'a str,
    /// The direct peer; empty when the caller does not know it.
    pub peer_address: &'a str,
    /// The client, where the caller knows it; no forwarder is asked then.
    pub client: Option<IpAddr>,
    /// Exactly this route; none: the first that matches.
    pub route: Option<&'a str>,
    /// Consulted beside the route's; each must have its partition.
    pub policies: &'a [String],
    /// (name, value), in order.
    pub headers: &'a [(&'a str, &'a str)],
    /// None: taken from where the configuration says.
    pub token: Option<&'a str>,
    /// The caller's own facts.
    pub entries: &'a HashMap<String, String>,
    /// Units; none: the route's, or each policy's own.
    pub cost: Option<u32>,
    /// Empty: none.
    pub request_id: &'a str,
    /// Present: what is charged is to be settled within this.
    pub settle_within: Option<Micros>,
    /// Present when the request opens a connection.
    pub connection: Option<Offer<'a>>,
}

impl fmt::Debug for HttpCall<'_> {
    /// Without headers, path and token: each may hold a secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpCall").field("method", &self.method).finish_non_exhaustive()
    }
}

/// The answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct Authorized {
    /// What was decided, with the security headers.
    pub answered: Answered,
    /// The route that matched; empty when none did.
    pub route: String,
    /// The client, where it is known.
    pub client_address: Option<String>,
    /// The token, when one was asked for and good.
    pub good: Option<Arc<Good>>,
    /// The lease, when one was taken.
    pub lease: Option<LeaseGrant>,
    /// To be set on the request.
    pub upstream_headers: Vec<Header>,
    /// To be removed from the request first.
    pub remove_headers: Vec<String>,
}

impl<S: Store> Service<S> {
    /// Decides one HTTP request.
    ///
    /// # Errors
    /// As [`Service::check`]; a peer address that is none.
    pub async fn authorize(
        &self,
        call: HttpCall<'_>,
        deadline: Deadline,
    ) -> Result<Authorized, ServiceError> {
        let live = self.live.load();
        check_domain(&live.policies, domain_or_default(call.domain))?;
        let host = normalise_host(call.host);
        let mut authorized = match path::readings(call.path) {
            Ok(paths) => {
                let readings = Reading::all(&live.policies, &call, &host, paths)?;
                if readings.iter().all(|reading| reading.route.is_none()) && call.policies.is_empty() {
                    let client_address = client_address(&live, &call).unwrap_or_default();
                    Authorized { client_address, ..unrouted(&live) }
                } else {
                    self.on_routes(&live, (&call, &readings), &host, deadline).await?
                }
            }
            Err(path::Ambiguous) => bare(answer(&live, ambiguous(), &[])),
        };
        finish(&live, call.headers, &mut authorized);
        Ok(authorized)
    }

    /// Allows a request that is not to be judged, such as a browser's question whether it may ask: nothing is counted,
    /// and no identity header of its own among the `headers` that it sent reaches the application.
    #[must_use]
    pub fn pass(&self, headers: &[(&str, &str)]) -> Authorized {
        let live = self.live.load();
        let mut authorized = unrouted(&live);
        finish(&live, headers, &mut authorized);
        authorized
    }

    async fn on_routes(
        &self,
        live: &Live,
        (call, readings): (&HttpCall<'_>, &[Reading<'_>]),
        host: &str,
        deadline: Deadline,
    ) -> Result<Authorized, ServiceError> {
        let routes = routes(readings);
        let name = routes.first().map_or("", |route| &*route.name);
        let ip = client_address(live, call)?;
        let denied = |answered| {
            Ok(Authorized { route: name.to_owned(), client_address: ip.clone(), ..bare(answered) })
        };
        let good = match find_token(live, call, &routes) {
            Ok(good) => good,
            Err(reason) => return denied(refused(live, reason)),
        };
        let claims = good.as_deref().map(|good| &good.claims);
        let facts =
            HttpFacts { call, path: "", case: Case::Sensitive, host, route: name, ip: ip.as_deref(), claims };
        let Asking { mut plan, mut terms } = match Asking::plan(&live.policies, call, readings, &facts) {
            Ok(asking) => asking,
            Err(Unplanned::Denied(decision)) => return denied(answer(live, decision, &[])),
            Err(Unplanned::Failed(error)) => return Err(error),
        };
        terms.token = claims.map(Into::into);
        let mut receipt = Receipt::new(call.request_id, call.settle_within);
        let mut decision = self.ask_once(&mut plan, good.as_deref(), (call, &mut receipt), deadline).await?;
        let mut policies = plan.policies();
        if readings.len() > 1 {
            stand_once(&mut decision, &mut policies);
        }
        let allowed = decision.outcome == Outcome::Allow;
        let holds = plan.0.iter().any(|planned| planned.lease.is_some())
            || routes.iter().any(|route| !route.connection.is_empty());
        let lease = call.connection.filter(|_| allowed && holds);
        Ok(Authorized {
            answered: answer(live, decision, &policies).with(receipt),
            route: name.to_owned(),
            client_address: ip,
            lease: lease.map(|offer| grant(offer.lease_id, &plan, terms)),
            upstream_headers: if allowed { told(live, claims) } else { Vec::new() },
            good: good.filter(|_| allowed),
            remove_headers: Vec::new(),
        })
    }

    /// Revocation, limits and lease in one call; nothing is asked when nothing is at stake.
    async fn ask_once(
        &self,
        plan: &mut Plan<'_>,
        good: Option<&Good>,
        (call, receipt): (&HttpCall<'_>, &mut Receipt<'_>),
        deadline: Deadline,
    ) -> Result<Decision, ServiceError> {
        let now = crate::clock::now();
        let probe = good.and_then(|good| self.probe_to_ask(good, now));
        let probed = probe.is_some();
        if plan.0.is_empty() && !probed {
            return Ok(without_policy(good));
        }
        let request_id = receipt.request_id();
        let ask =
            Ask { demands: plan.demands::<S>(), token: probe.map(Box::new), request_id, ..Ask::default() };
        let kept = receipt.kept(&ask.demands);
        match repeat::take(&self.store, ask, deadline).await? {
            Ok(answer) if answer.revoked => Ok(Decision::plain(Outcome::Deny, Reason::TokenRevoked)),
            Ok(answer) => {
                receipt.note(kept.as_deref(), &answer, CountedBy::Store);
                if let Some(good) = good.filter(|_| probed) {
                    self.remember_clean(good, now);
                }
                Ok(if plan.0.is_empty() { without_policy(good) } else { exact(plan, &answer) })
            }
            Err(error) if probed && denies(good) => {
                self.note(&error);
                self.owe_refused(plan, call, &error);
                Ok(Decision::failed_closed())
            }
            Err(error) if plan.0.is_empty() => {
                self.note(&error);
                Ok(Decision { mode: Mode::FailedOpen, ..without_policy(good) })
            }
            Err(error) => {
                let decided = self.without_store(plan, receipt, error.clone()).await;
                if decided.as_ref().map_or(Outcome::Deny, |decision| decision.outcome) == Outcome::Deny {
                    self.owe_refused(plan, call, &error);
                }
                let decision = decided?;
                let unseen = if probed { Mode::FailedOpen } else { Mode::Exact };
                Ok(Decision { mode: decision.mode.max(unseen), ..decision })
            }
        }
    }

    fn owe_refused(&self, plan: &Plan<'_>, call: &HttpCall<'_>, error: &StoreError) {
        if call.connection.is_some_and(|offer| offer.made_by == MadeBy::Us) {
            self.owe_taken(plan, error);
        }
    }
}

/// Whether a token whose revocation cannot be read is refused.
fn denies(good: Option<&Good>) -> bool {
    good.is_some_and(|good| good.on_store_error == OnRevocationError::Deny)
}

/// The token that every route asks for: none when none does, or an optional one did not come. Two routes, of a path that
/// reads in two ways, that find two tokens get none: one of them would be judged by, and the other never asked about.
fn find_token(live: &Live, call: &HttpCall<'_>, routes: &[&Route]) -> Result<Option<Arc<Good>>, Reason> {
    let mut good: Option<Arc<Good>> = None;
    for route in routes.iter().filter(|route| route.token != TokenNeed::Ignored) {
        let found = token_for(live, call, route)?;
        if let (Some(one), Some(other)) = (&good, &found)
            && one != other
        {
            return Err(Reason::TokenMalformed);
        }
        good = found.or(good);
    }
    Ok(good)
}

/// The token that one route asks for.
fn token_for(live: &Live, call: &HttpCall<'_>, route: &Route) -> Result<Option<Arc<Good>>, Reason> {
    let (allowed, now) = (&route.issuers, crate::clock::now());
    let checked = match call.token {
        Some("") => None,
        Some(token) => Some(live.verifier.check(token, allowed, now)),
        None => match extract::find(&live.verifier.places(allowed), |name| call.values(name), call.path) {
            Found::Token(token, place) => Some(live.verifier.check_found(&token, place, allowed, now)),
            Found::Missing => None,
            Found::Malformed => return Err(Reason::TokenMalformed),
        },
    };
    match checked {
        Some(checked) => checked.map(Some).map_err(|refusal| refusal.reason),
        None if route.token == TokenNeed::Optional => Ok(None),
        None => Err(Reason::TokenMissing),
    }
}

/// What every answer has: the security headers, and the names that only we may set.
fn finish(live: &Live, sent: &[(&str, &str)], authorized: &mut Authorized) {
    live.face.secure(&mut authorized.answered.rendered.headers);
    authorized.remove_headers = removed(&live.identity_headers, sent);
}

fn without_policy(good: Option<&Good>) -> Decision {
    let reason = if good.is_some() { Reason::TokenValid } else { Reason::NoPolicy };
    Decision::plain(Outcome::Allow, reason)
}

fn unrouted(live: &Live) -> Authorized {
    bare(answer(live, Decision::plain(Outcome::Allow, Reason::NoPolicy), &[]))
}

fn bare(answered: Answered) -> Authorized {
    Authorized {
        answered,
        route: String::new(),
        client_address: None,
        good: None,
        lease: None,
        upstream_headers: Vec::new(),
        remove_headers: Vec::new(),
    }
}
