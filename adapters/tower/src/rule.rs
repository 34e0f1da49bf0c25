//! What the application says about its own paths: what to do without an answer, costs, what to leave alone.
//!
//! Limits are not written here. They belong to the service's policies and routes.

#[cfg(feature = "local")]
use crate::local::Local;
use crate::{error::ConfigurationError, facts, headers::Edit};
use http::{HeaderName, HeaderValue, request::Parts};
use std::{fmt, sync::Arc, time::Duration};

/// What a request gets that nobody could decide about.
#[derive(Clone, Debug, Default)]
pub enum OnUnavailable {
    /// 503 `RATE_LIMIT_UNAVAILABLE`: an unchecked token is not a good one.
    #[default]
    Closed,
    /// It passes, and **no token is checked either**. Only for what needs no log-in.
    Open,
    /// Counted in this process.
    #[cfg(feature = "local")]
    Local(Local),
}

pub(crate) type CostFn = Arc<dyn Fn(&Parts) -> u32 + Send + Sync>;

/// Units that a request takes.
#[derive(Clone)]
pub struct Cost(pub(crate) CostOf);

#[derive(Clone)]
pub(crate) enum CostOf {
    Units(u32),
    Request(CostFn),
}

impl From<u32> for Cost {
    fn from(units: u32) -> Self {
        Self(CostOf::Units(units))
    }
}

impl<F: Fn(&Parts) -> u32 + Send + Sync + 'static> From<F> for Cost {
    fn from(cost: F) -> Self {
        Self(CostOf::Request(Arc::new(cost)))
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            CostOf::Units(units) => formatter.debug_tuple("Cost").field(units).finish(),
            CostOf::Request(_) => formatter.write_str("Cost(a function of the request)"),
        }
    }
}

impl Cost {
    pub(crate) fn of(&self, parts: &Parts) -> u32 {
        match &self.0 {
            CostOf::Units(units) => *units,
            CostOf::Request(cost) => cost(parts),
        }
    }
}

/// For some paths: `/exact`, `/v1/*` for one segment, `/v1/**` for any depth; methods before it: `POST,PUT /v1/**`.
///
/// The first rule that matches holds; what it leaves out is the Shield's own.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    path: String,
    pub(crate) on_unavailable: Option<OnUnavailable>,
    pub(crate) cost: Option<Cost>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) asks: Asks,
    headers: Vec<(String, Option<String>)>,
    pub(crate) edits: Vec<Edit>,
}

/// Whether the service's routes are asked about a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Asks {
    #[default]
    Routes,
    Nothing,
}

impl Rule {
    /// For this path.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Without an answer.
    #[must_use]
    pub fn on_unavailable(mut self, choice: OnUnavailable) -> Self {
        self.on_unavailable = Some(choice);
        self
    }

    /// What a request charges under the service's routes, in the place of the policies' own cost.
    #[must_use]
    pub fn cost(mut self, cost: impl Into<Cost>) -> Self {
        self.cost = Some(cost.into());
        self
    }

    /// How long a decision may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Asks nothing about the request. Identity headers that its client sent are removed all the same.
    #[must_use]
    pub fn skip(mut self) -> Self {
        self.asks = Asks::Nothing;
        self
    }

    /// Changes a header of the responses: `None` takes it away.
    #[must_use]
    pub fn header<'a>(mut self, name: impl Into<String>, value: impl Into<Option<&'a str>>) -> Self {
        self.headers.push((name.into(), value.into().map(str::to_owned)));
        self
    }
}

/// A change to headers as written, made ready.
pub(crate) fn edit(name: &str, value: Option<&str>) -> Result<Edit, ConfigurationError> {
    let fault = || ConfigurationError::Header(name.to_owned());
    let read = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
    Ok((read, value.map(HeaderValue::from_str).transpose().map_err(|_| fault())?))
}

enum Segment {
    Exact(String),
    One,
    AnyDepth,
}

