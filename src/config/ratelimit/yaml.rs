//! A file as a tree by the rules of YAML 1.1 as the original's reader has them.
//!
//! Promise: only the first document counts; the last of two equal keys wins; what `<<` merges stands where it stands.
//! Depth and nodes are bounded, aliases written out, so anchors cannot blow a small file up.
//!
//! The tree of our own configuration is stricter on purpose: it refuses what these files may hold.

use super::super::syntax;
use super::super::tree::{Broken, broken, bytes};
use super::scalar::{self, Kind, Scalar};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Tag};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Deepest nesting; a descriptor in a descriptor is two deeper. It also bounds how deep readers recurse.
const MAX_DEPTH: usize = 512;
/// Most nodes of a file with aliases written out.
const MAX_NODES: usize = 2_000_000;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) value: Value,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    size: usize,
    depth: usize,
}

/// The three shapes of YAML.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Arc<Node>>),
    /// Each key once.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The key, always a scalar.
    pub(super) key: Scalar,
    /// Bytes of the key.
    pub(super) span: Range<usize>,
    /// Its value.
    pub(super) value: Arc<Node>,
}

impl Node {
    /// Whether it is nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: Kind::Null, .. }))
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.kind == Kind::Text && entry.key.text == key)
    }

    /// The entries of a map, none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// As messages of the original name what it is.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(scalar) => scalar.kind.name(),
            Value::List(_) => "!!seq",
            Value::Map(_) => "!!map",
        }
    }
}

/// Parses the first document of a text; none when there is none.
///
/// # Errors
/// It is no YAML, or not bounded.
pub(super) fn parse(text: &str) -> Result<Option<Arc<Node>>, Broken> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.strict_indentation = false;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax::explain(&error, text))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.take(event, bytes(span))?;
    }
    Ok(builder.root)
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    /// Entries that merging has copied.
    merged: usize,
}

struct Open {
    start: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Map(Map),
}

#[derive(Default)]
struct Map {
    entries: Vec<Entry>,
    /// Where a key stands among the entries; a text and a number are two keys.
    places: HashMap<(&'static str, String), usize>,
    key: Option<Key>,
}

struct Key {
    scalar: Scalar,
    span: Range<usize>,
    merges: bool,
}

impl Map {
    /// The last of two equal keys wins.
    fn put(&mut self, entry: Entry) {
        let name = (entry.key.kind.name(), entry.key.text.clone());
        let place = *self.places.entry(name).or_insert(self.entries.len());
        match self.entries.get_mut(place) {
            Some(before) => *before = entry,
            None => self.entries.push(entry),
        }
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Broken> {
        match event {
            Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                let hint = "remove the %YAML line; these files are read as YAML 1.1";
                Err(broken(span, "found incompatible YAML document", hint))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                self.scalar(text.into_owned(), is_plain, tag.as_deref(), (span, anchor))
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open.push(Open { start: span.start, anchor, content: Content::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Map(Map::default());
                self.open.push(Open { start: span.start, anchor, content });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).map(Arc::clone) else {
                    return Err(broken(span, "this alias names what it is part of", "write the value out"));
                };
                self.place(node, 0, false)
            }
            Event::UnresolvedAlias(name) => {
                let message = format!("unknown anchor '{}' referenced", name.escape_debug());
                let hint = "put the anchor before the value to repeat, or quote a text that begins with `*`";
                Err(broken(span, message, hint))
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: String,
        is_plain: bool,
        tag: Option<&Tag>,
        (span, anchor): (Range<usize>, usize),
    ) -> Result<(), Broken> {
        let merges = is_plain && text == "<<" && tag.is_none_or(|tag| tag.is_yaml_core_schema_tag("merge"));
        let scalar = scalar::read(text, is_plain, tag).map_err(|message| {
            broken(
                span.clone(),
                message,
                "remove the tag, or write what it says; !!str makes a text of anything",
            )
        })?;
        self.place(Arc::new(Node { value: Value::Scalar(scalar), span, size: 1, depth: 1 }), anchor, merges)
    }

    /// Puts a finished node into the collection that is open.
    fn place(&mut self, node: Arc<Node>, anchor: usize, merges: bool) -> Result<(), Broken> {
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(map)) => match map.key.take() {
                Some(key) if key.merges => return self.merge(&node, &key.span),
                Some(key) => map.put(Entry { key: key.scalar, span: key.span, value: node }),
                None => {
                    let Value::Scalar(scalar) = &node.value else {
                        let hint = "a list or a map is no key; was a quote or a colon forgotten?";
                        return Err(broken(node.span.clone(), "invalid map key", hint));
                    };
                    map.key = Some(Key { scalar: scalar.clone(), span: node.span.clone(), merges });
                }
            },
        }
        Ok(())
    }

    /// `<<: *defaults`, or several of them, of which the first wins.
    fn merge(&mut self, node: &Arc<Node>, span: &Range<usize>) -> Result<(), Broken> {
        let sources: Vec<&Arc<Node>> = match &node.value {
            Value::List(nodes) => nodes.iter().rev().collect(),
            _ => vec![node],
        };
        for source in sources {
            let Value::Map(theirs) = &source.value else {
                let message = "map merge requires map or sequence of maps as the value";
                return Err(broken(
                    span.clone(),
                    message,
                    "write <<: *anchor, where &anchor stands before a map",
                ));
            };
            self.merged = self.merged.saturating_add(theirs.len());
            if self.merged > MAX_NODES {
                return Err(broken(span.clone(), "document contains excessive aliasing", "write fewer <<"));
            }
            if let Some(Open { content: Content::Map(map), .. }) = self.open.last_mut() {
                theirs.iter().for_each(|entry| map.put(entry.clone()));
            }
        }
        Ok(())
    }

    fn close(&mut self, span: Range<usize>) -> Result<(), Broken> {
        let Some(Open { start, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map(map) => Value::Map(map.entries),
        };
        let (size, depth) = measure(&value);
        let span = start..span.end.max(start);
        if size > MAX_NODES {
            let hint = "use fewer aliases";
            return Err(broken(span, "document contains excessive aliasing", hint));
        }
        if depth > MAX_DEPTH {
            return Err(broken(
                span,
                "the value nests too deep once its aliases are written out",
                "use fewer",
            ));
        }
        self.place(Arc::new(Node { value, span, size, depth }), anchor, false)
    }
}

/// Nodes and depth of a collection.
fn measure(value: &Value) -> (usize, usize) {
    let add = |(size, depth): (usize, usize), node: &Arc<Node>| {
        (node.size.saturating_add(size), depth.max(node.depth.saturating_add(1)))
    };
    match value {
        Value::Scalar(_) => (1, 1),
        Value::List(nodes) => nodes.iter().fold((1, 1), add),
        Value::Map(entries) => entries.iter().map(|entry| &entry.value).fold((1, 1), add),
    }
}
