//! The form of a token: what is refused before any claim is looked at.
//!
//! Exactly three parts of canonical base64url without padding, at most 8 KiB, a header and a payload of strict
//! JSON, and no header member that lets a token bring its own key or rules (RFC 8725 sections 2.1 and 3.5).

use super::algorithm::Algorithm;
use super::json;
use super::text::is_plain;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Most bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Members that name a key, a key's place or a way of reading. Refused even when the signature is right: whoever
/// writes them expects them to be obeyed. `enc` is the mark of an encrypted token (RFC 7516 section 9).
const REFUSED_MEMBERS: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "zip", "b64", "enc"];

/// A token taken apart. Nothing in it is to be trusted yet.
pub(super) struct Form<'a> {
    /// None: a name that we do not know, `none` among them.
    pub(super) algorithm: Option<Algorithm>,
    /// The name of the key.
    pub(super) key_id: Option<String>,
    /// `typ`.
    pub(super) media_type: Option<String>,
    /// The payload.
    pub(super) claims: Map<String, Value>,
    /// What was signed.
    pub(super) signed: &'a str,
    /// The signature.
    pub(super) signature: Vec<u8>,
}

/// The form is never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Form<'a> {
    pub(super) fn of(token: &'a str) -> Result<Self, Malformed> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Malformed)?;
        // Dots are not in the alphabet, so a fourth part fails here. An empty header or payload is no JSON; an empty
        // signature has a form, and is judged by the algorithm and the key: no algorithm of ours makes one.
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let mut header = json::object(&header).map_err(|_| Malformed)?;
        if REFUSED_MEMBERS.iter().any(|name| header.contains_key(*name)) {
            return Err(Malformed);
        }
        let algorithm = string(&mut header, "alg")?.ok_or(Malformed)?;
        let key_id = string(&mut header, "kid")?;
        if key_id.as_deref().is_some_and(|id| !is_plain(id)) {
            return Err(Malformed);
        }
        Ok(Self {
            algorithm: Algorithm::named(&algorithm),
            key_id,
            media_type: string(&mut header, "typ")?,
            claims: json::object(&payload).map_err(|_| Malformed)?,
            signed,
            signature,
        })
    }
}

/// The engine refuses padding, foreign characters, and last characters whose spare bits are not zero.
fn decode(part: &str) -> Result<Vec<u8>, Malformed> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed)
}

fn string(header: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Malformed> {
    match header.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    fn refuses(text: &str) -> bool {
        Form::of(text).is_err()
    }

    #[test]
    fn takes_a_token_apart() {
        let text = token(r#"{"alg":"HS256","kid":"k1","typ":"JWT"}"#, r#"{"iss":"a"}"#);
        let Ok(form) = Form::of(&text) else { panic!("well formed") };
        assert_eq!(form.algorithm, Some(Algorithm::Hs256));
        assert_eq!(form.key_id.as_deref(), Some("k1"));
        assert_eq!(form.claims["iss"], "a");
        assert_eq!(format!("{}.AAAA", form.signed), text);
        assert_eq!(form.signature, [0, 0, 0]);
    }

    #[test]
    fn none_is_an_algorithm_that_nobody_knows() {
        let text = token(r#"{"alg":"none"}"#, "{}");
        assert_eq!(Form::of(&text).map(|form| form.algorithm).ok(), Some(None));
    }

    #[test]
    fn refuses_members_that_bring_keys_or_rules() {
        for name in REFUSED_MEMBERS {
            for value in ["null", "[]", "{}", "\"x\"", "true"] {
                assert!(
                    refuses(&token(&format!(r#"{{"alg":"HS256","{name}":{value}}}"#), "{}")),
                    "{name} {value}"
                );
            }
        }
    }

    #[test]
    fn refuses_other_forms() {
        let good = token(r#"{"alg":"HS256"}"#, "{}");
        assert!(!refuses(&good));
        for bad in [
            "".to_owned(),
            ".".to_owned(),
            "..".to_owned(),
            "a.b".to_owned(),
            good.replace(".AAAA", ""),
            good.replace(".AAAA", ".AAA="),
            good.replace(".AAAA", ".AAB"),
            good.replace(".AAAA", ".AA+/"),
            format!("{good}.AAAA"),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good},{good}"),
            token(r#"{"alg":1}"#, "{}"),
            token(r#"{"typ":"JWT"}"#, "{}"),
            token(r#"{"alg":"HS256","kid":null}"#, "{}"),
            token(r#"{"alg":"HS256","kid":"a\nb"}"#, "{}"),
            token(r#"{"alg":"HS256","typ":7}"#, "{}"),
            token(r#"{"alg":"HS256"}"#, "[]"),
            format!("{}{}", "A".repeat(MAX_TOKEN_BYTES), good),
        ] {
            assert!(refuses(&bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}", header in "\\PC{0,30}", payload in "\\PC{0,30}") {
            let _ = Form::of(&text);
            let _ = Form::of(&token(&header, &payload));
        }
    }
}
