//! From a key source of the configuration to keys.
//!
//! Every failure is a [`Mistake`] in the field `key` that says which file or variable, and never what is in it.

use super::algorithm::{Algorithm, Family};
use super::key::{Key, KeyError};
use super::key_file;
use super::key_set::{KeySet, MAX_SET_BYTES, Origin, SetError};
use crate::engine::issuer::KeySource;
use crate::engine::mistake::Mistake;
use std::io::ErrorKind;
use std::path::Path;

/// The field of every mistake here.
pub(super) const FIELD: &str = "key";
/// Most bytes of a file with one key: the largest RSA key in PEM has about 1,500.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// Whether a secret that is absent and may be generated is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Make it now.
    Make,
    /// Write nothing: the configuration is only being checked.
    CheckOnly,
}

/// Reads the keys of a source; none when there is nothing to read yet: a URL, or a secret still to be made.
pub(super) fn keys(
    source: &KeySource,
    algorithms: &[Algorithm],
    how: Keys,
) -> Result<Option<KeySet>, Mistake> {
    match source {
        KeySource::File { path, generate } => {
            let Some(algorithm) = only(algorithms) else { return Ok(None) };
            let place = format!("the key file {}", path.display());
            let bytes = match generate {
                true => existing_or_made(path, algorithm, how)?,
                false => Some(key_file::read(path, MAX_KEY_BYTES).map_err(|error| unreadable(path, &error))?),
            };
            let inline = |bytes: Vec<u8>| inline(algorithm, &bytes).map_err(|why| unusable(&place, &why));
            bytes.map(inline).transpose()
        }
        KeySource::Env { name, value } => {
            let Some(algorithm) = only(algorithms) else { return Ok(None) };
            let place = format!("the environment variable {name}");
            inline(algorithm, &value.0).map(Some).map_err(|why| unusable(&place, &why))
        }
        KeySource::JwksFile(path) => {
            let bytes = key_file::read(path, MAX_SET_BYTES).map_err(|error| unreadable(path, &error))?;
            let place = format!("the key set {}", path.display());
            let read = KeySet::read(&bytes, algorithms, Origin::File);
            read.map(Some).map_err(|why| unusable_set(&place, &why))
        }
        KeySource::JwksUrl(_) => Ok(None),
    }
}

/// The secret that signs, for an HMAC entry with a key of its own.
pub(super) fn secret(source: &KeySource, algorithm: Algorithm) -> Result<Option<Vec<u8>>, Mistake> {
    let (bytes, place) = match source {
        KeySource::File { path, generate: true } => {
            (existing_or_made(path, algorithm, Keys::Make)?, path.display().to_string())
        }
        KeySource::File { path, generate: false } => {
            let read = key_file::read(path, MAX_KEY_BYTES).map_err(|error| unreadable(path, &error))?;
            (Some(read), path.display().to_string())
        }
        KeySource::Env { name, value } => (Some(value.0.clone()), name.clone()),
        KeySource::JwksFile(_) | KeySource::JwksUrl(_) => return Ok(None),
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let secret = key_file::without_newline(&bytes);
    Key::secret(algorithm, secret).map_err(|why| unusable(&place, &why))?;
    Ok(Some(secret.to_vec()))
}

fn only(algorithms: &[Algorithm]) -> Option<Algorithm> {
    match algorithms {
        [only] => Some(*only),
        _ => None, // reported where the algorithms are read
    }
}

fn existing_or_made(path: &Path, algorithm: Algorithm, how: Keys) -> Result<Option<Vec<u8>>, Mistake> {
    let read = || key_file::read(path, MAX_KEY_BYTES);
    match (read(), how) {
        (Ok(bytes), _) => Ok(Some(bytes)),
        (Err(error), Keys::CheckOnly) if error.kind() == ErrorKind::NotFound => Ok(None),
        (Err(error), Keys::Make) if error.kind() == ErrorKind::NotFound => {
            let made = key_file::make(path, algorithm).and_then(|()| read());
            made.map(Some).map_err(|error| unmakeable(path, &error))
        }
        (Err(error), _) => Err(unreadable(path, &error)),
    }
}

fn inline(algorithm: Algorithm, bytes: &[u8]) -> Result<KeySet, KeyError> {
    let key = match algorithm.family() {
        Family::Hmac => Key::secret(algorithm, key_file::without_newline(bytes)),
        _ => Key::pem(algorithm, bytes),
    };
    key.map(KeySet::Inline)
}

fn unusable(place: &str, why: &KeyError) -> Mistake {
    Mistake::new(FIELD, format!("{place} cannot be used: {why}"), why.hint())
}

pub(super) fn unusable_set(place: &str, why: &SetError) -> Mistake {
    Mistake::new(FIELD, format!("{place} cannot be used: {why}"), why.hint())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Mistake {
    let hint = match error.kind() {
        ErrorKind::NotFound => "create it, or set `generate: true` for an HMAC secret",
        ErrorKind::PermissionDenied => "let the user that quotad runs as read it",
        _ => "name a readable file",
    };
    Mistake::new(FIELD, format!("cannot read {}: {error}", path.display()), hint)
}

fn unmakeable(path: &Path, error: &std::io::Error) -> Mistake {
    let message = format!("cannot make the key file {}: {error}", path.display());
    Mistake::new(FIELD, message, "let the user that quotad runs as write there, or create the file")
}
