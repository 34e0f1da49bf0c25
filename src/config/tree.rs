//! The file as a tree of texts, lists and maps, each with the bytes it was written in.
//!
//! Promise: one pass over the parser's events, whatever the bytes. Depth, nodes and merged entries are bounded, so
//! anchors cannot blow a small file up: an alias shares its node, and its size counts each time it is named.
//!
//! Must never: know a key of the configuration, or read numbers and booleans; what a text means is the reader's to say.
//! A derived `Deserialize` is not used on purpose: it ends at its first mistake, and an operator wants all of them.

use super::syntax;
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Deepest nesting, aliases included; the configuration itself is five deep. It also bounds how deep a drop recurses.
const MAX_DEPTH: usize = 32;
/// Most nodes with aliases written out; a file of a mebibyte cannot hold more without them.
const MAX_NODES: usize = 600_000;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) value: Value,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    /// Itself and all below, aliases written out.
    size: usize,
    depth: usize,
}

/// The three shapes of YAML.
#[derive(Debug)]
pub(super) enum Value {
    /// A text; `plain` when it stands without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Arc<Node>>),
    /// A map in the order written, repeated keys included.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: Key,
    /// Its value.
    pub(super) value: Arc<Node>,
}

/// The key of an entry.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// As read.
    pub(super) text: String,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
}

/// Why a text is no tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: String,
}

impl Node {
    /// Whether it is `null`, `~` or nothing at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key, the first one when it stands twice.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key.text == key),
            _ => None,
        }
    }
}

/// A text as far as it is a tree.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The tree; none when the text holds nothing but comments. Of a broken text, what was whole before.
    pub(super) root: Option<Arc<Node>>,
    /// Why it ends before the text does.
    pub(super) broken: Option<Broken>,
    /// From here on a broken text's tree may lack what was meant.
    pub(super) doubtful_from: usize,
}

/// Parses a text. It ends at the first syntax error, or at what else keeps the text from being one bounded tree.
pub(super) fn parse(text: &str) -> Parsed {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => builder.take(event, bytes(span)),
            Err(error) => Err(syntax::explain(&error, text)),
        };
        if let Err(broken) = step {
            return builder.salvage(broken);
        }
    }
    Parsed { root: builder.root, broken: None, doubtful_from: text.len() }
}

/// Where an event stands.
pub(super) fn bytes(span: Span) -> Range<usize> {
    let start = span.start.byte_offset().unwrap_or_default();
    start..span.end.byte_offset().unwrap_or(start).max(start)
}

/// Why a text is no tree, and where.
pub(super) fn broken(span: Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Broken {
    Broken { span, message: message.into(), hint: hint.into() }
}

/// Collections that are not closed yet, and what aliases may name.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    merged: usize,
    /// Where the last entry of a section of the file begins.
    last_item: usize,
}

struct Open {
    start: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Map { entries: Vec<Entry>, key: Option<Key>, merged: Vec<Entry> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Broken> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let hint = "a configuration is one document; remove the `---`";
                Err(broken(span, "a second document begins here", hint))
            }
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref(), &span)?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = Value::Scalar { text: text.into_owned(), plain };
                self.place(Arc::new(Node { value, span, size: 1, depth: 1 }), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), &span)?;
                self.open.push(Open { start: span.start, anchor, content: Content::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), &span)?;
                let content = Content::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                self.open.push(Open { start: span.start, anchor, content });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).map(Arc::clone) else {
                    return Err(broken(span, "this alias names what it is part of", "write the value out"));
                };
                self.place(node, 0)
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("no anchor `&{}` stands before this alias", name.escape_debug());
                let hint = format!(
                    "put &{0} before the value to repeat, or quote the text: \"*{0}\"",
                    name.escape_debug()
                );
                Err(broken(span, message, hint))
            }
            _ => Ok(()),
        }
    }

    /// What is whole in a text that breaks off: the file, its sections, and in them the entries before the last one. A
    /// slip of indentation ends an entry early, so the last one is doubtful even if it is closed.
    fn salvage(mut self, broken: Broken) -> Parsed {
        let doubtful_from = self.open.get(2).map_or(self.last_item, |open| open.start);
        self.open.truncate(2);
        while !self.open.is_empty() {
            // What does not close is too large; the mistake that is reported says why already.
            if self.close(broken.span.clone()).is_err() {
                self.open.clear();
            }
        }
        Parsed { root: self.root, broken: Some(broken), doubtful_from }
    }

    /// Puts a finished node into the collection that is open.
    fn place(&mut self, node: Arc<Node>, anchor: usize) -> Result<(), Broken> {
        if self.open.len() == 2 {
            self.last_item = node.span.start;
        }
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key, .. }) => match key.take() {
                Some(key) if key.text == "<<" => return self.merge(&node, &key),
                Some(key) => entries.push(Entry { key, value: node }),
                None => {
                    let Value::Scalar { text, .. } = &node.value else {
                        return Err(broken(
                            node.span.clone(),
                            "a key must be a text",
                            "a list or a map is no key; was a quote or a colon forgotten?",
                        ));
                    };
                    *key = Some(Key { text: text.clone(), span: node.span.clone() });
                }
            },
        }
        Ok(())
    }

    /// `<<: *defaults`: the entries of another map, or of several, unless this one has its own.
    fn merge(&mut self, node: &Arc<Node>, key: &Key) -> Result<(), Broken> {
        let sources: Vec<&Arc<Node>> = match &node.value {
            Value::List(nodes) => nodes.iter().collect(),
            _ => vec![node],
        };
        for source in sources {
            let Value::Map(theirs) = &source.value else {
                let hint = "write <<: *anchor, where &anchor stands before a map";
                return Err(broken(key.span.clone(), "only a map can be merged", hint));
            };
            self.merged = self.merged.saturating_add(theirs.len());
            if self.merged > MAX_NODES {
                return Err(broken(key.span.clone(), "too much is merged", "write fewer <<"));
            }
            if let Some(Open { content: Content::Map { merged, .. }, .. }) = self.open.last_mut() {
                merged.extend(theirs.iter().cloned());
            }
        }
        Ok(())
    }

    fn close(&mut self, span: Range<usize>) -> Result<(), Broken> {
        let Some(Open { start, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, merged, .. } => {
                let mut own: HashSet<String> = HashSet::new();
                if !merged.is_empty() {
                    own.extend(entries.iter().map(|entry| entry.key.text.clone()));
                }
                entries.extend(merged.into_iter().filter(|entry| own.insert(entry.key.text.clone())));
                Value::Map(entries)
            }
        };
        let (size, depth) = measure(&value);
        let span = start..span.end.max(start);
        if size > MAX_NODES || depth > MAX_DEPTH {
            let what = if depth > MAX_DEPTH { "nests too deep" } else { "is too large" };
            let message = format!("the value {what} once its aliases are written out");
            return Err(broken(span, message, "use fewer aliases"));
        }
        self.place(Arc::new(Node { value, span, size, depth }), anchor)
    }
}

