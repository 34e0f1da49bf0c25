//! Paths as they are matched: what two servers would take for the same place becomes the same text.
//!
//! The query and fragment are cut, `%XX` is decoded once, `\` counts as `/`, `;params` of each segment go, empty
//! and `.` segments go, `..` takes one segment back and never leaves the root (RFC 3986 section 6.2.2, and
//! CVE-2019-9901 for why). A trailing slash goes too: `/login/` must not pass by the rule of `/login`.

/// The normalised path; always begins with `/`.
#[must_use]
pub fn normalise(raw: &str) -> String {
    let raw = raw.split(['?', '#']).next().unwrap_or_default();
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

/// Decodes `%XX` once; what is no escape, or would not be UTF-8, stays as it is.
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
    String::from_utf8(bytes).unwrap_or_else(|_| raw.to_owned())
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
        assert_eq!(normalise(""), "/");
        assert_eq!(normalise("/a%252Fb"), "/a%2Fb", "decoded once, not twice");
        assert_eq!(normalise("/a%zz"), "/a%zz");
        assert_eq!(normalise("/a%"), "/a%");
        assert_eq!(normalise("/a%ff"), "/a%ff", "not UTF-8: left alone");
    }
}
