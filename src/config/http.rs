//! `http`: the responses that `Authorize` sends, and which headers of a request are believed.

use super::diagnostic::Findings;
use super::fields::{Fields, Scope, choice, text};
use super::policies::set;
use super::show;
use super::tree::Node;
use crate::engine::address::Cidr;
use crate::engine::http::{ErrorBody, HttpFace, LimitHeaders};
use crate::engine::mistake::Mistake;

/// The words for a body.
pub(super) const ERROR_BODIES: [(&str, ErrorBody); 2] =
    [("uniform", ErrorBody::Uniform), ("problem", ErrorBody::Problem)];
/// The words for a family of headers.
pub(super) const LIMIT_HEADERS: [(&str, LimitHeaders); 3] =
    [("ietf", LimitHeaders::Ietf), ("legacy", LimitHeaders::Legacy), ("x", LimitHeaders::X)];
const KEYS: [&str; 5] =
    ["error_body", "limit_headers", "security_headers", "trusted_proxies", "identity_headers"];
/// Headers that say how a message is framed; to set one of them would break the connection.
const FRAMING: [&str; 7] =
    ["connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "host"];
const MAX_HEADERS: usize = 32;
const MAX_PROXIES: usize = 1_000;

/// `http`, as meant.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// The face of responses.
    pub face: HttpFace,
    /// Whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<Cidr>,
    /// Headers set for the application: the name in lower case, and the claim whose value it takes.
    pub identity_headers: Vec<(String, String)>,
    /// The ranges as written, for the operator.
    pub(super) proxies_written: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            face: HttpFace::default(),
            trusted_proxies: Vec::new(),
            identity_headers: vec![("x-user-id".to_owned(), "sub".to_owned())],
            proxies_written: Vec::new(),
        }
    }
}

/// Reads `http`.
pub(super) fn read(node: &Node, out: &mut Findings<'_>) -> HttpConfig {
    let mut http = HttpConfig::default();
    let scope = Scope { prefix: "http.", ..Scope::ROOT };
    let Some(fields) = Fields::read(node, scope, &KEYS, out) else { return http };
    set(&mut http.face.error_body, fields.choice("error_body", &ERROR_BODIES, out));
    set(&mut http.face.limit_headers, read_limit_headers(&fields, out));
    read_security(&fields, &mut http.face.security_headers, out);
    read_proxies(&fields, &mut http, out);
    if let Some(headers) = read_identity(&fields, out) {
        http.identity_headers = headers;
    }
    http
}

fn read_limit_headers(fields: &Fields<'_>, out: &mut Findings<'_>) -> Option<Vec<LimitHeaders>> {
    let mut families: Vec<LimitHeaders> = Vec::new();
    for item in fields.list("limit_headers", out)? {
        match text(item).and_then(|text| choice(text, &LIMIT_HEADERS)) {
            Ok(family) if families.contains(&family) => {
                let wrong = ("this family stands twice".to_owned(), "name each family once".to_owned());
                fields.wrong("limit_headers", item, wrong, out);
            }
            Ok(family) => families.push(family),
            Err(wrong) => fields.wrong("limit_headers", item, wrong, out),
        }
    }
    Some(families)
}

/// A value replaces a default or adds a header, `null` switches a default off.
fn read_security(fields: &Fields<'_>, headers: &mut Vec<(String, String)>, out: &mut Findings<'_>) {
    for (entry, value) in fields.pairs("security_headers", out).unwrap_or_default() {
        let name = &entry.key.text;
        let field = || format!("http.security_headers.{}", super::clip(name));
        if let Some(mistake) = check_name(name, field()) {
            out.wrong("", &entry.key.span, mistake);
            continue;
        }
        headers.retain(|(other, _)| value.is_some() || !other.eq_ignore_ascii_case(name));
        let Some(value) = value else { continue };
        // RFC 9110 section 5.5: visible ASCII, spaces and tabs inside.
        let visible = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
        if value.is_empty() || value.trim() != value || value.len() > 4_096 || !value.bytes().all(visible) {
            let hint = "write visible ASCII on one line, or null to switch the header off";
            let message = "the value is no value of a header";
            out.wrong("", &entry.value.span, Mistake::new(field(), message, hint));
            continue;
        }
        match headers.iter_mut().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => headers.push((name.clone(), value)),
        }
    }
    if headers.len() > MAX_HEADERS
        && let Some(node) = fields.get("security_headers")
    {
        let wrong = (format!("{} headers are too many", headers.len()), format!("at most {MAX_HEADERS}"));
        fields.wrong("security_headers", node, wrong, out);
    }
}

