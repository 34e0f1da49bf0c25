//! What the claims of a rightly signed token must say.
//!
//! One order of checks (times, audience, type, required claims, lifetime), so that a token with several faults always
//! gets one reason.

use super::claims::Claims;
use crate::engine::decision::Reason;
use crate::engine::issuer::IssuerSpec;
use crate::engine::units::{Micros, Moment};
use serde_json::Value;

/// Values of the header's `typ` that a token of ours may have, beside none (RFC 7519 section 5.1, RFC 9068 section
/// 2.1). Media types have no case, and may leave out `application/` (RFC 7515 section 4.1.9).
const MEDIA_TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Checks the claims of a token that was just verified.
pub(super) fn check(
    claims: &Claims,
    media_type: Option<&str>,
    spec: &IssuerSpec,
    now: Moment,
) -> Result<(), Reason> {
    times(claims, spec.leeway, now)?;
    if !spec.audience.is_empty() && !claims.audience.iter().any(|one| spec.audience.contains(one)) {
        return Err(Reason::TokenAudienceInvalid);
    }
    if !media_type.is_none_or(is_token_type) || !is_allowed_type(claims, spec) {
        return Err(Reason::TokenTypeInvalid);
    }
    // `null` is a value and says nothing: what is required must be said.
    let said = |name: &String| claims.all.get(name).is_some_and(|value| !value.is_null());
    if !spec.require.iter().all(said) {
        return Err(Reason::TokenClaimMissing);
    }
    if claims.expires_at.since(claims.issued_at.unwrap_or(now)) > spec.max_lifetime {
        return Err(Reason::TokenLifetimeTooLong);
    }
    Ok(())
}

/// Checks what changes with time; also for tokens that are remembered.
pub(super) fn times(claims: &Claims, leeway: Micros, now: Moment) -> Result<(), Reason> {
    let latest = now.plus(leeway);
    if now >= claims.expires_at.plus(leeway) {
        return Err(Reason::TokenExpired);
    }
    if claims.not_before.is_some_and(|from| from > latest) {
        return Err(Reason::TokenNotYetValid);
    }
    match claims.issued_at {
        Some(issued) if issued > latest => Err(Reason::TokenNotYetValid),
        // Issued after its own end: no difference of clocks explains that, so none is forgiven, and one of the two
        // is on the wrong side of now.
        Some(issued) if issued > claims.expires_at && issued > now => Err(Reason::TokenNotYetValid),
        Some(issued) if issued > claims.expires_at => Err(Reason::TokenExpired),
        _ => Ok(()),
    }
}

fn is_token_type(media_type: &str) -> bool {
    let lower = media_type.to_ascii_lowercase();
    let short = lower.strip_prefix("application/").unwrap_or(&lower);
    MEDIA_TYPES.contains(&short)
}

fn is_allowed_type(claims: &Claims, spec: &IssuerSpec) -> bool {
    let said = claims.all.get(&spec.type_claim).and_then(Value::as_str);
    spec.types.is_empty() || said.is_some_and(|said| spec.types.iter().any(|allowed| allowed == said))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_700_000_000_000_000);
    const LEEWAY: Micros = Micros(30_000_000);

    fn claims(members: &str) -> Claims {
        let Ok(claims) = Claims::read(serde_json::from_str(members).unwrap()) else { panic!("{members}") };
        claims
    }

    #[test]
    fn leeway_holds_to_the_microsecond() {
        let expiring = claims(r#"{"exp":1700000000}"#);
        assert_eq!(times(&expiring, LEEWAY, NOW.plus(Micros(29_999_999))), Ok(()));
        assert_eq!(times(&expiring, LEEWAY, NOW.plus(LEEWAY)), Err(Reason::TokenExpired));
        for name in ["nbf", "iat"] {
            let early = claims(&format!(r#"{{"exp":1700009999,"{name}":1700000030}}"#));
            assert_eq!(times(&early, LEEWAY, NOW), Ok(()));
            assert_eq!(times(&early, LEEWAY, Moment(NOW.0 - 1)), Err(Reason::TokenNotYetValid), "{name}");
        }
    }

    #[test]
    fn a_token_issued_after_its_end_gets_no_leeway() {
        let past = claims(r#"{"exp":1699999990,"iat":1699999995}"#);
        assert_eq!(times(&past, LEEWAY, NOW), Err(Reason::TokenExpired));
        let to_come = claims(r#"{"exp":1700000010,"iat":1700000020}"#);
        assert_eq!(times(&to_come, LEEWAY, NOW), Err(Reason::TokenNotYetValid));
    }

    #[test]
    fn media_types_have_no_case_and_are_few() {
        for good in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
            assert!(is_token_type(good), "{good}");
        }
        for bad in
            ["", "JWS", "application/", "application/application/jwt", "logout+jwt", "dpop+jwt", "JWT "]
        {
            assert!(!is_token_type(bad), "{bad}");
        }
    }
}
