//! Identity headers: what the application is told about the caller, and what a client must not tell it.
//!
//! Promise: whatever a client sent that an application may take for an identity header is named for removal, on every
//! route. CGI, WSGI and PHP name a header by its letters and digits alone: `X_User_Id`, `X-User-Id` and, with some
//! servers, `X.User.Id` are one variable, and which of the values it holds is luck.
//!
//! Must never: read a name so freely where a policy looks at a header; those are exact.

use crate::engine::http::Header;
use crate::service::Live;
use crate::service::facts::claim_text;
use crate::token::Claims;

/// What the application is told about the caller.
pub(super) fn told(live: &Live, claims: Option<&Claims>) -> Vec<Header> {
    let Some(claims) = claims else { return Vec::new() };
    live.identity_headers
        .iter()
        .filter_map(|(name, claim)| Some(Header::new(name.clone(), claim_text(claims, claim)?)))
        .collect()
}

/// The identity headers, then what was sent under another spelling of theirs: each name once, in lower case.
pub(super) fn removed(identity: &[(String, String)], sent: &[(&str, &str)]) -> Vec<String> {
    let mut names: Vec<String> = identity.iter().map(|(name, _)| name.clone()).collect();
    for (name, _) in sent {
        let meant = identity.iter().any(|(other, _)| is_read_as(name, other));
        if meant && !names.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            names.push(name.to_ascii_lowercase());
        }
    }
    names
}

/// Whether two names are one variable of an application.
fn is_read_as(one: &str, other: &str) -> bool {
    let read = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    one.len() == other.len() && one.bytes().map(read).eq(other.bytes().map(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_an_application_reads_alike_is_removed_and_nothing_else() {
        let identity = [("x-user-id".to_owned(), "sub".to_owned()), ("x_plan".to_owned(), "plan".to_owned())];
        let sent =
            ["X-User-Id", "X_User_Id", "x_user-id", "x.user.id", "X-PLAN", "X_User_Id", "x-userid", "x"];
        let sent = sent.map(|name| (name, "admin"));
        assert_eq!(
            removed(&identity, &sent),
            ["x-user-id", "x_plan", "x_user_id", "x_user-id", "x.user.id", "x-plan"]
        );
        assert_eq!(removed(&identity, &[]), ["x-user-id", "x_plan"]);
        assert_eq!(removed(&[], &sent), Vec::<String>::new());
    }
}
