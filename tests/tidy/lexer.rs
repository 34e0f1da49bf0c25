//! Rust source as text without its comments and literals, and as tokens.
//!
//! Promise: lines stay where they are, so that a finding names the line that a reader sees.

/// A source cut in two layers of the same lines.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Layers {
    /// The code; comments and lifetimes are blank, what stands in literals is `"`.
    pub(crate) code: String,
    /// The comments; all else is blank.
    pub(crate) comments: String,
}

impl Layers {
    fn push(&mut self, c: char, to_code: char, to_comments: char) {
        let kept = |layer: char| if c == '\n' { '\n' } else { layer };
        self.code.push(kept(to_code));
        self.comments.push(kept(to_comments));
    }

    fn code(&mut self, c: char) {
        self.push(c, c, ' ');
    }

    fn comment(&mut self, c: char) {
        self.push(c, ' ', c);
    }

    fn literal(&mut self, c: char) {
        self.push(c, '"', ' ');
    }
}

/// Takes comments and literals out of the code.
pub(crate) fn layers(source: &str) -> Layers {
    let chars: Vec<char> = source.chars().collect();
    let mut out = Layers::default();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let rest = &chars[at..];
        let word_before = at > 0 && is_word(chars[at - 1]);
        let (length, kind): (usize, fn(&mut Layers, char)) = match (c, rest.get(1)) {
            ('/', Some('/')) => (line_end(rest), Layers::comment),
            ('/', Some('*')) => (block_comment(rest), Layers::comment),
            ('"', _) => (string(rest), Layers::literal),
            ('r' | 'b' | 'c', _) if !word_before && prefixed_string(rest) > 0 => {
                (prefixed_string(rest), Layers::literal)
            }
            ('\'', _) => quote(rest),
            _ => (1, Layers::code),
        };
        for &c in &rest[..length.min(rest.len())] {
            kind(&mut out, c);
        }
        at += length;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(rest: &[char]) -> usize {
    rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())
}

fn block_comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Length of `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, `b'…'`; 0 when it is none of them.
fn prefixed_string(rest: &[char]) -> usize {
    let letters = rest.iter().take(2).take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let hashes = rest[letters..].iter().take_while(|&&c| c == '#').count();
    let raw = rest[..letters].contains(&'r');
    let open = letters + hashes;
    match rest.get(open) {
        Some('"') if !raw && hashes == 0 => letters + string(&rest[letters..]),
        Some('"') if raw => {
            let closes = |at: usize| {
                rest[at] == '"' && rest[at + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
            };
            (open + 1..rest.len()).find(|&at| closes(at)).map_or(rest.len(), |at| at + 1 + hashes)
        }
        Some('\'') if letters == 1 && rest[0] == 'b' => 1 + character(&rest[1..]).unwrap_or(1),
        _ => 0,
    }
}

/// Length of a character literal; none when it is a lifetime.
fn character(rest: &[char]) -> Option<usize> {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => rest.get(3..)?.iter().position(|&c| c == '\'').map(|at| at + 4),
        (Some(_), Some('\'')) => Some(3),
        _ => None,
    }
}

fn quote(rest: &[char]) -> (usize, fn(&mut Layers, char)) {
    fn lifetime(out: &mut Layers, c: char) {
        out.push(c, ' ', ' ');
    }
    match character(rest) {
        Some(length) => (length, Layers::literal),
        None => (1 + rest[1..].iter().take_while(|&&c| is_word(c)).count(), lifetime),
    }
}

/// A word, `::`, or one sign.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Cuts code into tokens; `r#type` is `type`.
pub(crate) fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            rest = rest.strip_prefix("r#").filter(|raw| raw.starts_with(is_word)).unwrap_or(rest);
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            let (text, after) = rest.split_at(length);
            found.push(Token { text: text.to_owned(), line: index + 1 });
            rest = after.trim_start();
        }
    }
    found
}

/// Index just past the bracket that closes the one at `open`.
pub(crate) fn past_closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    let source = "let a = \"crate::x // y\"; // crate::z\nlet b = r#\"a\"b\"# /* one /* two */ */ ;\nlet c = '\"'; let d: &'static str = b\"\\\"\";\nlet e = '\\'';";
    let cut = layers(source);
    assert!(
        !cut.code.contains("crate") && !cut.code.contains("two") && !cut.code.contains("static"),
        "{cut:?}"
    );
    assert!(cut.comments.contains("// crate::z") && cut.comments.contains("two"), "{cut:?}");
    assert_eq!(cut.code.lines().count(), 4);
    assert!(cut.code.lines().all(|line| line.trim_end().ends_with(';')), "{}", cut.code);
}

#[test]
fn literals_over_several_lines_keep_the_lines() {
    let cut = layers("f(\"one\n/// no doc\n\");\ng();");
    assert_eq!(cut.code.lines().nth(3), Some("g();"));
    assert!(!cut.comments.contains("doc"));
}

#[test]
fn tokens_know_their_lines() {
    let found = tokens("use a::b;\n  r#type.c(1_000)");
    let texts: Vec<&str> = found.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["use", "a", "::", "b", ";", "type", ".", "c", "(", "1_000", ")"]);
    assert_eq!(found[5].line, 2);
    assert_eq!(past_closing(&found, 8), 11);
}
