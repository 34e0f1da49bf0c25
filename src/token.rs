//! Is a token good? Signature, times, issuer, audience, type; and what the store must be asked about it.
//!
//! Promise: [`Verifier::check`] reads no clock, waits for nothing and does no I/O. A token is taken apart by a strict
//! reader of our own; of `jsonwebtoken` only the signature check is used, with one algorithm for each key (by itself
//! the library accepts `crit`, duplicate members, any `typ`, an `exp` of 2^63 …). Revocation is the store's: a
//! [`Good`] carries the [`Probe`](crate::engine::revocation::Probe) to ask with.
//!
//! Must never: put a piece of a token or a secret into an error, a log or a `Debug`; fetch what a token names; start a
//! task (it hands out [`Refresher`]s that the application runs).
//!
//! `jsonwebtoken` looks its cryptography up in a process-wide place, and panics when two of its features name one
//! each. That place is not used here: signatures are checked and made by its `aws_lc` provider by name, so nothing has
//! to be installed at start, whatever features other dependencies turn on.

mod algorithm;
mod cache;
mod check_spec;
mod claims;
pub mod extract;
mod fetch;
mod form;
mod good;
mod issuer;
mod json;
mod key;
mod key_file;
mod key_set;
mod load;
pub mod mint;
mod refresh;
mod revoke;
mod revoked_key;
mod rules;
mod text;
mod user;
mod verifier;

pub use algorithm::{Algorithm, Family};
pub use claims::Claims;
pub use fetch::{HttpsClient, Schemes, https_client};
pub use form::MAX_TOKEN_BYTES;
pub use good::{Good, Refusal};
pub use load::Keys;
pub use refresh::Refresher;
pub use revoke::RevokeError;
pub use verifier::{Reload, Verifier};

/// SHA-256.
fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    out.copy_from_slice(hash.as_ref());
    out
}
