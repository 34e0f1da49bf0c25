//! The name of an application's own revocation key, such as `blacklisted_access_token:{jti}`.

use crate::engine::mistake::Mistake;

/// Stands for the token id.
const PLACEHOLDER: &str = "{jti}";
/// Most bytes of a template.
const MAX_BYTES: usize = 256;

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Box<str>);

impl Template {
    /// Checks that `{jti}` is in it, and no other brace.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let wrong = |why: &str| {
            let message = format!("`{}` {why}", text.escape_debug());
            Err(Mistake::new("revoked_key", message, "write it like blacklisted_access_token:{jti}"))
        };
        if !text.contains(PLACEHOLDER) {
            return wrong("does not contain {jti}, so one key would revoke every token");
        }
        if text.replace(PLACEHOLDER, "").contains(['{', '}']) {
            return wrong("has a placeholder that is not {jti}");
        }
        if text.len() > MAX_BYTES {
            return wrong("is too long: at most 256 bytes");
        }
        Ok(Self(text.into()))
    }

    /// The key of a token id.
    pub(super) fn render(&self, token_id: &str) -> Box<str> {
        self.0.replace(PLACEHOLDER, token_id).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_the_token_id_and_knows_no_other_placeholder() {
        let template = Template::parse("blacklisted_access_token:{jti}").unwrap();
        assert_eq!(&*template.render("7{jti}"), "blacklisted_access_token:7{jti}", "rendered once");
        for bad in [
            "",
            "revoked",
            "revoked:{sub}",
            "{jti}:{sub}",
            "{jti}:{",
            "}{jti}",
            "{ jti }",
            "{JTI}",
            "{{jti}}",
        ] {
            assert_eq!(Template::parse(bad).unwrap_err().field, "revoked_key", "{bad}");
        }
    }
}
