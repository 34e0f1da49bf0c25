//! The first of the two passes: a map of the file as written, key by key, with every mistake and no early end.
//!
//! Promise: a key that is unknown, stands twice or holds the wrong kind of value is reported with its place, and the
//! keys after it are read all the same.

use super::diagnostic::Findings;
use super::duration;
use super::nearest::nearest;
use super::tree::{Entry, Node, Value};
use super::{show, size};
use crate::engine::mistake::Mistake;
use crate::engine::units::Micros;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Where a map stands: in which entry of a list, and below which key of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'t> {
    /// `policies[1] (ai-per-user)`, or empty.
    pub(super) subject: &'t str,
    /// `ip_prefix.`, or empty.
    pub(super) prefix: &'static str,
}

impl Scope<'_> {
    /// The file itself.
    pub(super) const ROOT: Self = Self { subject: "", prefix: "" };
}

/// A map whose keys are known.
pub(super) struct Fields<'t> {
    entries: &'t [Entry],
    scope: Scope<'t>,
    span: Range<usize>,
}

/// A value of the wrong kind: what is wrong, and a hint.
type Wrong = (String, String);

impl<'t> Fields<'t> {
    /// Reads a map, reporting unknown and repeated keys.
    pub(super) fn read(
        node: &'t Node,
        scope: Scope<'t>,
        known: &[&'static str],
        out: &mut Findings<'_>,
    ) -> Option<Self> {
        let span = node.span.clone();
        let Value::Map(entries) = &node.value else {
            let hint = format!("write keys and values: {}: …", known.first().unwrap_or(&"key"));
            let field = scope.prefix.trim_end_matches('.');
            let message = format!("expected a map, found {}", kind(node));
            out.wrong(scope.subject, &span, Mistake::new(field, message, hint));
            return None;
        };
        let fields = Self { entries, scope, span };
        fields.check_repeated(out);
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.text.as_str())) {
            let hint = match nearest(&entry.key.text, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            let message = format!("unknown key {}", show(&entry.key.text));
            fields.wrong_at(&entry.key.text, &entry.key.span, (message, hint), out);
        }
        Some(fields)
    }

