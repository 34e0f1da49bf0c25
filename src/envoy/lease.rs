//! A lease in Envoy's dynamic metadata: ext_authz writes it, the access log brings it back.
//!
//! Promise: what is written reads back as it was, on any replica. What is malformed or beyond its bound reads as
//! nothing. Must never: keep anything here; the metadata is all that is known of a lease.

use super::Envoy;
use crate::clock;
use crate::engine::leases::is_lease_id;
use crate::engine::units::Moment;
use crate::service::{ConnectionCall, Deadline, Entries, InDomain, LeaseGrant, LeaseTerms, TokenReference};
use crate::store::Store;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::time::Duration;

/// The namespace of ext_authz.
pub(super) const NAMESPACE: &str = "envoy.filters.http.ext_authz";
/// The key within it.
pub(super) const KEY: &str = "lease";
/// Most policies: as many as one request names.
const MAX_POLICIES: usize = 16;
/// Most entries: eight for each policy.
const MAX_ENTRIES: usize = 128;
/// How long one renewal or release waits for the store.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A lease as somebody holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) id: String,
    pub(super) terms: LeaseTerms,
}

impl Lease {
    pub(super) fn call(&self) -> ConnectionCall<'_, Entries<'_>> {
        self.terms.call(&self.id)
    }

    /// The lease that was granted; none where it stands under no policy: nothing is held then.
    pub(super) fn of(grant: LeaseGrant) -> Option<Self> {
        (!grant.terms.policies.is_empty()).then_some(Self { id: grant.lease_id, terms: grant.terms })
    }
}

impl<S: Store> Envoy<S> {
    /// Gives back the lease of a request that is over: now, or once the store can be asked again.
    pub(super) async fn end(&self, lease: &Lease) {
        if let Err(error) = self.service.end_lease(&lease.call(), within(PATIENCE)).await {
            tracing::debug!(%error, "a lease was not released; it ends by itself");
        }
    }
}

/// The end of a wait that begins now, of at most [`PATIENCE`].
pub(super) fn within(span: Duration) -> Deadline {
    Deadline(clock::monotonic().checked_add(span.min(PATIENCE)))
}

/// The lease as metadata.
pub(super) fn to_struct(grant: &LeaseGrant) -> Struct {
    let LeaseTerms { domain, policies, elsewhere, entries, token } = &grant.terms;
    let entries = entries.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let mut fields = vec![
        ("id", text(&grant.lease_id)),
        ("domain", text(domain)),
        ("policies", list(policies.iter().map(|policy| text(policy)))),
        ("entries", value(Kind::StructValue(Struct { fields: entries }))),
    ];
    if !elsewhere.is_empty() {
        let each = |InDomain { domain, policies }: &InDomain| {
            let policies = list(policies.iter().map(|policy| text(policy)));
            value(Kind::StructValue(named(vec![("domain", text(domain)), ("policies", policies)])))
        };
        fields.push(("elsewhere", list(elsewhere.iter().map(each))));
    }
    if let Some(token) = token {
        fields.push(("token", value(Kind::StructValue(token_struct(token)))));
    }
    named(fields)
}

/// The lease out of metadata.
pub(super) fn from_struct(from: &Struct) -> Option<Lease> {
    let id = string(from, "id")?;
    if !is_lease_id(id) {
        return None;
    }
    let first = in_domain(from)?;
    let elsewhere = elsewhere(from)?;
    let Some(Kind::StructValue(entries)) = kind(from, "entries") else { return None };
    let policies: usize = elsewhere.iter().map(|one| one.policies.len()).sum();
    if first.policies.len() + policies > MAX_POLICIES || entries.fields.len() > MAX_ENTRIES {
        return None;
    }
    let terms = LeaseTerms {
        domain: first.domain,
        policies: first.policies,
        elsewhere,
        entries: entries
            .fields
            .iter()
            .map(|(name, value)| Some((name.clone(), owned(value)?)))
            .collect::<Option<_>>()?,
        token: match kind(from, "token") {
            None => None,
            Some(Kind::StructValue(token)) => Some(token_reference(token)?),
            Some(_) => return None,
        },
    };
    Some(Lease { id: id.to_owned(), terms })
}

/// No policy would mean every one that matches: malformed.
fn in_domain(from: &Struct) -> Option<InDomain> {
    let Some(Kind::ListValue(policies)) = kind(from, "policies") else { return None };
    if !(1..=MAX_POLICIES).contains(&policies.values.len()) {
        return None;
    }
    let policies = policies.values.iter().map(owned).collect::<Option<_>>()?;
    Some(InDomain { domain: string(from, "domain")?.to_owned(), policies })
}

/// None: malformed.
fn elsewhere(from: &Struct) -> Option<Vec<InDomain>> {
    let each = |value: &Value| match value.kind.as_ref()? {
        Kind::StructValue(one) => in_domain(one),
        _ => None,
    };
    match kind(from, "elsewhere") {
        None => Some(Vec::new()),
        Some(Kind::ListValue(list)) if list.values.len() < MAX_POLICIES => {
            list.values.iter().map(each).collect()
        }
        Some(_) => None,
    }
}

