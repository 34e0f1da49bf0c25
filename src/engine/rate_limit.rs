//! Limits in the form of envoyproxy/ratelimit: a tree of keys and values for each domain, whose leaves say how much.
//!
//! Promise: the same descriptor finds the same limit as there, by patterns too; but where no pattern says so a key and a
//! value are two things here, so that `_` in one cannot stand for another.
//!
//! Must never: look further after an exact entry was found; match a descriptor that is shorter or longer than a path.

#[cfg(test)]
mod lookup_tests;
mod pattern;
pub mod shared;
mod tree;

pub use tree::{Builder, Duplicate, Path, RateLimitSet, Spot};

use std::sync::Arc;

/// The length of a window, aligned to the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
    /// 7 days; weeks begin on Thursday.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

impl Unit {
    /// Its seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
            Self::Month => 2_592_000,
            Self::Year => 31_536_000,
        }
    }
}

/// How much a limit allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// No end.
    Unlimited,
    /// So many a unit; 0 is a ban.
    Of(u32, Unit),
}

/// The limit of one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// For `replaces`, and shown in answers; empty: none.
    pub name: Arc<str>,
    /// Names of limits that this one takes the place of.
    pub replaces: Vec<Arc<str>>,
    /// How much.
    pub quota: Quota,
    /// Counted, never refuses.
    pub shadow: bool,
    /// Refuses only together with all other limits of its kind.
    pub quota_mode: bool,
    /// What goes out with a request that passes.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// How it counts.
    pub counting: Counting,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counting {
    /// As envoyproxy/ratelimit: fixed windows, and what is refused is counted too.
    #[default]
    Everything,
    /// Only what passes, under this algorithm, and for all limits of a request that say so together or for none.
    Passed(super::rule::Algorithm),
}

/// What a descriptor has found.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// Each entry of the descriptor as it is counted: its own key, and its own value, or the pattern's when all values that
    /// match share one counter (`share_threshold`).
    pub counted: Vec<(&'a str, &'a str)>,
}

/// What is known of the limits of the directory.
#[derive(Clone, Debug, Default)]
pub enum RateLimits {
    /// No directory is configured.
    #[default]
    Off,
    /// A directory is configured, and it was wrong from the start: there is nothing to answer from.
    Refused,
    /// These.
    Set(Arc<RateLimitSet>),
}

/// What holds for all limits of the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitOptions {
    /// The header trio of each answer that has a limit.
    pub headers: Option<TrioNames>,
    /// A request that is over passes; its descriptors still say so.
    pub shadow: bool,
    /// Every limit is one in quota mode.
    pub quota: bool,
    /// Answers carry metadata.
    pub metadata: bool,
    /// What is counted of a request that is over.
    pub over_limit: OverLimit,
}

/// What is counted of a request that is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverLimit {
    /// Every descriptor.
    #[default]
    Everything,
    /// The descriptors that are over themselves; the others stay as they were.
    OnlyItself,
    /// The same when it goes over. Of a request with a descriptor that was over before, nothing is counted, and the others
    /// are looked at with no hits.
    NothingOnceOver,
}

/// The names of the header trio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrioNames {
    /// Of the limit.
    pub limit: Arc<str>,
    /// Of what is left.
    pub remaining: Arc<str>,
    /// Of the seconds until the window ends.
    pub reset: Arc<str>,
}

impl Default for TrioNames {
    fn default() -> Self {
        Self {
            limit: "RateLimit-Limit".into(),
            remaining: "RateLimit-Remaining".into(),
            reset: "RateLimit-Reset".into(),
        }
    }
}
