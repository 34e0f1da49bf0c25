//! The tree of each domain, how it is built, and how a descriptor finds its limit in it.
//!
//! Promise: at each level an entry of a descriptor, `key` and `value`, chooses what envoyproxy/ratelimit chooses:
//! 1. the entry that is written so, key and value, letter for letter; a `*` is a letter here like any other;
//! 2. else the first pattern in the order of the files that the whole text `key_value` fits. A pattern is the joined text
//!    of an entry with a `*` in its key or its value, so its stars reach over the `_` between the two, and a pattern
//!    without a value must end where the value ends;
//! 3. else the entry of the key alone, which is written without a value, again letter for letter.
//!
//! Finding allocates the list of what is counted and, where patterns stand, one text for all levels.
//!
//! Must never: go back when a chosen entry leads nowhere; give a limit to a descriptor that is shorter or longer than
//! the path; take two entries that the original could not tell apart; let a `_` in a request's text stand for the one
//! between key and value where no pattern says so, for then a caller's value would name another rule.

use super::pattern::{fits, is_pattern};
use super::{Found, Limit};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// All domains of one directory.
#[derive(Clone, Debug, Default)]
pub struct RateLimitSet {
    domains: HashMap<Arc<str>, Node>,
}

/// A level of a tree: what may follow one entry, and that entry's own limit.
#[derive(Clone, Debug, Default)]
struct Node {
    limit: Option<Limit>,
    /// In the order of the files.
    children: Vec<Child>,
    /// Where each entry stands among the children, as it is written.
    written: HashMap<Arc<str>, Values>,
    /// Where the patterns stand among the children.
    patterns: Vec<usize>,
    /// Every entry here as the original names it, key and value joined.
    names: HashSet<String>,
}

/// The entries of one key, by where they stand among the children.
#[derive(Clone, Debug, Default)]
struct Values {
    exact: HashMap<Arc<str>, usize>,
    any: Option<usize>,
}

/// An entry with what follows it.
#[derive(Clone, Debug)]
struct Child {
    /// Key and value joined, for a pattern to be compared with.
    joined: String,
    /// What stands for the value where it is counted, when all values share one counter.
    counted_as: Option<Arc<str>>,
    node: Node,
}

/// One entry of a path, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The key, or a pattern of keys.
    pub key: Arc<str>,
    /// The value, or a pattern of values; none: every value.
    pub value: Option<Arc<str>>,
    /// All values that fit the pattern share one counter.
    pub shared: bool,
}

impl Spot {
    /// Key and value as the original joins them; messages name an entry like this.
    #[must_use]
    pub fn joined(&self) -> String {
        match &self.value {
            Some(value) => format!("{}_{value}", self.key),
            None => self.key.to_string(),
        }
    }

    /// Whether a pattern is in it.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        is_pattern(&self.key) || self.value.as_deref().is_some_and(is_pattern)
    }
}

/// Where an entry is in the tree: the domain, and the entries before it.
pub type Path<'a> = &'a [Spot];

/// Two entries of one level are the same when key and value are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The path with the domain before it, as the original writes it.
    pub name: String,
}

/// Builds a [`RateLimitSet`] entry by entry, in the order of the files.
#[derive(Debug, Default)]
pub struct Builder {
    set: RateLimitSet,
}

impl Builder {
    /// Makes a domain known, with or without entries.
    pub fn domain(&mut self, domain: &str) {
        if !self.set.domains.contains_key(domain) {
            self.set.domains.insert(domain.into(), Node::default());
        }
    }

    /// Whether a domain is known already.
    #[must_use]
    pub fn has(&self, domain: &str) -> bool {
        self.set.has(domain)
    }

    /// Adds an entry below the path of those before it, which must have been added.
    ///
    /// # Errors
    /// The level has an entry that is the same when key and value are joined.
    pub fn add(
        &mut self,
        domain: &str,
        before: Path<'_>,
        spot: &Spot,
        limit: Option<Limit>,
    ) -> Result<(), Duplicate> {
        self.domain(domain);
        let mut node = self.set.domains.get_mut(domain);
        for spot in before {
            node = node.and_then(|node| node.child(spot));
        }
        let Some(node) = node else { return Ok(()) };
        let joined = spot.joined();
        if node.names.contains(&joined) {
            let before = before.iter().map(|spot| spot.joined() + ".").collect::<String>();
            return Err(Duplicate { name: format!("{domain}.{before}{joined}") });
        }
        node.names.insert(joined);
        node.put(spot, Node { limit, ..Node::default() });
        Ok(())
    }

