//! A configuration file as text: its lines, its tree, and what of it must never be shown.
//!
//! Must never: give out a line before the secrets in it are covered.

use super::tree::{Node, Value};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most characters of a line that an excerpt shows.
const MAX_SHOWN: usize = 100;
/// What stands in the place of a secret.
const COVER: &str = "***";

/// One configuration file.
#[derive(Default)]
pub(super) struct Document {
    /// As messages name it.
    pub(super) name: String,
    /// File names in it are relative to this folder.
    pub(super) folder: PathBuf,
    /// The tree; none when the file is empty or no YAML.
    pub(super) root: Option<Arc<Node>>,
    text: String,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    /// Bytes that are never shown, in order.
    secrets: Vec<Range<usize>>,
}

impl std::fmt::Debug for Document {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Document").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A place in a file, counted from 1 as editors do; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A line of the file with the offending part marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line, without secrets and control characters, cut when it is long.
    pub line: String,
    /// What stands before the offending part: spaces, as wide as the text above them.
    pub indent: String,
    /// How many characters are marked; at least 1.
    pub width: usize,
}

impl Document {
    /// A file of this name and text, its tree not yet set.
    pub(super) fn new(name: String, folder: &Path, text: String) -> Self {
        // A mark at the beginning says UTF-8 and nothing else; without it the first column is 1.
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        let mut secrets = Vec::new();
        cover_user_info(&text, &mut secrets);
        secrets.sort_by_key(|range| range.start);
        Self { name, folder: folder.to_owned(), root: None, text, lines, secrets }
    }

    /// The text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Sets the tree, and covers the secrets that only the tree shows.
    pub(super) fn set_root(&mut self, root: Arc<Node>) {
        find_secrets(&root, &self.text, &mut self.secrets);
        self.secrets.sort_by_key(|range| range.start);
        self.root = Some(root);
    }

    /// Line and column of an offset.
    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.line_start(line);
        let before = self.text.get(start..offset).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    /// The line of a span's beginning, marked up to the span's end or the line's.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let line = self.lines.partition_point(|start| *start <= span.start);
        let start = self.line_start(line);
        let end = self.lines.get(line).map_or(self.text.len(), |next| next.saturating_sub(1)).max(start);
        let marked = span.start..span.end.min(end);
        let mut before: Vec<char> = self.covered(start..marked.start);
        let mut inside: Vec<char> = self.covered(marked.clone());
        let mut after: Vec<char> = self.covered(marked.end.max(marked.start)..end);
        while after.last().is_some_and(|c| c.is_whitespace()) {
            after.pop();
        }
        if before.len() > MAX_SHOWN / 2 {
            let cut = before.len().saturating_sub(MAX_SHOWN / 2);
            before.splice(..cut, ['…']);
        }
        shorten(&mut inside, MAX_SHOWN.saturating_sub(before.len()));
        let width = inside.len().max(1);
        shorten(&mut after, MAX_SHOWN.saturating_sub(before.len() + inside.len()));
        let indent = before.iter().map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
        let line = before.into_iter().chain(inside).chain(after).collect();
        Excerpt { line, indent, width }
    }

    /// Where the line begins; lines count from 1.
    fn line_start(&self, line: usize) -> usize {
        line.checked_sub(1).and_then(|before| self.lines.get(before)).copied().unwrap_or_default()
    }

    /// A part of the text with secrets covered and control characters made visible.
    fn covered(&self, range: Range<usize>) -> Vec<char> {
        let mut shown = String::new();
        let mut at = range.start;
        for secret in
            self.secrets.iter().filter(|secret| secret.start < range.end && secret.end > range.start)
        {
            shown.push_str(self.text.get(at..secret.start.max(at)).unwrap_or_default());
            shown.push_str(COVER);
            at = secret.end.clamp(at, range.end);
        }
        shown.push_str(self.text.get(at..range.end).unwrap_or_default());
        let visible = |c: char| if is_hostile(c) && c != '\t' { '\u{fffd}' } else { c };
        shown.chars().filter(|c| *c != '\r').map(visible).collect()
    }
}

/// A character that moves a terminal's cursor or turns its writing round.
pub(super) fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shorten(part: &mut Vec<char>, most: usize) {
    if part.len() > most {
        part.truncate(most);
        part.push('…');
    }
}

