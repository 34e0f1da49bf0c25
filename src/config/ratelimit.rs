//! A directory of rate limits in the format of envoyproxy/ratelimit, loaded as it is.
//!
//! Promise: what that program loads is loaded with the same meaning, and what it refuses is refused as a whole, in its
//! words, with file, line, the line itself and a hint. Every file is read before the answer, so that all broken files
//! are named at once.
//!
//! Must never: change what is in force; join a key and its value, except to refuse what the original cannot tell apart.

mod descriptor;
pub(super) mod environment;
mod folder;
mod keys;
mod limit;
mod metadata;
mod scalar;
mod yaml;

use super::diagnostic::{Diagnostic, Findings, Mistakes};
use super::document::Document;
use super::source::Fingerprint;
use crate::engine::mistake::Mistake;
use crate::engine::rate_limit::{Builder, RateLimitSet};
use folder::Budget;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use yaml::{Node, Value};

/// Where rate limits are, and what of it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitFolder {
    /// The directory.
    pub path: PathBuf,
    /// What a domain in two files is.
    pub domains: Domains,
    /// What a name that begins with a dot is.
    pub dots: DotFiles,
}

/// What a domain in two files is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Domains {
    /// A mistake.
    #[default]
    Once,
    /// One domain, its entries in the order of the files' names.
    Merged,
}

/// What a file or folder is whose name begins with a dot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DotFiles {
    /// Like any other.
    #[default]
    Read,
    /// Left out.
    Skipped,
}

/// A directory that is good.
#[derive(Debug)]
pub struct RateLimitConfig {
    /// Its limits.
    pub set: RateLimitSet,
    /// What holds, and probably not as meant.
    pub warnings: Vec<Diagnostic>,
    /// How many files it has.
    pub files: usize,
}

impl RateLimitFolder {
    /// This directory, with nothing out of the ordinary.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), domains: Domains::default(), dots: DotFiles::default() }
    }

    /// Loads it.
    ///
    /// # Errors
    /// Every file's mistakes; a file that is no YAML has one.
    pub fn load(&self) -> Result<RateLimitConfig, Mistakes> {
        let files = folder::files(&self.path, self.dots)?;
        let mut builder = Builder::default();
        let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
        let mut budget = Budget::default();
        for file in &files {
            let document = folder::bytes(file, &mut budget).and_then(|bytes| folder::document(file, bytes));
            match document.map(|document| read(&document, self.domains, &mut builder)) {
                Ok(Ok(warned)) => warnings.extend(warned),
                Ok(Err(wrong)) | Err(wrong) => mistakes.extend(wrong.iter().cloned()),
            }
        }
        if mistakes.is_empty() {
            Ok(RateLimitConfig { set: builder.build(), warnings, files: files.len() })
        } else {
            Err(Mistakes::from(mistakes))
        }
    }

    /// Names and contents of all files as a number; none when they cannot be read.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let files = folder::files(&self.path, self.dots).ok()?;
        let mut hasher = DefaultHasher::new();
        let mut budget = Budget::default();
        for file in files {
            folder::bytes(&file, &mut budget).ok().hash(&mut hasher);
            file.hash(&mut hasher);
        }
        Some(Fingerprint::new(hasher.finish()))
    }
}

/// Reads one file into the tree: its warnings, or its mistakes.
fn read(document: &Document, domains: Domains, builder: &mut Builder) -> Result<Vec<Diagnostic>, Mistakes> {
    let mut out = Findings::new(document);
    match yaml::parse(document.text()) {
        Err(broken) => {
            let message = format!("error loading config file: {}", broken.message);
            out.wrong("", &broken.span, Mistake::new("", message, broken.hint));
        }
        Ok(root) => {
            if let Some(root) = &root {
                keys::check(root, &mut out);
            }
            if out.count() == 0 {
                read_root(root.as_deref(), domains, builder, &mut out);
            }
        }
    }
    out.finish()
}

const ROOT_HINT: &str = "a file is `domain: NAME` and `descriptors:` with a list; every file of the folder counts, \
                         whatever its ending, so a README or a backup must go elsewhere";

fn read_root(root: Option<&Node>, domains: Domains, builder: &mut Builder, out: &mut Findings<'_>) {
    let no_domain = Mistake::new("domain", "config file cannot have empty domain", ROOT_HINT);
    let Some(root) = root.filter(|root| !root.is_null()) else {
        return out.wrong("", &(0..0), no_domain);
    };
    if !matches!(root.value, Value::Map(_)) {
        let message = format!("error loading config file: the file is {}, not a map", root.kind());
        return out.wrong("", &root.span, Mistake::new("", message, ROOT_HINT));
    }
    keys::warn_of_idle(root, keys::ROOT, "", out);
    let span = root.get("domain").map_or(0..0, |entry| entry.span.clone());
    let domain = match root.get("domain").map(|entry| descriptor::text(&entry.value, "domain", "", out)) {
        Some(None) => return,
        Some(Some(domain)) if !domain.is_empty() => domain,
        _ => return out.wrong("", &span, no_domain),
    };
    if builder.has(&domain) && domains == Domains::Once {
        let message = format!("duplicate domain '{domain}' in config file");
        let hint =
            "an earlier file has it; put its descriptors into one file, or set MERGE_DOMAIN_CONFIG=true";
        return out.wrong("", &span, Mistake::new("domain", message, hint));
    }
    builder.domain(&domain);
    let mut reader = descriptor::Reader { domain: &domain, path: Vec::new(), builder, out };
    reader.read_list(root);
}
