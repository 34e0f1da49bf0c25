//! Paths as they are matched: what two servers would take for the same place becomes the same text.
//!
//! The query and fragment are cut, `%XX` is decoded once, `\` counts as `/`, `;params` of each segment go, empty
//! and `.` segments go, `..` takes one segment back and never leaves the root (RFC 3986 section 6.2.2, and
//! CVE-2019-9901 for why). A trailing slash goes too: `/login/` must not pass by the rule of `/login`.

use std::fmt::Write as _;

/// The path as a server reads it that decodes each segment and takes nothing back: no `..` is resolved, an encoded
/// separator is part of its segment. None when that is the same as [`normalise`]'s reading.
///
/// Which reading the application takes, nobody here knows; a request whose readings differ is held to both.
#[must_use]
pub fn literal(raw: &str, normalised: &str) -> Option<String> {
    let mut path = String::with_capacity(raw.len() + 1);
    for segment in path_of(raw).split('/').filter(|segment| !segment.is_empty()) {
        path.push('/');
        for letter in decode(segment).split(';').next().unwrap_or_default().chars() {
            match letter {
                '/' => path.push_str("%2F"),
                '\\' => path.push_str("%5C"),
                other => path.push(other),
            }
        }
    }
    if path.is_empty() {
        path.push('/');
    }
    (path != normalised).then_some(path)
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

/// The normalised path; always begins with `/`.
#[must_use]
pub fn normalise(raw: &str) -> String {
    let raw = path_of(raw);
    let decoded = decode(raw);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            plain => segments.push(plain),
        }
    }
    let mut path = String::with_capacity(raw.len() + 1);
    for segment in &segments {
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() {
        path.push('/');
    }
    path
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
    fn a_path_that_servers_read_differently_has_a_second_reading() {
        let second = |raw: &str| literal(raw, &normalise(raw));
        for plain in
            ["/ai/chat", "/ai/chat/", "//ai//chat", "/%61i/chat", "/ai;v=1/chat", "/ai/chat?x=/../y", "/"]
        {
            assert_eq!(second(plain), None, "{plain}");
        }
        assert_eq!(second("/ai/..%2Fopen").as_deref(), Some("/ai/..%2Fopen"));
        assert_eq!(second("/ai/..;/open").as_deref(), Some("/ai/../open"));
        assert_eq!(second("/ai/x/../../open").as_deref(), Some("/ai/x/../../open"));
        assert_eq!(second("/ai\\..\\open").as_deref(), Some("/ai%5C..%5Copen"));
    }
}