    /// The finished set.
    #[must_use]
    pub fn build(mut self) -> RateLimitSet {
        self.set.domains.values_mut().for_each(Node::finish);
        self.set
    }
}

impl Node {
    fn child(&mut self, spot: &Spot) -> Option<&mut Self> {
        let values = self.written.get(&spot.key)?;
        let place = match &spot.value {
            Some(value) => values.exact.get(value).copied(),
            None => values.any,
        };
        self.children.get_mut(place?).map(|child| &mut child.node)
    }

    fn put(&mut self, spot: &Spot, node: Self) {
        let place = self.children.len();
        if spot.is_pattern() {
            self.patterns.push(place);
        }
        let counted_as = spot.shared.then(|| spot.value.clone().unwrap_or_default());
        self.children.push(Child { joined: spot.joined(), counted_as, node });
        let values = self.written.entry(Arc::clone(&spot.key)).or_default();
        match &spot.value {
            Some(value) => drop(values.exact.insert(Arc::clone(value), place)),
            None => values.any = Some(place),
        }
    }

    /// Gives back what only building needs.
    fn finish(&mut self) {
        self.names = HashSet::new();
        self.children.iter_mut().for_each(|child| child.node.finish());
    }

    /// The depth is that of a file, which is bounded.
    fn has_quotas(&self) -> bool {
        let own = self.limit.as_ref().is_some_and(|limit| limit.quota_mode);
        own || self.children.iter().any(|child| child.node.has_quotas())
    }

    /// The entry that one key and value of a descriptor choose, and the value as it is counted; `text` is room to join
    /// them in. The key alone shares nothing among its values, also where it is the text of a pattern that shares.
    fn choose<'a>(&'a self, key: &str, value: &'a str, text: &mut String) -> Option<(&'a Self, &'a str)> {
        let values = self.written.get(key);
        let exact = values.and_then(|values| values.exact.get(value)).copied();
        if let Some(place) = exact.or_else(|| self.fitting(key, value, text)) {
            let child = self.children.get(place)?;
            return Some((&child.node, child.counted_as.as_deref().unwrap_or(value)));
        }
        let any = values.and_then(|values| values.any)?;
        self.children.get(any).map(|child| (&child.node, value))
    }

    /// The first pattern that key and value fit when they are joined.
    fn fitting(&self, key: &str, value: &str, text: &mut String) -> Option<usize> {
        if self.patterns.is_empty() {
            return None;
        }
        text.clear();
        text.extend([key, "_", value]);
        let fits = |place: &usize| self.children.get(*place).is_some_and(|child| fits(&child.joined, text));
        self.patterns.iter().copied().find(fits)
    }
}

impl RateLimitSet {
    /// Whether a domain is configured.
    #[must_use]
    pub fn has(&self, domain: &str) -> bool {
        self.domains.contains_key(domain)
    }

    /// Whether a limit of a domain refuses only together with others.
    #[must_use]
    pub fn has_quotas(&self, domain: &str) -> bool {
        self.domains.get(domain).is_some_and(Node::has_quotas)
    }

