//! The directory of rate limits: loaded at the start and when it changes, logged when it is refused.
//!
//! Promise: a refused directory never ends the process. At the start there is then nothing to answer from; later what
//! was in force stays.

use crate::config::ratelimit::{RateLimitConfig, RateLimitFolder};
use crate::config::{Config, Fingerprint, Mistakes};
use crate::engine::rate_limit::RateLimits;
use std::path::PathBuf;
use std::sync::Arc;

/// What was loaded, and from what.
#[derive(Debug, Default)]
pub(super) struct Directory {
    folder: Option<RateLimitFolder>,
    /// None: it could not be read.
    seen: Option<Fingerprint>,
    limits: RateLimits,
}

/// Whether somebody asked to load again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    No,
}

impl Directory {
    /// Loads what a configuration names.
    pub(super) fn open(config: &Config) -> Self {
        let mut directory = Self::default();
        directory.refresh(config, Asked::Yes);
        directory
    }

    /// What is in force.
    pub(super) fn limits(&self) -> &RateLimits {
        &self.limits
    }

    /// Loads again when the directory is another one, holds something else, or somebody asked. Whether what is in force
    /// may have changed.
    pub(super) fn refresh(&mut self, config: &Config, asked: Asked) -> bool {
        let folder = config.envoy.ratelimit_config.clone();
        let seen = folder.as_ref().and_then(RateLimitFolder::fingerprint);
        if asked == Asked::No && folder == self.folder && seen == self.seen {
            return false;
        }
        self.seen = seen;
        self.folder = folder;
        let Some(folder) = &self.folder else {
            self.limits = RateLimits::Off;
            return true;
        };
        match folder.load() {
            Ok(loaded) => {
                report(folder, &loaded);
                self.limits = RateLimits::Set(Arc::new(loaded.set));
            }
            Err(mistakes) => self.refuse(&mistakes),
        }
        true
    }

    fn refuse(&mut self, mistakes: &Mistakes) {
        match self.limits {
            RateLimits::Set(_) => {
                tracing::error!("the rate limits were not reloaded; the old ones stay\n{mistakes}");
            }
            RateLimits::Off | RateLimits::Refused => {
                self.limits = RateLimits::Refused;
                tracing::error!(
                    "the rate limits were refused; there are none until this is mended\n{mistakes}"
                );
            }
        }
    }

    /// The folder to watch, with all that is in it.
    pub(super) fn watched(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path.clone())
    }
}

fn report(folder: &RateLimitFolder, loaded: &RateLimitConfig) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (files, domains) = (loaded.files, loaded.set.domains());
    tracing::info!(files, domains, "rate limits of {} are in force", folder.path.display());
}