/// A rule's `path`, ready to match.
pub(crate) struct Pattern {
    methods: Vec<String>,
    segments: Vec<Segment>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, ConfigurationError> {
        let fault = |why| ConfigurationError::Rule { path: text.to_owned(), why };
        let (methods, path) = text.rsplit_once(' ').unwrap_or(("", text));
        let methods: Vec<String> =
            methods.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        let is_method = |method: &String| method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !path.starts_with('/') || !methods.iter().all(is_method) {
            return Err(fault("write /path, /path/*, /path/** or `POST /path`"));
        }
        let segment = |piece: &str| match piece {
            "*" => Ok(Segment::One),
            "**" => Ok(Segment::AnyDepth),
            _ if piece.contains('*') => Err(fault("`*` stands for a whole segment")),
            _ => Ok(Segment::Exact(piece.to_owned())),
        };
        let pieces = path.split('/').filter(|piece| !piece.is_empty());
        Ok(Self { methods, segments: pieces.map(segment).collect::<Result<_, _>>()? })
    }

    /// `path` as [`normalised`] leaves it.
    pub(crate) fn matches(&self, method: &str, path: &str) -> bool {
        let pieces: Vec<&str> = path.split('/').filter(|piece| !piece.is_empty()).collect();
        (self.methods.is_empty() || self.methods.iter().any(|one| one == method))
            && fits(&self.segments, &pieces)
    }
}

/// Patterns are the application's own, a few segments long; a path's pieces are bounded by its length.
fn fits(segments: &[Segment], pieces: &[&str]) -> bool {
    match (segments.split_first(), pieces.split_first()) {
        (None, None) => true,
        (Some((Segment::AnyDepth, rest)), _) => (0..=pieces.len()).any(|from| fits(rest, &pieces[from..])),
        (Some((Segment::One, rest)), Some((_, pieces))) => fits(rest, pieces),
        (Some((Segment::Exact(text), rest)), Some((piece, pieces))) => text == piece && fits(rest, pieces),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// All of them, in order.
#[derive(Default)]
pub(crate) struct Rules {
    rules: Vec<(Pattern, Arc<Rule>)>,
    any: Arc<Rule>,
}

impl Rules {
    pub(crate) fn new(rules: Vec<Rule>) -> Result<Self, ConfigurationError> {
        let ready = |mut rule: Rule| {
            let edits = rule.headers.iter().map(|(name, value)| edit(name, value.as_deref()));
            rule.edits = edits.collect::<Result<_, _>>()?;
            Ok((Pattern::new(&rule.path)?, Arc::new(rule)))
        };
        Ok(Self { rules: rules.into_iter().map(ready).collect::<Result<_, _>>()?, any: Arc::default() })
    }

    /// A path that can be read in two ways is never skipped: what the application makes of it, nobody here knows.
    pub(crate) fn find(&self, parts: &Parts) -> Arc<Rule> {
        let sent = facts::path(parts);
        let path = normalised(sent);
        let found = self.rules.iter().find(|(pattern, rule)| {
            pattern.matches(facts::method(parts), &path)
                && (rule.asks == Asks::Routes || (sent == path && !sent.contains('%')))
        });
        found.map_or_else(|| Arc::clone(&self.any), |(_, rule)| Arc::clone(rule))
    }
}

/// Without empty segments, dots and parameters, and with slashes for backslashes.
pub(crate) fn normalised(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Rule, Rules, normalised};

    #[test]
    fn patterns_match_whole_segments() {
        for (pattern, method, path, expected) in [
            ("/login", "GET", "/login", true),
            ("/login", "GET", "/login/x", false),
            ("POST,PUT /v1/*", "PUT", "/v1/a", true),
            ("POST,PUT /v1/*", "GET", "/v1/a", false),
            ("/v1/*", "GET", "/v1", false),
            ("/v1/**", "GET", "/v1", true),
            ("/v1/**/end", "GET", "/v1/a/b/end", true),
            ("/**", "GET", "/", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(method, path), expected, "{pattern} {path}");
        }
        for pattern in ["login", "/v1/a*", "post /login", "POST login"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn odd_spellings_of_a_path_are_not_skipped() {
        let rules = Rules::new(vec![Rule::new("/health").skip()]).unwrap();
        let asks = |path: &str| {
            let (parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            rules.find(&parts).asks
        };
        assert_eq!(asks("/health"), super::Asks::Nothing);
        for path in ["/health/", "//health", "/x/../health", "/health;a", "/h%65alth"] {
            assert_eq!(asks(path), super::Asks::Routes, "{path}");
        }
        assert_eq!(normalised("/a/./b//c;x/../d\\e"), "/a/b/d/e");
    }
}