fn read_proxies(fields: &Fields<'_>, http: &mut HttpConfig, out: &mut Findings<'_>) {
    let Some(items) = fields.list("trusted_proxies", out) else { return };
    for item in items.iter().take(MAX_PROXIES) {
        let range = text(item).and_then(|text| {
            let range: Result<Cidr, String> = text.parse();
            range
                .map(|cidr| (cidr, text))
                .map_err(|why| (why, "write 10.0.0.0/8, 2001:db8::/32, or one address".to_owned()))
        });
        match range {
            Ok((cidr, text)) => {
                http.trusted_proxies.push(cidr);
                http.proxies_written.push(text.to_owned());
                if text.ends_with("/0") {
                    let message = "every address is trusted to say who the client is";
                    let hint = "list the addresses of your own proxies";
                    let mistake = Mistake::new("http.trusted_proxies", message, hint);
                    let warning = super::diagnostic::in_file(out.document(), "", &item.span, mistake);
                    out.warn(warning);
                }
            }
            Err(wrong) => fields.wrong("trusted_proxies", item, wrong, out),
        }
    }
    if let (true, Some(list)) = (items.len() > MAX_PROXIES, fields.get("trusted_proxies")) {
        let wrong = (format!("{} ranges are too many", items.len()), format!("at most {MAX_PROXIES}"));
        fields.wrong("trusted_proxies", list, wrong, out);
    }
}

fn read_identity(fields: &Fields<'_>, out: &mut Findings<'_>) -> Option<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (entry, claim) in fields.pairs("identity_headers", out)? {
        let name = entry.key.text.to_ascii_lowercase();
        let field = format!("http.identity_headers.{}", super::clip(&entry.key.text));
        match check_identity(&name, claim, &headers, field) {
            Ok(claim) => headers.push((name, claim)),
            Err(mistake) => out.wrong("", &entry.key.span, mistake),
        }
    }
    if headers.len() > MAX_HEADERS
        && let Some(node) = fields.get("identity_headers")
    {
        let wrong = (format!("{} headers are too many", headers.len()), format!("at most {MAX_HEADERS}"));
        fields.wrong("identity_headers", node, wrong, out);
    }
    Some(headers)
}

fn check_identity(
    name: &str,
    claim: Option<String>,
    earlier: &[(String, String)],
    field: String,
) -> Result<String, Mistake> {
    if let Some(mistake) = check_name(name, field.clone()) {
        return Err(mistake);
    }
    if ["authorization", "cookie"].contains(&name) {
        let hint = "write a name of your own, such as x-user-id";
        return Err(Mistake::new(field, "it would be removed from every request", hint));
    }
    if earlier.iter().any(|(other, _)| other == name) {
        let hint = "names of headers are the same in upper and lower case";
        return Err(Mistake::new(field, "this header stands twice", hint));
    }
    claim.filter(|claim| !claim.is_empty() && claim.len() <= 256).ok_or_else(|| {
        Mistake::new(field, "the claim is missing", "write the claim whose value it takes, such as sub")
    })
}

fn check_name(name: &str, field: String) -> Option<Mistake> {
    if !is_header_name(name) {
        let hint = "letters, digits and !#$%&'*+-.^_`|~, such as X-Frame-Options";
        return Some(Mistake::new(field, format!("{} is not a header's name", show(name)), hint));
    }
    FRAMING.contains(&name.to_ascii_lowercase().as_str()).then(|| {
        let message = "this header frames the message and is not to be set or removed";
        Mistake::new(field, message, "remove it")
    })
}

/// RFC 9110 section 5.6.2, `token`.
pub(super) fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= 256 && name.bytes().all(token)
}
