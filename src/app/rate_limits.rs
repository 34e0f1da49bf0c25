//! The directory of rate limits: loaded at the start and when it changes, logged when it is refused.
//!
//! Promise: a refused directory never ends the process. At the start there is then nothing to answer from; later what
//! was in force stays. One that cannot hold together with the policies is refused like one that is wrong in itself.

use crate::config::ratelimit::{RateLimitConfig, RateLimitFolder};
use crate::config::{Config, Diagnostic, Fingerprint, Item, Mistakes};
use crate::engine::rate_limit::{RateLimitSet, RateLimits, shared};
use std::path::PathBuf;
use std::sync::Arc;

/// What was loaded, and from what.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    folder: Option<RateLimitFolder>,
    /// None: it could not be read.
    seen: Option<Fingerprint>,
    limits: RateLimits,
    /// What was loaded last could not hold together with the policies, so other policies may heal it.
    at_odds: bool,
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
        self.at_odds = false;
        let Some(folder) = &self.folder else {
            self.limits = RateLimits::Off;
            return true;
        };
        match folder.load().map(|loaded| (conflicts(config, &loaded.set), loaded)) {
            Ok((found, loaded)) if found.is_empty() => {
                report(folder, &loaded);
                self.limits = RateLimits::Set(Arc::new(loaded.set));
            }
            Ok((found, _)) => {
                self.at_odds = true;
                self.refuse(&Mistakes::from(found));
            }
            Err(mistakes) => self.refuse(&mistakes),
        }
        true
    }

    /// The directory as it is to be in force with a new configuration. It is read again where it may be another now, so
    /// that both can change at once.
    ///
    /// # Errors
    /// What of the configuration cannot hold together with it.
    pub(super) fn beside(&self, config: &Config) -> Result<Self, Mistakes> {
        let mut next = self.clone();
        next.refresh(config, if self.at_odds { Asked::Yes } else { Asked::No });
        match &next.limits {
            RateLimits::Set(set) => {
                let found = conflicts(config, set);
                if found.is_empty() { Ok(next) } else { Err(Mistakes::from(found)) }
            }
            RateLimits::Off | RateLimits::Refused => Ok(next),
        }
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

/// What of a configuration and a directory cannot hold together, with the file and line of the policy.
pub(super) fn conflicts(config: &Config, set: &RateLimitSet) -> Vec<Diagnostic> {
    let found = shared::conflicts(set, &config.envoy.ratelimit_options, &config.policies);
    found.into_iter().map(|(index, mistake)| config.locate(Item::Policy(index), mistake)).collect()
}

fn report(folder: &RateLimitFolder, loaded: &RateLimitConfig) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (files, domains) = (loaded.files, loaded.set.domains());
    tracing::info!(files, domains, "rate limits of {} are in force", folder.path.display());
}
