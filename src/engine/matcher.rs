//! What an entry's value must be for a policy or a route to hold.
//!
//! Exact, prefix `ab*`, path glob `/v1/**`, CIDR `10.0.0.0/8`, or `re:` and a regular expression that must match
//! the whole value. Expressions run in linear time (no back-references, no look-around), and their compiled
//! size is bounded.

use super::address::{Cidr, parse_ip};
use super::glob::{Case, Glob};
use super::mistake::Mistake;
use super::path;
use regex::{Regex, RegexBuilder};

/// Most bytes a compiled expression takes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// What is known of a value that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text as somebody sent it: where it is compared as a path, each of its readings is.
    AsSent,
    /// One reading of a path. Decoded already, and never again.
    Reading(Case),
}

/// A condition on one value.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// The value itself.
    Exact(Box<str>),
    /// What the value begins with.
    Prefix(Box<str>),
    /// A path.
    Path(Glob),
    /// A range of addresses.
    Range(Cidr),
    /// An expression for the whole value.
    Expression(Regex),
}

impl Matcher {
    /// Parses a condition as written in the configuration.
    ///
    /// # Errors
    /// A mistake in `field` that shows the text.
    pub fn parse(field: &str, text: &str) -> Result<Self, Mistake> {
        if let Some(expression) = text.strip_prefix("re:") {
            return whole_value(expression)
                .map(Self::Expression)
                .map_err(|error| bad_expression(field, expression, &error));
        }
        if text.starts_with('/') && text.contains('*') {
            return Glob::parse(field, text).map(Self::Path);
        }
        if let Some((address, bits)) = text.split_once('/')
            && parse_ip(address).is_some()
            && bits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return text.parse().map(Self::Range).map_err(|why: String| {
                Mistake::new(
                    field,
                    format!("`{text}` is not a CIDR range: {why}"),
                    "write 10.0.0.0/8 or 2001:db8::/32",
                )
            });
        }
        if let Some(prefix) = text.strip_suffix('*')
            && !prefix.contains('*')
        {
            return Ok(Self::Prefix(prefix.into()));
        }
        if text.contains('*') {
            return Err(Mistake::new(
                field,
                format!("`{text}` has a `*` that is not at its end"),
                "a prefix ends in one `*`; for more use re: and an expression",
            ));
        }
        // One address and one path, in whatever spelling they come.
        if let Ok(address) = text.parse() {
            return Ok(Self::Range(address));
        }
        match Glob::parse(field, text) {
            Ok(path) if text.starts_with('/') => Ok(Self::Path(path)),
            _ => Ok(Self::Exact(text.into())),
        }
    }

    /// Whether `value` meets the condition; as a path it is normalised first. For conditions that choose between rules:
    /// what only one of several readings meets is not met.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Path(glob) => glob.matches(&path::normalise(value), Case::Sensitive),
            _ => self.meets(value, Case::Sensitive),
        }
    }

    /// Whether `value` in this form meets the condition. For conditions that add rules: what one of several readings of
    /// a path meets is met, and so is what has too many of them.
    #[must_use]
    pub fn holds(&self, value: &str, form: Form) -> bool {
        match (self, form) {
            (Self::Path(glob), Form::AsSent) => match path::readings(value) {
                Ok(readings) => readings.iter().any(|reading| glob.matches(reading, Case::Sensitive)),
                Err(path::Ambiguous) => true,
            },
            (_, Form::AsSent) => self.meets(value, Case::Sensitive),
            (_, Form::Reading(case)) => self.meets(value, case),
        }
    }

    /// As it stands.
    fn meets(&self, value: &str, case: Case) -> bool {
        match self {
            Self::Exact(exact) => case.equal(exact, value),
            Self::Prefix(prefix) => case.begins(value, prefix),
            Self::Path(glob) => glob.matches(value, case),
            Self::Range(cidr) => parse_ip(value).is_some_and(|ip| cidr.contains(ip)),
            Self::Expression(regex) => regex.is_match(value),
        }
    }
}

/// The expression anchored at both ends. It must be one by itself: `a)|(?:b` would close our group and match a
/// part of the value.
fn whole_value(expression: &str) -> Result<Regex, regex::Error> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).build();
    build(expression)?;
    build(&format!("^(?:{expression})$"))
}

fn bad_expression(field: &str, expression: &str, error: &regex::Error) -> Mistake {
    let why = match error {
        regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
        other => other.to_string().lines().last().unwrap_or("it does not parse").trim().to_owned(),
    };
    Mistake::new(
        field,
        format!("`re:{expression}` is not an expression: {why}"),
        "the syntax is that of Rust's regex crate, without look-around and back-references",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Matcher::parse("match", pattern).unwrap().matches(value)
    }

    #[test]
    fn each_form_matches_what_it_says() {
        assert!(matches("gold", "gold") && !matches("gold", "golden"));
        assert!(matches("203.0.113.7", "::ffff:203.0.113.7") && !matches("203.0.113.7", "203.0.113.70"));
        assert!(matches("/login", "//login/") && !matches("/login", "/login/x"));
        assert!(matches("ab*", "abc") && matches("ab*", "ab") && !matches("ab*", "xab"));
        assert!(matches("/v1/**", "/v1/a/../b") && !matches("/v1/**", "/v1/../v2"));
        assert!(matches("10.0.0.0/8", "10.1.2.3") && matches("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(matches("re:[a-z]+", "abc") && !matches("re:[a-z]+", "abc1"), "the whole value");
        assert!(matches("re:a|b", "b") && !matches("re:a|b", "ab"));
    }

    #[test]
    fn a_path_is_compared_in_each_of_its_readings_or_as_the_one_it_is() {
        let ai = Matcher::parse("match.path", "/ai/**").unwrap();
        for sent in ["/ai/x", "/ai/..%2Fopen", "/open/../ai", "/ai/..;/open", "/ai\\..\\open"] {
            assert!(ai.holds(sent, Form::AsSent), "{sent}");
        }
        assert!(!ai.holds("/open", Form::AsSent) && !ai.matches("/ai/..%2Fopen"));
        let reading = Form::Reading(Case::Sensitive);
        assert!(ai.holds("/ai/..%2Fopen", reading), "it is not decoded a second time");
        assert!(!ai.holds("/open%2F..%2Fai", reading) && !ai.holds("/AI/x", reading));
        let folded = Form::Reading(Case::Insensitive);
        for (pattern, value) in [("/Ai/**", "/ai/x"), ("/Ai", "/ai"), ("AB*", "abc"), ("Ab", "aB")] {
            let matcher = Matcher::parse("match.path", pattern).unwrap();
            assert!(matcher.holds(value, folded) && !matcher.holds(value, reading), "{pattern}");
        }
    }

    #[test]
    fn bad_forms_are_refused_in_words() {
        for bad in
            ["a*b", "re:(", "re:(a)\\1", "re:a)|(?:b", "10.0.0.1/8", "10.0.0.0/40", "re:(?:a{1000}){1000}"]
        {
            let mistake = Matcher::parse("match.x", bad).unwrap_err();
            assert!(mistake.message.contains('`'), "{mistake:?}");
        }
    }

    #[test]
    fn an_expression_cannot_blow_up() {
        let evil = "a".repeat(256) + "!";
        assert!(!matches("re:(a+)+", &evil));
    }
}
