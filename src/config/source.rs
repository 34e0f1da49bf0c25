//! Where a configuration comes from, and reading the file within bounds.

use super::diagnostic::{Diagnostic, Findings, Mistakes, Place, elsewhere};
use super::document::Document;
use super::environment::Environment;
use super::log::LogConfig;
use super::ratelimit::environment::{Taken, apply};
use super::settings::{Overrides, Settings};
use crate::engine::mistake::Mistake;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The variable that names the file.
pub(super) const CONFIG_VARIABLE: &str = "QUOTAD_CONFIG";
/// The file that is taken when none is named.
const USUAL_PLACE: &str = "config/quotad.yaml";
/// The largest file that is read; ten thousand policies fit.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// The policies that quotad is shipped with.
const SHIPPED: &str = include_str!("../../config/quotad.yaml");

/// A configuration's file, environment and flags.
#[derive(Clone, Debug)]
pub struct Source {
    pub(super) origin: Origin,
    pub(super) environment: Environment,
    pub(super) overrides: Overrides,
    pub(super) names: Names,
}

/// Whose variables count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Our own.
    #[default]
    Ours,
    /// Those of envoyproxy/ratelimit too, below our own.
    RateLimit,
}

/// Where the text is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Origin {
    File(PathBuf),
    Text { name: String, text: String },
}

impl std::fmt::Debug for Origin {
    /// A text may hold a password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Text { name, .. } => out.write_str(name),
        }
    }
}

/// A file's content, so that a touched file and a changed one can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of what was hashed elsewhere.
    pub(super) fn new(hash: u64) -> Self {
        Self(hash)
    }
}

impl Source {
    /// This file, with the environment of the process.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Origin::File(path.into()))
    }

    /// The configuration that is built in. Names of files in it are relative to the working directory.
    #[must_use]
    pub fn shipped() -> Self {
        Self::text("quotad.yaml (built in)", SHIPPED)
    }

    /// A text under a name.
    #[must_use]
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::of(Origin::Text { name: name.into(), text: text.into() })
    }

    /// The file that is named, or else that of `QUOTAD_CONFIG`, or else `./config/quotad.yaml`, or else the one built in.
    #[must_use]
    pub fn find(named: Option<PathBuf>, environment: Environment) -> Self {
        let variable = environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let named = named.or_else(|| variable.map(PathBuf::from));
        let usual = || Path::new(USUAL_PLACE).exists().then(|| PathBuf::from(USUAL_PLACE));
        let source = named.or_else(usual).map_or_else(Self::shipped, Self::file);
        source.with_environment(environment)
    }

    /// As [`Source::find`], but with the variables of envoyproxy/ratelimit too, and no file unless one is named.
    #[must_use]
    pub fn rate_limit(named: Option<PathBuf>, environment: Environment) -> Self {
        let variable = environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
        let named = named.or_else(|| variable.map(PathBuf::from));
        let source = named.map_or_else(|| Self::text("the environment", "{}\n"), Self::file);
        Self { names: Names::RateLimit, ..source.with_environment(environment) }
    }

    /// Lays the variables of envoyproxy/ratelimit over the file's settings, if they count.
    pub(super) fn take_names(&self, settings: &mut Settings, out: &mut Findings<'_>) -> Option<Taken> {
        (self.names == Names::RateLimit).then(|| apply(&self.environment, settings, out))
    }

    /// With these variables instead of the process's.
    #[must_use]
    pub fn with_environment(self, environment: Environment) -> Self {
        Self { environment, ..self }
    }

    /// With these flags.
    #[must_use]
    pub fn with_overrides(self, overrides: Overrides) -> Self {
        Self { overrides, ..self }
    }

    /// What environment and flags say of logging, known before the file is read; the default in the place of what is
    /// wrong there, which [`super::load`] reports.
    #[must_use]
    pub fn log(&self) -> LogConfig {
        let document = Document::default();
        let mut ignored = Findings::new(&document);
        let mut settings = Settings::default();
        self.take_names(&mut settings, &mut ignored);
        settings.apply_environment(&self.environment, &mut ignored);
        settings.apply_flags(&self.overrides, &mut ignored);
        settings.log
    }

    /// The file to watch; none when the configuration is built in.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(path) => Some(path),
            Origin::Text { .. } => None,
        }
    }

    /// As messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Text { name, .. } => name.clone(),
        }
    }

    fn of(origin: Origin) -> Self {
        Self {
            origin,
            environment: Environment::process(),
            overrides: Overrides::default(),
            names: Names::Ours,
        }
    }
}

/// Reads the text of a source.
///
/// # Errors
/// There is no such file, it is too large, or it is no text.
pub(super) fn open(source: &Source) -> Result<Document, Mistakes> {
    let path = match &source.origin {
        Origin::Text { name, text } => return Ok(Document::new(name.clone(), Path::new(""), text.clone())),
        Origin::File(path) => path,
    };
    let whole = |message: String, hint: &str| {
        let place = Place::File { name: source.name(), position: None };
        Mistakes::from(vec![elsewhere(place, Mistake::new("", message, hint))])
    };
    let bytes = read(path).map_err(|error| whole(cannot_read(&error), hint_for(&error)))?;
    let Some(bytes) = bytes else {
        let message = format!("the file is larger than {MAX_FILE_BYTES} bytes");
        return Err(whole(message, "name the configuration, not a log or an archive"));
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    String::from_utf8(bytes).map(|text| Document::new(source.name(), folder, text)).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let document = Document::new(source.name(), folder, text);
        Mistakes::from(vec![not_utf8(&document, valid)])
    })
}

fn not_utf8(document: &Document, valid: usize) -> Diagnostic {
    let mistake = Mistake::new("", "the file is not UTF-8 from here on", "save the file as UTF-8");
    super::diagnostic::in_file(document, "", &(valid..valid), mistake)
}

/// The bytes of a file; none when there are too many.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more; a pipe or a device has no length to ask for.
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE_BYTES);
    Ok(fits.then_some(bytes))
}

fn cannot_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "the file may not be read".to_owned(),
        io::ErrorKind::IsADirectory => "this is a folder".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}

fn hint_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "name a file with --config FILE, or leave it out for the shipped configuration"
        }
        io::ErrorKind::PermissionDenied => "give the user that runs quotad the right to read it",
        io::ErrorKind::IsADirectory => "name the file in it: --config FOLDER/quotad.yaml",
        _ => "try to read it as the same user",
    }
}

/// What a file holds, in a number: equal for equal content, whatever its times.
///
/// # Errors
/// The file cannot be read.
pub fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    let bytes = read(path)?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Ok(Fingerprint(hasher.finish()))
}
