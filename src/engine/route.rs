//! Routes: which token, policies and connection policies an HTTP request needs, for `Authorize`.

use super::glob::{Case, Glob};
use super::matcher::Matcher;
use super::mistake::Mistake;
use super::name::{DEFAULT_DOMAIN, check_name};
use super::policy::{MAX_UNITS, Policy, covering_method};
use super::policy_set::{Kind, PolicySet};
use std::sync::Arc;

/// Most policies that the hint for an unknown one lists.
const MAX_NAMES_IN_HINT: usize = 20;

/// Whether a route asks for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenNeed {
    /// No request passes without a good one.
    Required,
    /// None is fine; a bad one is refused.
    Optional,
    /// Not looked at.
    #[default]
    Ignored,
}

/// A route as meant by the configuration, not yet checked.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Its name: the `route` entry of its requests.
    pub name: String,
    /// Methods; none: any.
    pub methods: Vec<String>,
    /// Hosts, `*.example.com` for subdomains; none: any.
    pub hosts: Vec<String>,
    /// Path patterns; none: any.
    pub paths: Vec<String>,
    /// How its paths are compared, and those that its policies look at.
    pub case: Case,
    /// Conditions on headers.
    pub headers: Vec<(String, String)>,
    /// Whether it asks for a token.
    pub token: TokenNeed,
    /// Issuers whose tokens it takes; none: any configured.
    pub issuers: Vec<String>,
    /// The domain of its policies.
    pub domain: String,
    /// Policies by name.
    pub policies: Vec<String>,
    /// Connection policies by name.
    pub connection: Vec<String>,
    /// Units of a request; none: each policy's own cost.
    pub cost: Option<u64>,
}

impl RouteSpec {
    /// The defaults of every key.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            methods: Vec::new(),
            hosts: Vec::new(),
            paths: Vec::new(),
            case: Case::Sensitive,
            headers: Vec::new(),
            token: TokenNeed::Ignored,
            issuers: Vec::new(),
            domain: DEFAULT_DOMAIN.to_owned(),
            policies: Vec::new(),
            connection: Vec::new(),
            cost: None,
        }
    }
}

/// A checked route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// The domain of its policies.
    pub domain: Arc<str>,
    /// Whether it asks for a token.
    pub token: TokenNeed,
    /// Issuers whose tokens it takes; none: any configured.
    pub issuers: Vec<String>,
    /// Its policies, in the order named.
    pub policies: Vec<Arc<Policy>>,
    /// Its connection policies, in the order named.
    pub connection: Vec<Arc<Policy>>,
    /// Units of a request; none: each policy's own cost.
    pub cost: Option<u32>,
    /// How its paths are compared.
    pub case: Case,
    methods: Vec<Box<str>>,
    hosts: Vec<Host>,
    paths: Vec<Glob>,
    headers: Vec<(Box<str>, Matcher)>,
}

#[derive(Clone, Debug)]
enum Host {
    Exact(Box<str>),
    /// With its leading dot.
    Below(Box<str>),
}

/// A request as routes see it.
pub struct RouteRequest<'a, H: Fn(&str) -> Option<&'a str>> {
    /// As sent.
    pub method: &'a str,
    /// Normalised by [`normalise_host`].
    pub host: &'a str,
    /// One of [`super::path::readings`].
    pub path: &'a str,
    /// A header's value by its lower-case name.
    pub header: H,
}

impl Route {
    /// Checks a route against the policies of the set.
    ///
    /// # Errors
    /// Every mistake, each with its field.
    pub fn build(spec: RouteSpec, set: &PolicySet, issuers: &[String]) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        mistakes.extend(check_name("name", &spec.name).err());
        let policies = resolve("policies", &spec, set, &mut mistakes);
        let connection = resolve("connection", &spec, set, &mut mistakes);
        if policies.len() + connection.len() > super::ask::MAX_DEMANDS {
            let (count, hint) =
                (policies.len() + connection.len(), format!("at most {}", super::ask::MAX_DEMANDS));
            mistakes.push(Mistake::new(
                "policies",
                format!("{count} policies with those under connection"),
                hint,
            ));
        }
        let paths = collect(spec.paths.iter().map(|path| Glob::parse("paths", path)), &mut mistakes);
        let hosts = collect(spec.hosts.iter().map(|host| parse_host(host)), &mut mistakes);
        let headers = collect(
            spec.headers.iter().map(|(name, text)| {
                let matcher = Matcher::parse(&format!("headers.{name}"), text)?;
                Ok((name.to_ascii_lowercase().into(), matcher))
            }),
            &mut mistakes,
        );
        let methods = collect(spec.methods.iter().map(|method| parse_method(method)), &mut mistakes);
        check_issuers(&spec, issuers, &mut mistakes);
        if let Some(cost) = spec.cost.filter(|cost| *cost == 0 || *cost > MAX_UNITS) {
            let hint = format!("write a whole number from 1 to {MAX_UNITS}");
            mistakes.push(Mistake::new("cost", format!("cost is {cost}"), hint));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let cost = spec.cost.and_then(|cost| u32::try_from(cost).ok());
        let (token, issuers, case) = (spec.token, spec.issuers, spec.case);
        Ok(Self {
            name: spec.name.into(),
            domain: spec.domain.into(),
            token,
            issuers,
            policies,
            connection,
            cost,
            case,
            methods,
            hosts,
            paths,
            headers,
        })
    }

