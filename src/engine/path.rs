//! Paths as they are matched: every reading that some server takes of what a client sent.
//!
//! Servers agree about plain paths alone. They differ in whether `%2F` parts segments, whether `;parameters` are cut
//! off, whether `\` is `/`, whether `..` takes a segment back and whether the empty segment of `//` is one that it can
//! take (RFC 3986 section 3.3, the WHATWG URL standard, and CVE-2019-9901 for what comes of it):
//!
//! | server | escapes | parameters | `\` | `..` |
//! |---|---|---|---|---|
//! | nginx, Apache | decoded, `%2F` too | kept | a letter | resolved, `//` merged first |
//! | Starlette, Django, Flask | decoded, `%2F` too | kept | a letter | kept |
//! | Express, axum, chi | kept | kept | a letter | kept |
//! | Kestrel | decoded, `%2F` kept | kept | a letter | resolved, `//` not merged |
//! | IIS | decoded | kept | `/` | resolved, `//` merged first |
//! | Tomcat, Jetty, Spring | decoded after parameters are cut | cut | either | resolved, `//` merged first |
//! | URL of JavaScript, Envoy's `normalize_path` | kept, `%2e` is a dot | kept | `/` | resolved, `//` not merged |
//!
//! Promise: for every combination of these choices the path that such a server resolves to, in the form below, is one of
//! [`readings`]; which of them the application takes, nobody here knows, so a request is held to each. Text that no server
//! reads in two ways has one reading. There are never more than [`MAX_READINGS`]; a path that could be read in more ways is
//! [`Ambiguous`], and whoever asks must not let it pass.
//!
//! The form: a `/` before each segment, no empty segments, no `/` at the end (`/login/` must not pass by the rule of
//! `/login`), a separator within a segment as `%2F` or `%5C`. The query and fragment are cut.
//!
//! Must never: read what was read already. `%252F` is decoded to `%2F` and no further: a server that decodes twice, and one
//! that takes overlong UTF-8 (`%c0%af`) for a letter or ends a path at `%00`, is beyond the promise.

use smallvec::SmallVec;
use std::fmt::Write as _;

/// Most readings of one path. What honest clients send has one, and two where a parameter or an escaped letter is in it.
pub const MAX_READINGS: usize = 16;
/// Most bytes that are read to find them, all ways together: a path of 87 KiB in three ways, one of 4.8 KiB in all.
const MAX_WORK: usize = 256 * 1024;

/// The readings of one path.
pub type Readings = SmallVec<[String; 1]>;

/// A path that could be read in more than [`MAX_READINGS`] ways, or is too long to be read in all of its ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in too many ways")]
pub struct Ambiguous;

