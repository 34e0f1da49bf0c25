//! Names of policies, domains and routes: a fixed alphabet, so that they can stand in keys, headers and logs
//! as they are.

use super::mistake::Mistake;

/// Most bytes of a name.
pub const MAX_NAME_BYTES: usize = 64;

/// The domain of callers that name none.
pub const DEFAULT_DOMAIN: &str = "default";

/// Checks a name: 1 to 64 of letters, digits, `.`, `_`, `-`.
///
/// # Errors
/// A mistake in `field` that shows the name.
pub fn check_name(field: &str, name: &str) -> Result<(), Mistake> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        return Err(Mistake::new(
            field,
            format!("`{}` is not a name", name.escape_debug()),
            "use 1 to 64 letters, digits, '.', '_' or '-'",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_names_and_nothing_that_could_forge_a_key_or_a_header() {
        assert!(check_name("name", "auth-per-ip").is_ok());
        for bad in ["", "a b", "a}b", "a\"b", "é", &"x".repeat(65)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
    }
}