    /// Whether a request is this route's. HEAD is where GET is.
    pub fn matches<'a, H: Fn(&str) -> Option<&'a str>>(&self, request: &RouteRequest<'a, H>) -> bool {
        let any = |empty: bool, mut found: bool| {
            found |= empty;
            found
        };
        let is_method = |method: &str| method == request.method || method == covering_method(request.method);
        any(self.methods.is_empty(), self.methods.iter().any(|method| is_method(method)))
            && any(self.hosts.is_empty(), self.hosts.iter().any(|host| host.matches(request.host)))
            && any(self.paths.is_empty(), self.paths.iter().any(|path| path.matches(request.path, self.case)))
            && self
                .headers
                .iter()
                .all(|(name, matcher)| (request.header)(name).is_some_and(|value| matcher.matches(value)))
    }
}

impl Host {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

/// A host as it is matched: lower case, without port and trailing dot.
#[must_use]
pub fn normalise_host(raw: &str) -> String {
    let without_port = match raw.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => raw,
    };
    without_port.strip_suffix('.').unwrap_or(without_port).to_ascii_lowercase()
}

fn collect<T>(parsed: impl Iterator<Item = Result<T, Mistake>>, mistakes: &mut Vec<Mistake>) -> Vec<T> {
    parsed.filter_map(|one| one.map_err(|mistake| mistakes.push(mistake)).ok()).collect()
}

fn parse_host(text: &str) -> Result<Host, Mistake> {
    let host = normalise_host(text);
    if let Some(suffix) = host.strip_prefix('*')
        && suffix.len() > 1
        && suffix.starts_with('.')
        && !suffix.contains('*')
    {
        return Ok(Host::Below(suffix.into()));
    }
    if host.is_empty() || host.contains(['*', '/', ' ']) {
        let hint = "write api.example.com or *.example.com";
        return Err(Mistake::new("hosts", format!("`{text}` is not a host"), hint));
    }
    Ok(Host::Exact(host.into()))
}

fn parse_method(text: &str) -> Result<Box<str>, Mistake> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        let hint = "methods are upper case: GET, POST";
        return Err(Mistake::new("methods", format!("`{text}` is not a method"), hint));
    }
    Ok(text.into())
}

fn resolve(field: &str, spec: &RouteSpec, set: &PolicySet, mistakes: &mut Vec<Mistake>) -> Vec<Arc<Policy>> {
    let (kind, names) = match field {
        "connection" => (Kind::Connection, &spec.connection),
        _ => (Kind::Limit, &spec.policies),
    };
    let mut found: Vec<Arc<Policy>> = Vec::new();
    for name in names {
        match set.named(&spec.domain, kind, name) {
            Ok(policy) if found.iter().any(|earlier| earlier.name == policy.name) => {
                mistakes.push(Mistake::new(field, format!("`{name}` stands twice"), "name each policy once"))
            }
            Ok(policy) => found.push(Arc::clone(policy)),
            Err(_) => mistakes.push(not_found(field, spec, name, set)),
        }
    }
    found
}

fn not_found(field: &str, spec: &RouteSpec, name: &str, set: &PolicySet) -> Mistake {
    let wants_connection = field == "connection";
    let other_kind = if wants_connection { Kind::Limit } else { Kind::Connection };
    if set.named(&spec.domain, other_kind, name).is_ok() {
        let hint = if wants_connection {
            "a connection policy has algorithm: concurrency; write this one under policies"
        } else {
            "it limits connections; write it under connection"
        };
        return Mistake::new(field, format!("`{name}` is of the other kind"), hint);
    }
    let mut known: Vec<&str> = set
        .policies()
        .filter(|policy| *policy.domain == *spec.domain && policy.is_connection() == wants_connection)
        .map(|policy| &*policy.name)
        .collect();
    known.sort_unstable();
    known.dedup();
    // Thousands of names would make the hints of a bad file larger than the file a thousand times over.
    known.truncate(MAX_NAMES_IN_HINT);
    let hint = match known.as_slice() {
        [] => format!("domain `{}` has none of that kind", spec.domain),
        known => format!("domain `{}` has {}", spec.domain, known.join(", ")),
    };
    Mistake::new(field, format!("`{name}` is not a policy"), hint)
}

