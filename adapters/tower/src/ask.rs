//! What a handler or a layer asks about.

use std::time::Duration;

/// Policies to consult, all or none, and by what. A `&str` is one policy.
///
/// ```
/// # use quotad_tower::Ask;
/// let ask = Ask::policy("login-per-account").and("login-per-ip").cost(2).entry("account", "7");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub(crate) policies: Vec<String>,
    pub(crate) cost: Option<u32>,
    pub(crate) entries: Vec<(String, String)>,
    pub(crate) settle_within: Option<Duration>,
}

impl Ask {
    /// This policy of the service.
    pub fn policy(name: impl Into<String>) -> Self {
        Self { policies: vec![name.into()], ..Self::default() }
    }

    /// This one too: all of them are charged, or none.
    #[must_use]
    pub fn and(mut self, name: impl Into<String>) -> Self {
        self.policies.push(name.into());
        self
    }

    /// Units to charge, in the place of the policies' own cost.
    #[must_use]
    pub fn cost(mut self, units: u32) -> Self {
        self.cost = Some(units);
        self
    }

    /// A fact beside `ip`, `user`, `claim:NAME`, `method` and `route`, or in the place of one of them.
    #[must_use]
    pub fn entry(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.entries.push((name.into(), value.into()));
        self
    }

    /// The cost is a reservation, to be settled within this time: a millisecond at least, an hour at most.
    #[must_use]
    pub fn settle_within(mut self, time: Duration) -> Self {
        self.settle_within = Some(time);
        self
    }
}

impl From<&str> for Ask {
    fn from(policy: &str) -> Self {
        Self::policy(policy)
    }
}

impl From<&Ask> for Ask {
    fn from(ask: &Ask) -> Self {
        ask.clone()
    }
}
