//! One HTTP request of Envoy's put before the service, the same for ext_authz and ext_proc.
//!
//! Promise: the answer is a [`Verdict`] whatever the client sent and whatever Envoy's configuration says; no gRPC status,
//! which Envoy takes for a failure and may let pass.

use super::Envoy;
use super::http::Exchange;
use crate::engine::address::Seen;
use crate::engine::http::{Refusal, Rendered};
use crate::service::{Authorized, Deadline, HttpCall, MadeBy, Offer, ServiceError};
use crate::store::Store;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// Most policies that a route's extensions name.
const MAX_POLICIES: usize = 16;

/// What became of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Allowed or denied.
    Judged(Box<Authorized>),
    /// Denied without a decision: malformed, or Envoy's configuration names what is not configured.
    Refused(Rendered),
    /// No decision, and the policy leaves the choice to Envoy.
    Undecided(Rendered),
}

/// What the extensions of Envoy's route say about its requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told<'a> {
    domain: &'a str,
    route: Option<&'a str>,
    policies: Vec<String>,
    cost: Option<u32>,
}

/// One request to be judged.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) exchange: &'a Exchange<'a>,
    pub(super) told: &'a Told<'a>,
    /// As Envoy saw it.
    pub(super) peer: Option<IpAddr>,
    /// Of the call.
    pub(super) metadata: &'a MetadataMap,
    /// Of the lease that the request takes if its route limits connections; by [`lease_id`].
    pub(super) lease_id: &'a str,
}

impl<'a> Told<'a> {
    /// Reads `policy`, `cost`, `domain` and `route`; other keys are for others.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub(super) fn read(extensions: &'a HashMap<String, String>) -> Result<Self, String> {
        let given =
            |key: &str| extensions.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let cost = match given("cost").map(|cost| (cost, cost.parse())) {
            None => None,
            Some((_, Ok(cost))) => Some(cost),
            Some((cost, Err(_))) => {
                return Err(format!(
                    "context_extensions.cost: `{}` is not a whole number",
                    cost.escape_debug()
                ));
            }
        };
        let names = given("policy").into_iter().flat_map(|names| names.split(','));
        let policies: Vec<String> =
            names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if policies.len() > MAX_POLICIES {
            return Err(format!(
                "context_extensions.policy: {} names, at most {MAX_POLICIES}",
                policies.len()
            ));
        }
        Ok(Self { domain: given("domain").unwrap_or_default(), route: given("route"), policies, cost })
    }
}

impl<S: Store> Envoy<S> {
    /// Puts one request before the service.
    pub(super) async fn judge(&self, asked: Asked<'_>, deadline: Deadline) -> Verdict {
        let Asked { exchange, told, peer, metadata, lease_id } = asked;
        let headers = exchange.pairs();
        if exchange.is_preflight() {
            return Verdict::Judged(Box::new(self.service.pass(&headers)));
        }
        let metadata: Vec<(&str, &str)> = metadata.iter().filter_map(text_pair).collect();
        let client = self.service.find_client(&Seen { peer, metadata: &metadata, headers: &headers });
        let peer_address = peer.map(|ip| ip.to_string()).unwrap_or_default();
        let entries = HashMap::new();
        let call = HttpCall {
            domain: told.domain,
            method: &exchange.method,
            host: &exchange.host,
            path: &exchange.path,
            peer_address: &peer_address,
            client,
            route: told.route,
            policies: &told.policies,
            headers: &headers,
            token: None,
            entries: &entries,
            cost: told.cost,
            // Envoy's x-request-id is the client's own on most hops: who sends one twice must not be charged once.
            request_id: "",
            settle_within: None,
            connection: Some(Offer { lease_id, made_by: MadeBy::Us }),
        };
        match self.service.authorize(call, deadline).await {
            Ok(authorized) => Verdict::Judged(Box::new(authorized)),
            Err(error) => self.undecided(&error),
        }
    }

    fn undecided(&self, error: &ServiceError) -> Verdict {
        match error {
            ServiceError::Invalid { .. } => Verdict::Refused(self.service.refuse(Refusal::Malformed)),
            ServiceError::Lookup(unknown) => Verdict::Refused(self.service.refuse_unconfigured(unknown)),
            ServiceError::TooLate
            | ServiceError::InDoubt
            | ServiceError::NoRoom
            | ServiceError::Store(_)
            | ServiceError::RateLimit(_) => Verdict::Undecided(self.service.refuse(Refusal::Unavailable)),
        }
    }
}

fn text_pair(pair: KeyAndValueRef<'_>) -> Option<(&str, &str)> {
    match pair {
        KeyAndValueRef::Ascii(key, value) => Some((key.as_str(), value.to_str().ok()?)),
        KeyAndValueRef::Binary(..) => None,
    }
}

/// A new lease id: 128 random bits in hex. None when the system gives no random numbers.
pub(super) fn lease_id() -> Option<String> {
    let mut random = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    let mut id = String::with_capacity(32);
    for byte in random {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extensions(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn extensions_of_a_route_are_read_or_named() {
        let given = extensions(&[
            ("policy", "a, b,"),
            ("cost", " 3 "),
            ("domain", "d"),
            ("route", "r"),
            ("other", "x"),
        ]);
        let told = Told::read(&given).unwrap();
        assert_eq!(
            told,
            Told {
                domain: "d",
                route: Some("r"),
                policies: vec!["a".to_owned(), "b".to_owned()],
                cost: Some(3)
            }
        );
        assert_eq!(Told::read(&extensions(&[("policy", ""), ("cost", "")])), Ok(Told::default()));
        for cost in ["-1", "1e3", "4294967296", "x\n"] {
            let wrong = Told::read(&extensions(&[("cost", cost)])).unwrap_err();
            assert!(wrong.starts_with("context_extensions.cost") && !wrong.contains('\n'), "{wrong}");
        }
        let many = extensions(&[("policy", &"p,".repeat(17))]);
        assert!(Told::read(&many).unwrap_err().starts_with("context_extensions.policy: 17"));
    }

    #[test]
    fn lease_ids_are_128_random_bits_in_hex() {
        let (one, two) = (lease_id().unwrap(), lease_id().unwrap());
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, two);
    }
}