fn check_issuers(spec: &RouteSpec, issuers: &[String], mistakes: &mut Vec<Mistake>) {
    for issuer in spec.issuers.iter().filter(|issuer| !issuers.contains(issuer)) {
        let hint = format!("the issuers under tokens are {}", issuers.join(", "));
        mistakes.push(Mistake::new("issuers", format!("`{issuer}` is not configured"), hint));
    }
    if spec.token != TokenNeed::Ignored && issuers.is_empty() {
        let hint = "add an entry under tokens, or write token: ignored";
        mistakes.push(Mistake::new("token", "no issuer is configured", hint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::policy::PolicySpec;

    fn set() -> PolicySet {
        let (limit, window) = (Some(1), Some(crate::engine::units::Micros::SECOND));
        let policy = Policy::build(PolicySpec { limit, window, ..PolicySpec::named("limit") }).unwrap();
        let sockets = PolicySpec {
            algorithm: crate::engine::rule::Algorithm::Concurrency,
            limit,
            ..PolicySpec::named("sockets")
        };
        PolicySet::new(vec![policy, Policy::build(sockets).unwrap()], Vec::new(), &[]).unwrap()
    }

    fn request<'a>(
        method: &'a str,
        host: &'a str,
        path: &'a str,
    ) -> RouteRequest<'a, impl Fn(&str) -> Option<&'a str>> {
        RouteRequest { method, host, path, header: |name: &str| (name == "x-plan").then_some("gold") }
    }

    #[test]
    fn every_condition_must_hold() {
        let spec = RouteSpec {
            methods: vec!["POST".into()],
            hosts: vec!["*.example.com".into()],
            paths: vec!["/login".into(), "/ai/**".into()],
            headers: vec![("X-Plan".into(), "gold".into())],
            policies: vec!["limit".into()],
            ..RouteSpec::named("r")
        };
        let route = Route::build(spec, &set(), &[]).unwrap();
        assert!(route.matches(&request("POST", "api.example.com", "/ai/x")));
        assert!(!route.matches(&request("GET", "api.example.com", "/ai/x")));
        assert!(!route.matches(&request("POST", "example.com", "/ai/x")));
        assert!(!route.matches(&request("POST", "evilexample.com", "/ai/x")));
        assert!(!route.matches(&request("POST", "api.example.com", "/other")));
    }

    #[test]
    fn head_is_where_get_is_and_case_counts_unless_it_does_not() {
        let spec = |methods: &str, case: Case| RouteSpec {
            methods: vec![methods.into()],
            paths: vec!["/Login".into()],
            case,
            ..RouteSpec::named("r")
        };
        let matches = |spec: RouteSpec, method: &str, path: &str| {
            Route::build(spec, &set(), &[]).unwrap().matches(&request(method, "", path))
        };
        assert!(matches(spec("GET", Case::Sensitive), "HEAD", "/Login"));
        assert!(!matches(spec("HEAD", Case::Sensitive), "GET", "/Login"));
        assert!(!matches(spec("POST", Case::Sensitive), "HEAD", "/Login"));
        assert!(matches(spec("GET", Case::Insensitive), "GET", "/lOGIN"));
        assert!(!matches(spec("GET", Case::Sensitive), "GET", "/login"));
    }

    #[test]
    fn policies_must_exist_and_be_of_the_right_kind() {
        let spec = RouteSpec {
            policies: vec!["nope".into(), "sockets".into()],
            connection: vec!["limit".into()],
            ..RouteSpec::named("r")
        };
        let mistakes = Route::build(spec, &set(), &[]).unwrap_err();
        let fields: Vec<_> = mistakes.iter().map(|mistake| mistake.field.as_str()).collect();
        assert_eq!(fields, ["policies", "policies", "connection"]);
        assert!(mistakes[0].hint.contains("limit"), "{:?}", mistakes[0]);
    }

    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        assert_eq!(normalise_host("API.Example.com.:8443"), "api.example.com");
        assert_eq!(normalise_host("API.Example.com."), "api.example.com");
        assert_eq!(normalise_host("[2001:db8::1]:443"), "[2001:db8::1]");
    }
}