    /// The entry of a list that the map is in, or empty.
    pub(super) fn subject(&self) -> &'t str {
        self.scope.subject
    }

    fn check_repeated(&self, out: &mut Findings<'_>) {
        let mut first: HashMap<&str, &Range<usize>> = HashMap::new();
        for Entry { key, .. } in self.entries {
            if let Some(earlier) = first.get(key.text.as_str()) {
                let line = out.document().position(earlier.start).line;
                let message = format!("duplicate key {}", show(&key.text));
                let hint = format!("it stands in line {line} already; keep one of the two");
                self.wrong_at(&key.text, &key.span, (message, hint), out);
            } else {
                first.insert(&key.text, &key.span);
            }
        }
    }

    /// The value of a key; nothing when it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<&'t Node> {
        self.entry(key).map(|entry| &*entry.value).filter(|node| !node.is_null())
    }

    /// The entry of a key, null or not.
    pub(super) fn entry(&self, key: &str) -> Option<&'t Entry> {
        self.entries.iter().find(|entry| entry.key.text == key)
    }

    /// Reports a mistake in a key.
    pub(super) fn wrong(&self, key: &str, node: &Node, wrong: Wrong, out: &mut Findings<'_>) {
        self.wrong_at(key, &node.span, wrong, out);
    }

    fn wrong_at(&self, key: &str, span: &Range<usize>, wrong: Wrong, out: &mut Findings<'_>) {
        let field = format!("{}{key}", self.scope.prefix);
        out.wrong(self.scope.subject, span, Mistake::new(field, wrong.0, wrong.1));
    }

    /// Reports that a key is missing.
    pub(super) fn missing(&self, key: &str, hint: &str, out: &mut Findings<'_>) {
        let mut span = self.span.clone();
        if let Some(entry) = self.entry(key) {
            span = entry.key.span.clone();
        }
        self.wrong_at(key, &span, (format!("{key} is missing"), hint.to_owned()), out);
    }

    /// The value of a key. In an entry of a list a key with nothing behind it is a mistake: `paths:` would be every path,
    /// and `token:` none. A section of the file may be empty.
    pub(super) fn written(&self, key: &str, out: &mut Findings<'_>) -> Option<&'t Node> {
        let entry = self.entry(key)?;
        if entry.value.is_null() && !self.scope.subject.is_empty() {
            let hint = format!("write its value, or remove {key}: without it the default holds");
            self.wrong_at(key, &entry.key.span, (format!("{key} has no value"), hint), out);
        }
        self.get(key)
    }

    fn value<T>(
        &self,
        key: &str,
        out: &mut Findings<'_>,
        read: impl FnOnce(&'t Node) -> Result<T, Wrong>,
    ) -> Option<T> {
        let node = self.written(key, out)?;
        read(node).map_err(|wrong| self.wrong(key, node, wrong, out)).ok()
    }

    /// A text.
    pub(super) fn text(&self, key: &str, out: &mut Findings<'_>) -> Option<String> {
        self.value(key, out, |node| text(node).map(str::to_owned))
    }

    /// A text that must be there.
    pub(super) fn required(&self, key: &str, hint: &str, out: &mut Findings<'_>) -> Option<String> {
        if self.get(key).is_none() {
            self.missing(key, hint, out);
            return None;
        }
        self.text(key, out)
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str, out: &mut Findings<'_>) -> Option<u64> {
        self.value(key, out, |node| number(text(node)?))
    }

    /// True or false.
    pub(super) fn switch(&self, key: &str, out: &mut Findings<'_>) -> Option<bool> {
        self.choice(key, &[("true", true), ("false", false)], out)
    }

    /// A duration.
    pub(super) fn duration(&self, key: &str, out: &mut Findings<'_>) -> Option<Micros> {
        self.value(key, out, |node| duration::parse(text(node)?))
    }

    /// A size in bytes.
    pub(super) fn size(&self, key: &str, out: &mut Findings<'_>) -> Option<u64> {
        self.value(key, out, |node| size::parse(text(node)?))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&'static str, T)],
        out: &mut Findings<'_>,
    ) -> Option<T> {
        self.value(key, out, |node| choice(text(node)?, words))
    }

    /// The items of a list, with their places.
    pub(super) fn list(&self, key: &str, out: &mut Findings<'_>) -> Option<&'t [Arc<Node>]> {
        self.value(key, out, |node| match &node.value {
            Value::List(items) => Ok(items.as_slice()),
            Value::Scalar { text, .. } => {
                Err((format!("expected a list, found {}", kind(node)), format!("write [{}]", clip(text))))
            }
            Value::Map(_) => Err(("expected a list, found a map".to_owned(), "write [one, two]".to_owned())),
        })
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str, out: &mut Findings<'_>) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for item in self.list(key, out)? {
            match text(item) {
                Ok(text) => texts.push(text.to_owned()),
                Err(wrong) => self.wrong(key, item, wrong, out),
            }
        }
        Some(texts)
    }

    /// A map of texts whose keys are the operator's own, `null` kept as none.
    pub(super) fn pairs(
        &self,
        key: &'static str,
        out: &mut Findings<'_>,
    ) -> Option<Vec<(&'t Entry, Option<String>)>> {
        let entries = self.value(key, out, |node| match &node.value {
            Value::Map(entries) => Ok(entries),
            _ => Err((format!("expected a map, found {}", kind(node)), "write {name: value}".to_owned())),
        })?;
        let inner = Fields { entries, scope: self.scope, span: self.span.clone() };
        inner.check_repeated(out);
        let mut pairs = Vec::new();
        for entry in entries {
            match text(&entry.value) {
                Ok(text) => pairs.push((entry, Some(text.to_owned()))),
                Err(_) if entry.value.is_null() => pairs.push((entry, None)),
                Err(wrong) => self.wrong(&format!("{key}.{}", entry.key.text), &entry.value, wrong, out),
            }
        }
        Some(pairs)
    }
}

/// The text of a scalar; a number or `true` is a text when a text is asked for.
pub(super) fn text(node: &Node) -> Result<&str, Wrong> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Ok(text),
        _ => Err((
            format!("expected a text, found {}", kind(node)),
            "write one value, quoted if need be".into(),
        )),
    }
}

/// A whole number from its text.
pub(super) fn number(text: &str) -> Result<u64, Wrong> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u64>() {
        // 010 is eight to some readers of YAML and ten to others.
        Ok(_) if digits && text.len() > 1 && text.starts_with('0') => {
            let plain = text.trim_start_matches('0');
            Err((format!("{} begins with a zero", show(text)), format!("write {plain}, decimal")))
        }
        Ok(number) if digits => Ok(number),
        _ if digits => Err((format!("{} is too large", show(text)), "write a smaller number".to_owned())),
        _ => {
            let why = if text.starts_with('-') { "is negative" } else { "is not a whole number" };
            Err((format!("{} {why}", show(text)), "write a whole number, such as 100".to_owned()))
        }
    }
}

/// One of a few words from its text.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let hint = match nearest(text, &known) {
        Some(meant) => format!("did you mean {meant}? It is one of {}", known.join(", ")),
        None => format!("write one of {}", known.join(", ")),
    };
    Err((format!("{} is not known", show(text)), hint))
}

/// A node in words.
fn kind(node: &Node) -> String {
    match &node.value {
        _ if node.is_null() => "nothing".to_owned(),
        Value::Scalar { text, .. } => show(text),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
    }
}

fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}