/// The choices of one server.
#[derive(Clone, Copy, Debug)]
struct Style {
    escapes: Escapes,
    parameters: Parameters,
    backslash: Backslash,
    dots: Dots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    /// Before the path is cut into segments.
    Decoded,
    /// Segment by segment: an escaped separator is part of its segment.
    InSegments,
    /// Only of what cannot stand in a path by itself.
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameters {
    /// After escapes are decoded: `%3B` begins one too.
    Cut,
    /// Before, up to the next `/`.
    CutAsWritten,
    Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backslash {
    Separator,
    Letter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dots {
    Resolved,
    /// The empty segment of `//` is one that `..` takes back.
    ResolvedUnmerged,
    Kept,
}

/// The strictest choice everywhere: what is plain to one of the servers is plain here.
const COLLAPSED: Style = Style {
    escapes: Escapes::Decoded,
    parameters: Parameters::Cut,
    backslash: Backslash::Separator,
    dots: Dots::Resolved,
};

/// Every reading of a request's target, the [`normalise`]d one first, each once.
///
/// # Errors
/// There are more than [`MAX_READINGS`], or it takes too long to find them.
pub fn readings(raw: &str) -> Result<Readings, Ambiguous> {
    let raw = path_of(raw);
    let mut readings = Readings::new();
    readings.push(read(raw, COLLAPSED));
    if !raw.contains(['%', ';', '\\', '.']) {
        return Ok(readings);
    }
    let decoded = decode(raw);
    let escapes: &[Escapes] = match raw.contains('%') {
        true => &[Escapes::Decoded, Escapes::InSegments, Escapes::Kept],
        false => &[Escapes::Decoded],
    };
    let parameters: &[Parameters] = match decoded.contains(';') {
        true => &[Parameters::Cut, Parameters::CutAsWritten, Parameters::Kept],
        false => &[Parameters::Kept],
    };
    let backslashes: &[Backslash] = match decoded.contains('\\') {
        true => &[Backslash::Separator, Backslash::Letter],
        false => &[Backslash::Letter],
    };
    let dots: &[Dots] = match decoded.split(['/', '\\']).any(is_dots) {
        true => &[Dots::Resolved, Dots::ResolvedUnmerged, Dots::Kept],
        false => &[Dots::Kept],
    };
    let ways = escapes.len() * parameters.len() * backslashes.len() * dots.len();
    if ways > 1 && ways.saturating_mul(raw.len()) > MAX_WORK {
        return Err(Ambiguous);
    }
    let styles = escapes.iter().flat_map(|escapes| {
        parameters.iter().flat_map(move |parameters| {
            backslashes.iter().flat_map(move |backslash| {
                dots.iter().map(move |dots| (*escapes, *parameters, *backslash, *dots))
            })
        })
    });
    for (escapes, parameters, backslash, dots) in styles {
        let path = read(raw, Style { escapes, parameters, backslash, dots });
        if readings.contains(&path) {
            continue;
        }
        if readings.len() == MAX_READINGS {
            return Err(Ambiguous);
        }
        readings.push(path);
    }
    Ok(readings)
}

/// The normalised path, the first of the [`readings`]: all of it decoded once, `\` counts as `/`, parameters go, `..`
/// takes one segment back and never leaves the root. Always begins with `/`.
#[must_use]
pub fn normalise(raw: &str) -> String {
    read(path_of(raw), COLLAPSED)
}

/// Whether a segment, less its parameters, is `.` or `..`.
fn is_dots(segment: &str) -> bool {
    matches!(before_parameters(segment), "." | "..")
}

fn before_parameters(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

/// The path as a server of this style reads it.
fn read(raw: &str, style: Style) -> String {
    let parts = |letter: char| letter == '/' || (letter == '\\' && style.backslash == Backslash::Separator);
    let stripped;
    let raw = if style.parameters == Parameters::CutAsWritten && raw.contains(';') {
        stripped = raw.split_inclusive('/').map(without_parameters).collect::<String>();
        &*stripped
    } else {
        raw
    };
    let decoded;
    let text = if style.escapes == Escapes::Decoded && raw.contains('%') {
        decoded = decode(raw);
        &*decoded
    } else {
        raw
    };
    let mut path = Segments { text: String::with_capacity(raw.len() + 1), dots: style.dots };
    for segment in text.split(parts) {
        let segment = if style.escapes == Escapes::InSegments { &*decode(segment) } else { segment };
        path.add(
            if style.parameters == Parameters::Cut { before_parameters(segment) } else { segment },
            style,
        );
    }
    path.finish()
}

/// A segment with the `/` that ends it: as it is written, a parameter reaches up to there.
fn without_parameters(segment: &str) -> String {
    let (plain, rest) = segment.split_once(';').unwrap_or((segment, ""));
    let end = if rest.ends_with('/') { "/" } else { "" };
    format!("{plain}{end}")
}

/// A path that grows by segments, each with a `/` before it.
struct Segments {
    text: String,
    dots: Dots,
}

impl Segments {
    fn add(&mut self, segment: &str, style: Style) {
        let meaning = if style.escapes == Escapes::Kept { &*decode(segment) } else { segment };
        match (meaning, self.dots) {
            ("", Dots::ResolvedUnmerged) if !self.text.is_empty() => self.text.push('/'),
            ("", _) | (".", Dots::Resolved | Dots::ResolvedUnmerged) => {}
            ("..", Dots::Resolved | Dots::ResolvedUnmerged) => {
                self.text.truncate(self.text.rfind('/').unwrap_or_default());
            }
            _ => {
                self.text.push('/');
                match style.escapes {
                    Escapes::Kept => push_kept(&mut self.text, segment),
                    _ => push_segment(&mut self.text, segment),
                }
            }
        }
    }

    /// Without empty segments.
    fn finish(self) -> String {
        if self.text.is_empty() {
            return "/".to_owned();
        }
        if !self.text.contains("//") && !self.text.ends_with('/') {
            return self.text;
        }
        let mut path = String::with_capacity(self.text.len());
        for segment in self.text.split('/').filter(|segment| !segment.is_empty()) {
            path.push('/');
            path.push_str(segment);
        }
        if path.is_empty() { "/".to_owned() } else { path }
    }
}

/// Appends a segment in which no separator looks like one.
fn push_segment(path: &mut String, segment: &str) {
    for letter in segment.chars() {
        match letter {
            '/' => path.push_str("%2F"),
            '\\' => path.push_str("%5C"),
            other => path.push(other),
        }
    }
}

/// Appends a segment in which the escapes stay of what could stand in a path by itself (RFC 3986: `pchar`), and of `/`.
fn push_kept(path: &mut String, segment: &str) {
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        let (plain, escaped) = rest.split_at(at);
        push_segment(path, plain);
        let byte = escaped.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| is_pchar(*byte) || matches!(byte, b'/' | b'\\')) {
            Some(byte) => {
                // Writing to a String cannot fail.
                let _ = write!(path, "%{byte:02X}");
                rest = escaped.get(3..).unwrap_or_default();
            }
            None => {
                // Letters beyond ASCII are several escapes, which are decoded together.
                let end = end_of_escapes(escaped);
                let (run, after) = escaped.split_at(end.max(1));
                path.push_str(&decode(run));
                rest = after;
            }
        }
    }
    push_segment(path, rest);
}

/// How many bytes of `text` are escapes, from its start, of what cannot stand in a path by itself.
fn end_of_escapes(text: &str) -> usize {
    let mut end = 0;
    while let Some(length) = text
        .get(end..end + 3)
        .and_then(|escape| escape.strip_prefix('%'))
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .filter(|byte| !is_pchar(*byte) && !matches!(byte, b'/' | b'\\'))
        .map(|_| 3)
    {
        end += length;
    }
    end
}

fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// A request's target without its query and fragment, and without the origin of an absolute form.
fn path_of(raw: &str) -> &str {
    let raw = raw.split(['?', '#']).next().unwrap_or_default();
    match raw.split_once("://") {
        Some((scheme, rest))
            if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
        {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => raw,
    }
}

/// Decodes `%XX` once; what is no escape, or would not be UTF-8, stays as it is, and hides nothing beside it.
#[must_use]
pub fn decode(raw: &str) -> String {
    if !raw.contains('%') {
        return raw.to_owned();
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                    continue;
                }
                _ => bytes.push(first),
            },
            _ => bytes.push(first),
        }
        rest = tail;
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_place_is_one_text() {
        for raw in [
            "/admin",
            "/admin/",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/admin?q=1",
            "/admin#f",
            "/%61dmin",
            "/admin;v=1",
            "/x%2F..%2Fadmin",
            "/x\\..\\admin",
            "/../../admin",
            "admin",
            "/admin;a/;b",
            "/admin%2f",
        ] {
            assert_eq!(normalise(raw), "/admin", "{raw}");
        }
        assert_eq!(normalise("http://api.example.com/admin"), "/admin");
        assert_eq!(normalise("http://api.example.com"), "/");
        assert_eq!(normalise(""), "/");
        assert_eq!(normalise("/a%252Fb"), "/a%2Fb", "decoded once, not twice");
        assert_eq!(normalise("/a%zz"), "/a%zz");
        assert_eq!(normalise("/a%"), "/a%");
        assert_eq!(normalise("/%61%ff"), "/a%ff", "what is not UTF-8 hides nothing beside it");
    }

    #[test]
    fn a_path_that_servers_read_differently_has_a_reading_for_each_way() {
        let all = |raw: &str| readings(raw).unwrap().into_vec();
        for plain in ["/ai/chat", "/ai/chat/", "//ai//chat", "/ai/chat?x=/../y", "http://host/ai/chat"] {
            assert_eq!(all(plain), ["/ai/chat"], "{plain}");
        }
        assert_eq!(all("/"), ["/"]);
        assert_eq!(all("/caf%C3%A9%20x"), ["/caf\u{e9} x"], "nobody can send these otherwise");
        assert_eq!(all("/a/b.c/...;x"), ["/a/b.c/...", "/a/b.c/...;x"]);
        assert_eq!(all("/%61i/%2562"), ["/ai/%62", "/%61i/%62"]);
        assert_eq!(all("/ai;v=1/chat"), ["/ai/chat", "/ai;v=1/chat"]);
        assert_eq!(all("/ai/x/../../open"), ["/open", "/ai/x/../../open"]);
        assert_eq!(all("/a//../open"), ["/open", "/a/open", "/a/../open"]);
        assert_eq!(all("/ai/..%2Fopen"), ["/open", "/ai/../open", "/ai/..%2Fopen"]);
        assert_eq!(all("/ai\\..\\open"), ["/open", "/ai/../open", "/ai%5C..%5Copen"]);
        assert_eq!(all("/ai/..;/open"), ["/open", "/ai/../open", "/ai/..;/open"]);
        assert_eq!(all("/a;%2F..%2Fb/c"), ["/b/c", "/a/../b/c", "/a/c", "/a;/../b/c", "/a;%2F..%2Fb/c"]);
    }

    #[test]
    fn a_path_of_too_many_readings_is_ambiguous_and_costs_little() {
        let raw = "/a;%2e%3b/%61//..;/b%2F..\\c/%2e%2e/d;/..%3B/e%5C..//../f/../g\\..\\%68";
        assert_eq!(readings(raw), Err(Ambiguous));
        assert_eq!(readings(&raw.repeat(200)), Err(Ambiguous));
    }
}