    /// How many domains there are.
    #[must_use]
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// The limit of a descriptor, if there is one.
    #[must_use]
    pub fn find<'a>(&'a self, domain: &str, entries: &[(&'a str, &'a str)]) -> Option<Found<'a>> {
        let mut node = self.domains.get(domain)?;
        let mut counted = Vec::with_capacity(entries.len());
        let mut text = String::new();
        for (key, value) in entries {
            let (next, value) = node.choose(key, value, &mut text)?;
            counted.push((*key, value));
            node = next;
        }
        node.limit.as_ref().map(|limit| Found { limit, counted })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counting, Quota, Unit};
    use super::*;

    fn limit(name: &str) -> Limit {
        Limit {
            name: name.into(),
            replaces: Vec::new(),
            quota: Quota::Of(5, Unit::Hour),
            shadow: false,
            quota_mode: false,
            metadata: None,
            counting: Counting::Everything,
        }
    }

    fn spot(text: &str) -> Spot {
        let (key, value) =
            text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.into())));
        Spot { key: key.into(), value, shared: false }
    }

    /// Paths `a=b/c`, each with a limit of the same name.
    fn set(paths: &[&str]) -> RateLimitSet {
        let mut builder = Builder::default();
        for path in paths {
            let spots: Vec<Spot> = path.split('/').map(spot).collect();
            let (last, before) = spots.split_last().unwrap();
            builder.add("d", before, last, Some(limit(path))).unwrap();
        }
        builder.build()
    }

    fn find<'a>(set: &'a RateLimitSet, entries: &[(&'a str, &'a str)]) -> &'a str {
        set.find("d", entries).map_or("-", |found| &found.limit.name)
    }

    #[test]
    fn exact_goes_before_patterns_and_they_before_the_key() {
        let set = set(&["k", "k=f*", "k=fo*", "k=foo", "x*", "xy"]);
        assert_eq!(find(&set, &[("k", "foo")]), "k=foo");
        assert_eq!(find(&set, &[("k", "foo1")]), "k=f*");
        assert_eq!(find(&set, &[("k", "f*")]), "k=f*");
        assert_eq!(find(&set, &[("k", "g")]), "k");
        assert_eq!(find(&set, &[("k", "")]), "k");
        assert_eq!(find(&set, &[("xy", "1")]), "x*");
        assert_eq!(find(&set, &[("z", "1")]), "-");
        assert!(set.find("other", &[("k", "foo")]).is_none());
    }

    #[test]
    fn nothing_is_tried_after_a_choice_and_the_depth_is_equal() {
        let set = set(&["k=v", "k", "k/c", "l", "l/m=*"]);
        assert_eq!(find(&set, &[("k", "v"), ("c", "")]), "-");
        assert_eq!(find(&set, &[("k", "w"), ("c", "")]), "k/c");
        assert_eq!(find(&set, &[("l", "1"), ("m", "")]), "l/m=*");
        assert_eq!(find(&set, &[("l", "1"), ("m", ""), ("n", "")]), "-");
        assert_eq!(find(&set, &[]), "-");
    }

    #[test]
    fn a_key_and_its_value_are_two_things() {
        let set = set(&["a=b_c", "a_b"]);
        assert_eq!(find(&set, &[("a", "b_c")]), "a=b_c");
        assert_eq!(find(&set, &[("a_b", "c")]), "a_b");
        assert_eq!(find(&set, &[("a_b_c", "")]), "-");
    }

    #[test]
    fn what_joins_to_the_same_is_refused() {
        let mut builder = Builder::default();
        builder.add("d", &[], &spot("a=b_c"), None).unwrap();
        for other in ["a=b_c", "a_b=c", "a_b_c"] {
            let refused = builder.add("d", &[], &spot(other), None).unwrap_err();
            assert_eq!(refused.name, "d.a_b_c");
        }
        builder.add("d", &[spot("a=b_c")], &spot("x"), None).unwrap();
        let refused = builder.add("d", &[spot("a=b_c")], &spot("x"), None).unwrap_err();
        assert_eq!(refused.name, "d.a_b_c.x");
    }

    #[test]
    fn shared_patterns_count_as_themselves() {
        let mut builder = Builder::default();
        let shared = Spot { shared: true, ..spot("k=f*") };
        builder.add("d", &[], &spot("p"), None).unwrap();
        builder.add("d", &[spot("p")], &shared, Some(limit(""))).unwrap();
        builder.add("d", &[spot("p")], &spot("k=g*"), Some(limit(""))).unwrap();
        let set = builder.build();
        assert_eq!(set.find("d", &[("p", "1"), ("k", "foo")]).unwrap().counted, [("p", "1"), ("k", "f*")]);
        assert_eq!(set.find("d", &[("p", "1"), ("k", "goo")]).unwrap().counted, [("p", "1"), ("k", "goo")]);
    }
}
