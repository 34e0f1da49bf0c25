//! Path patterns: exact, `*` for one segment, `**` at the end for any depth.

use super::mistake::Mistake;

/// Whether ASCII letters of a path are compared in their case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// `/Login` is not `/login`.
    #[default]
    Sensitive,
    /// They are one path.
    Insensitive,
}

/// A path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<Segment>,
    any_depth: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Exact(Box<str>),
    Any,
}

impl Glob {
    /// Parses a pattern: `/login`, `/v1/*/items`, `/ai/**`.
    ///
    /// # Errors
    /// A mistake in `field` when it does not begin with `/`, or a `*` stands beside other text, or `**` is not last.
    pub fn parse(field: &str, text: &str) -> Result<Self, Mistake> {
        let wrong = |why: &str| {
            Mistake::new(
                field,
                format!("`{text}` is not a path pattern: {why}"),
                "write /exact, /one/*/segment or /any/depth/**",
            )
        };
        let rest = text.strip_prefix('/').ok_or_else(|| wrong("it does not begin with `/`"))?;
        if text.contains(['?', '#']) {
            return Err(wrong("a query is never part of a path"));
        }
        let (rest, any_depth) = match rest.strip_suffix("**") {
            Some("") => ("", true),
            Some(before) => {
                (before.strip_suffix('/').ok_or_else(|| wrong("`**` must be a whole segment"))?, true)
            }
            None => (rest, false),
        };
        let mut segments = Vec::new();
        for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
            match segment {
                "*" => segments.push(Segment::Any),
                "." | ".." => return Err(wrong("dot segments never match a normalised path")),
                _ if segment.contains('*') => return Err(wrong("`*` must be a whole segment")),
                _ => segments.push(Segment::Exact(segment.into())),
            }
        }
        Ok(Self { segments, any_depth })
    }

    /// Whether a normalised path matches. `/ai/**` matches `/ai` too: the strict side for a rule.
    #[must_use]
    pub fn matches(&self, path: &str, case: Case) -> bool {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        for segment in &self.segments {
            match (segment, parts.next()) {
                (_, None) => return false,
                (Segment::Exact(exact), Some(part)) if !case.equal(exact, part) => return false,
                _ => {}
            }
        }
        self.any_depth || parts.next().is_none()
    }
}

impl Case {
    /// Whether two texts are one.
    #[must_use]
    pub fn equal(self, one: &str, other: &str) -> bool {
        match self {
            Self::Sensitive => one == other,
            Self::Insensitive => one.eq_ignore_ascii_case(other),
        }
    }

    /// Whether a text begins with another.
    #[must_use]
    pub fn begins(self, text: &str, prefix: &str) -> bool {
        text.as_bytes().get(..prefix.len()).is_some_and(|start| match self {
            Self::Sensitive => start == prefix.as_bytes(),
            Self::Insensitive => start.eq_ignore_ascii_case(prefix.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::parse("paths", pattern).unwrap().matches(path, Case::Sensitive)
    }

    #[test]
    fn one_star_is_one_segment_and_two_are_any_depth() {
        assert!(matches("/login", "/login"));
        assert!(!matches("/login", "/login/x"));
        assert!(matches("/v1/*", "/v1/a"));
        assert!(!matches("/v1/*", "/v1/a/b"));
        assert!(!matches("/v1/*", "/v1"));
        assert!(matches("/ai/**", "/ai/a/b"));
        assert!(matches("/ai/**", "/ai"));
        assert!(!matches("/ai/**", "/aix"));
        assert!(matches("/**", "/"));
        assert!(matches("/v1/*/items", "/v1/7/items"));
    }

    #[test]
    fn case_counts_unless_it_does_not() {
        let login = Glob::parse("paths", "/Login/*").unwrap();
        assert!(login.matches("/lOGIN/x", Case::Insensitive) && !login.matches("/login/x", Case::Sensitive));
        let other = Glob::parse("paths", "/\u{c9}cole").unwrap();
        assert!(!other.matches("/\u{e9}cole", Case::Insensitive), "ASCII letters alone");
    }

    #[test]
    fn odd_patterns_are_refused() {
        for bad in ["login", "/a*", "/**/b", "/a**", "/a?b", "/a/../b", ""] {
            assert!(Glob::parse("paths", bad).is_err(), "{bad}");
        }
    }
}