/// Whatever stands between `://` and the last `@` of the same word: user and password of a URL, in a comment too. A
/// store's password may hold spaces by mistake, so there it is the last `@` of the line. One pass, whatever the text.
fn cover_user_info(text: &str, secrets: &mut Vec<Range<usize>>) {
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let store = ["redis://", "rediss://", "valkey://", "valkeys://"]
            .iter()
            .filter_map(|scheme| line.find(scheme).map(|at| at + scheme.len()))
            .min();
        if let (Some(start), Some(end)) = (store, line.rfind('@'))
            && start < end
        {
            secrets.push(line_start + start..line_start + end);
        }
        let mut word_start = line_start;
        for word in line.split_inclusive(char::is_whitespace) {
            if let (Some(scheme), Some(end)) = (word.find("://"), word.rfind('@'))
                && scheme + 3 < end
            {
                secrets.push(word_start + scheme + 3..word_start + end);
            }
            word_start += word.len();
        }
        line_start += line.len();
    }
}

/// Values in which a secret may stand, rightly or wrongly: the store's URL, and every text of a token's key but file
/// names and the names of variables. Repeated keys count each.
fn find_secrets(root: &Node, text: &str, secrets: &mut Vec<Range<usize>>) {
    for url in all(root, "store").flat_map(|store| all(store, "url")) {
        let written = text.get(url.span.clone()).unwrap_or_default();
        if let Some(end) = written.rfind('@') {
            // Without a scheme the password may begin with the first byte.
            let start = written.find("://").map_or(0, |at| at + 3).min(end);
            secrets.push(url.span.start + start..url.span.start + end);
        }
    }
    for tokens in all(root, "tokens") {
        let Value::List(tokens) = &tokens.value else { continue };
        for key in tokens.iter().flat_map(|token| all(token, "key")) {
            match &key.value {
                Value::Map(entries) => {
                    let hidden = entries.iter().filter(|entry| !is_harmless(&entry.key.text, &entry.value));
                    secrets.extend(hidden.map(|entry| entry.value.span.clone()));
                }
                _ => secrets.push(key.span.clone()),
            }
        }
    }
}

/// The values of a key, repeated or not.
fn all<'n>(node: &'n Node, key: &str) -> impl Iterator<Item = &'n Node> {
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().filter(move |entry| entry.key.text == key).map(|entry| &*entry.value)
}

fn is_harmless(key: &str, value: &Node) -> bool {
    match (key, &value.value) {
        ("file" | "jwks_file" | "jwks_url" | "generate", _) => true,
        ("env", Value::Scalar { text, .. }) => super::environment::is_name(text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        let mut document = Document::new("f".to_owned(), Path::new(""), text.to_owned());
        if let Some(root) = super::super::tree::parse(text).root {
            document.set_root(root);
        }
        document
    }

    #[test]
    fn positions_count_from_one_in_characters() {
        let document = document("a: 1\né: ü\n");
        assert_eq!(document.position(0), Position { line: 1, column: 1 });
        assert_eq!(document.position(5), Position { line: 2, column: 1 });
        assert_eq!(document.position("a: 1\né: ".len()), Position { line: 2, column: 4 });
        assert_eq!(document.position(1_000), Position { line: 3, column: 1 });
    }

    #[test]
    fn secrets_are_covered_wherever_the_mark_stands() {
        let text = "store: {url: \"redis://:hunter2@h:1\", timeout: 0s}\n\
                    tokens:\n  - key: {secret: hunter3}\n  - key: hunter4\n  - key: {env: hunter-5}\n\
                    # rediss://u:hunter6@host\n";
        let document = document(text);
        for at in 0..text.len() {
            let shown = document.excerpt(&(at..at + 9));
            assert!(!shown.line.contains("hunter"), "{shown:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let text = format!("a: [{}, bad, {}]\n", "x".repeat(500), "y".repeat(500));
        let at = text.find("bad").unwrap();
        let excerpt = document(&text).excerpt(&(at..at + 3));
        assert!(excerpt.line.chars().count() < 110, "{excerpt:?}");
        let marked: String =
            excerpt.line.chars().skip(excerpt.indent.chars().count()).take(excerpt.width).collect();
        assert_eq!(marked, "bad");
    }
}