fn token_struct(token: &TokenReference) -> Struct {
    // Seconds as a double, as in the claims of a token: to the microsecond for a hundred years.
    let time = |at: Moment| value(Kind::NumberValue(Duration::from_micros(at.0).as_secs_f64()));
    let mut fields = vec![
        ("issuer", text(&token.issuer)),
        ("subject", text(&token.subject)),
        ("token_id", text(&token.token_id)),
    ];
    fields.extend(token.issued_at.map(|at| ("issued_at", time(at))));
    fields.extend(token.expires_at.map(|at| ("expires_at", time(at))));
    named(fields)
}

fn token_reference(from: &Struct) -> Option<TokenReference> {
    Some(TokenReference {
        issuer: string(from, "issuer")?.to_owned(),
        subject: string(from, "subject")?.to_owned(),
        token_id: string(from, "token_id")?.to_owned(),
        issued_at: moment(from, "issued_at")?,
        expires_at: moment(from, "expires_at")?,
    })
}

/// None: malformed.
fn moment(from: &Struct, name: &str) -> Option<Option<Moment>> {
    match kind(from, name) {
        None => Some(None),
        Some(Kind::NumberValue(seconds)) => {
            let half = Duration::from_nanos(500);
            let at = Duration::try_from_secs_f64(*seconds).ok()?.checked_add(half)?;
            Some(Some(Moment(u64::try_from(at.as_micros()).ok()?)))
        }
        Some(_) => None,
    }
}

fn named(fields: Vec<(&str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    value(Kind::ListValue(prost_types::ListValue { values: values.collect() }))
}

fn text(text: &str) -> Value {
    value(Kind::StringValue(text.to_owned()))
}

fn kind<'a>(from: &'a Struct, name: &str) -> Option<&'a Kind> {
    from.fields.get(name)?.kind.as_ref()
}

fn string<'a>(from: &'a Struct, name: &str) -> Option<&'a str> {
    match kind(from, name)? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

fn owned(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::units::Micros;
    use proptest::prelude::*;

    fn tokens() -> impl Strategy<Value = TokenReference> {
        let time = || prop::option::of((0_u64..4_294_967_296_000_000).prop_map(Moment));
        (".*", ".*", ".*", time(), time()).prop_map(|(issuer, subject, token_id, issued_at, expires_at)| {
            TokenReference { issuer, subject, token_id, issued_at, expires_at }
        })
    }

    fn grants() -> impl Strategy<Value = LeaseGrant> {
        let policies = || prop::collection::vec("[a-z-]{1,20}", 1..=4);
        let elsewhere = (".*", policies()).prop_map(|(domain, policies)| InDomain { domain, policies });
        let elsewhere = prop::collection::vec(elsewhere, 0..=3);
        let entries = prop::collection::hash_map(".{1,8}", ".*", 0..8);
        ("[!-~]{1,64}", ".*", policies(), elsewhere, entries, prop::option::of(tokens())).prop_map(
            |(lease_id, domain, policies, elsewhere, entries, token)| LeaseGrant {
                lease_id,
                ttl: Micros(3),
                renew_after: Micros(1),
                terms: LeaseTerms { domain, policies, elsewhere, entries, token },
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(grant in grants()) {
            let read = from_struct(&to_struct(&grant)).unwrap();
            prop_assert_eq!(read, Lease { id: grant.lease_id, terms: grant.terms });
        }

        #[test]
        fn a_part_that_is_no_such_thing_reads_as_nothing(grant in grants(), part in 0_usize..4) {
            let mut bent = to_struct(&grant);
            let name = ["id", "domain", "policies", "entries"][part];
            bent.fields.insert(name.to_owned(), value(Kind::NumberValue(f64::NAN)));
            prop_assert_eq!(from_struct(&bent), None);
            bent.fields.remove(name);
            prop_assert_eq!(from_struct(&bent), None);
        }

        #[test]
        fn other_domains_are_whole_and_bounded_or_all_reads_as_nothing(grant in grants(), many in 0_usize..40) {
            let one = |policies: usize| {
                let policies = list((0..policies).map(|_| text("p")));
                value(Kind::StructValue(named(vec![("domain", text("d")), ("policies", policies)])))
            };
            let with = |elsewhere: Value| {
                let mut bent = to_struct(&grant);
                bent.fields.insert("elsewhere".to_owned(), elsewhere);
                from_struct(&bent)
            };
            for bent in [one(1), list([one(0)].into_iter()), list([text("d")].into_iter()), value(Kind::BoolValue(true))] {
                prop_assert_eq!(with(bent), None);
            }
            let fits = grant.terms.policies.len() + many <= MAX_POLICIES;
            prop_assert_eq!(with(list((0..many).map(|_| one(1)))).is_some(), fits);
        }
    }

    #[test]
    fn times_that_are_none_and_no_policies_read_as_nothing() {
        let token = TokenReference { issuer: "i".into(), ..TokenReference::default() };
        let terms = LeaseTerms { policies: vec!["p".into()], token: Some(token), ..LeaseTerms::default() };
        let grant = LeaseGrant { lease_id: "a".into(), ttl: Micros(3), renew_after: Micros(1), terms };
        for seconds in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            let mut bent = to_struct(&grant);
            let Some(Kind::StructValue(token)) = &mut bent.fields.get_mut("token").unwrap().kind else {
                panic!("no token")
            };
            token.fields.insert("expires_at".into(), value(Kind::NumberValue(seconds)));
            assert_eq!(from_struct(&bent), None, "{seconds}");
        }
        let mut none = grant.clone();
        none.terms.policies.clear();
        assert_eq!(from_struct(&to_struct(&none)), None);
        assert_eq!(Lease::of(none), None);
    }
}