/// Nodes and depth of a collection.
fn measure(value: &Value) -> (usize, usize) {
    let add = |(size, depth): (usize, usize), node: &Arc<Node>| {
        (node.size.saturating_add(size), depth.max(node.depth.saturating_add(1)))
    };
    match value {
        Value::Scalar { .. } => (1, 1),
        Value::List(nodes) => nodes.iter().fold((1, 1), add),
        Value::Map(entries) => entries.iter().map(|entry| &entry.value).fold((1, 1), add),
    }
}

/// `!!str` is a way of quoting; any other tag would be silently without effect.
fn check_tag(tag: Option<&Tag>, span: &Range<usize>) -> Result<(), Broken> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag("str") => {
            let message = format!("the tag `{}` has no meaning here", tag.original().escape_debug());
            Err(broken(span.clone(), message, "remove the tag, or quote the text if it begins with `!`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Arc<Node> {
        let parsed = parse(text);
        assert_eq!(parsed.broken, None);
        parsed.root.unwrap()
    }

    fn broken(text: &str) -> String {
        parse(text).broken.unwrap().message
    }

    fn text_of(node: &Node) -> &str {
        match &node.value {
            Value::Scalar { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_value_knows_its_bytes() {
        let text = "a: 1\nb: [x, 'yö', z]\n";
        let root = root(text);
        let Value::List(items) = &root.get("b").unwrap().value.value else { panic!() };
        let found: Vec<&str> = items.iter().map(|item| &text[item.span.clone()]).collect();
        assert_eq!(found, ["x", "'yö'", "z"]);
        assert_eq!(&text[root.get("b").unwrap().value.span.clone()], "[x, 'yö', z]");
        assert_eq!(&text[root.get("a").unwrap().key.span.clone()], "a");
    }

    #[test]
    fn merged_maps_give_what_is_not_there_already() {
        let root = root("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\n");
        let own = &root.get("own").unwrap().value;
        assert_eq!(text_of(&own.get("x").unwrap().value), "1");
        assert_eq!(text_of(&own.get("y").unwrap().value), "3");
        let Value::Map(entries) = &own.value else { panic!() };
        assert_eq!(entries.len(), 2);
    }

    #[test]
    fn anchors_cannot_blow_a_small_file_up() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..20 {
            let names = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{names}]\n"));
        }
        assert!(broken(&bomb).contains("too large"));
        let mut tower = "a0: &a0 [x]\n".to_owned();
        for i in 1..5_000 {
            tower.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
        }
        assert!(broken(&tower).contains("too deep"));
        assert!(broken(&"[".repeat(100_000)).contains("deep"));
        assert!(broken("a: &a [*a]").contains("part of"));
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(parse("").root.is_none());
        assert!(parse("# only a comment\n").root.is_none());
        assert!(root("---\n").is_null());
        assert!(root("a:\n").get("a").unwrap().value.is_null());
        assert!(!root("a: ''\n").get("a").unwrap().value.is_null());
    }

    #[test]
    fn what_stood_before_a_syntax_error_is_still_there() {
        let text = "a: [1, 2]\nb:\n- {x: 1}\n- {x: 2}\n- {x: [\n";
        let parsed = parse(text);
        assert!(parsed.broken.is_some());
        assert_eq!(parsed.doubtful_from, text.find("{x: 2").unwrap(), "the last whole one is doubtful");
        let root = parsed.root.unwrap();
        let Value::List(items) = &root.get("b").unwrap().value.value else { panic!() };
        assert_eq!(items.len(), 2);
        let early = parse("b:\n- x: 1\n  y: 2\n- x: 2\n y: 2\n");
        assert_eq!(early.doubtful_from, "b:\n- x: 1\n  y: 2\n- ".len(), "closed early, and so doubtful");
    }

    #[test]
    fn tags_and_second_documents_are_refused() {
        assert!(broken("a: !include x").contains("!include"));
        assert_eq!(text_of(&root("a: !!str 5").get("a").unwrap().value), "5");
        assert!(broken("a: 1\n---\nb: 1\n").contains("second document"));
    }
}
