//! Where a demand is counted: on its key's own counter, or on the overflow counter of its policy.
//!
//! A key that is new while its policy has no room (`ledger.rs`) is counted on the overflow counter, which all such keys share. What
//! a key has used there is not known apart from what others have, so a key that gets a counter of its own takes the
//! overflow counter's state along, as if all of it were its own.
//!
//! Promise: a policy's bound holds for each key, whichever way it goes between the two:
//!
//! - overflow → own: the new counter begins with every charge that the key made on the overflow counter, and with those
//!   of others. It may refuse for one window what would have fitted; it never admits more.
//! - own → overflow: a key leaves its own counter only when that was swept, and swept is what counts no more.
//!
//! Both counters' shards are locked when this is decided, so no charge falls between them. Only keys whose shard
//! sent one there within the rule's memory look at the overflow counter at all; before the first overflow nothing is paid.
//!
//! A lease that was taken on the overflow counter is renewed where it is held, and moves to a counter of its key's own as
//! soon as there is room for one; a release takes it off both. A refund takes nothing off a counter that others share, for what it
//! would give back may be theirs.

use super::shard::{Counted, Id, Log, Shard};
use super::take::Locked;
use super::{LeaseLimit, MemoryStore};
use crate::engine::ask::{Ask, Demand, Take};
use crate::engine::key::Key;
use crate::engine::leases::LeaseSet;
use crate::engine::rule::Rule;
use crate::engine::units::Moment;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// Most leases that a new counter takes along. Of a limit with more, keys stay on the overflow counter until it has
/// fewer, or until the shard has had room for a whole TTL.
const MOST_COPIED: usize = 256;

/// Where one demand is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The key's own counter.
    own: Id,
    /// What it reads.
    pub(super) read: Id,
    /// What it charges.
    pub(super) charge: Id,
}

/// One a demand.
pub(super) type Spots = SmallVec<[Spot; 2]>;

impl Spot {
    /// Its own counter, whatever the overflow counter holds.
    pub(super) fn own(own: Id) -> Self {
        Self { own, read: own, charge: own }
    }

    /// Whether it is read where others count too.
    pub(super) fn is_shared(self) -> bool {
        self.read != self.own
    }

    /// Whether nothing is to be changed here: a refund may not touch what others share.
    pub(super) fn is_idle(self, demand: &Demand) -> bool {
        demand.takes() == Take::Peek || (demand.takes() == Take::Refund && self.read != self.own)
    }

    /// Before a charge: a new counter takes the overflow counter's state along, and a shard that sends a key to the
    /// overflow counter remembers it.
    pub(super) fn prepare(self, locked: &mut Locked<'_>, rule: &Rule) {
        let now = locked.now;
        if self.charge != self.own {
            if let Some(shard) = locked.shard(self.own) {
                shard.note_crowded(now.plus(rule.memory()));
            }
        } else if self.read != self.own {
            take_along(locked, self.read, self.own, rule);
        }
    }
}

impl MemoryStore {
    /// The spots of all demands, when one of them concerns an overflow counter: every shard is locked anew for that, and the
    /// decision's moment is that of the new locks. The caller must look again for an answer that was given meanwhile.
    pub(super) fn cross<'a>(&'a self, ask: &Ask, own: &[Id], request: Option<Id>) -> (Locked<'a>, Spots) {
        let over: SmallVec<[Id; 2]> =
            ask.demands.iter().map(|demand| self.id(&demand.key.overflow())).collect();
        let mut locked = self.lock_all(own.iter().chain(&over).chain(&request));
        let now = locked.now;
        let spot = |((demand, own), over): ((&Demand, &Id), &Id)| match locked.shard(*own) {
            Some(shard) => place(shard, (*own, *over), (&demand.rule, now), self.max_keys_a_shard),
            None => Spot::own(*own),
        };
        let mut spots: Spots = ask.demands.iter().zip(own).zip(&over).map(spot).collect();
        for (spot, demand) in spots.iter_mut().zip(&ask.demands) {
            let goes_along = spot.read != spot.own && spot.charge == spot.own;
            if goes_along && matches!(demand.rule, Rule::Leases(_)) && !is_small(&mut locked, spot.read) {
                spot.charge = spot.read;
            }
        }
        let shared = spots.iter().filter(|spot| spot.charge != spot.own).count();
        if shared > 0 {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
        }
        (locked, spots)
    }

    /// Whether a demand may concern an overflow counter.
    pub(super) fn crosses(&self, ask: &Ask, own: &[Id], locked: &mut Locked<'_>) -> bool {
        let now = locked.now;
        ask.demands.iter().zip(own).any(|(demand, id)| {
            locked.shard(*id).is_some_and(|shard| {
                (shard.was_crowded(now) || shard.is_full(*id, self.max_keys_a_shard))
                    && !holds(shard, *id, &demand.rule)
            })
        })
    }

    /// Renews a lease where it is held.
    pub(super) fn renew_under(&self, one: &LeaseLimit, lease: &str) -> bool {
        let own = self.id(&one.key);
        let over = self.overflow_id(&one.key);
        let mut locked = self.lock_all(std::iter::once(&own).chain(&over));
        let now = locked.now;
        let renew = |held: &mut LeaseSet| one.limit.renew(held, now, lease);
        if locked.shard(own).and_then(|shard| shard.change_leases(own, renew)).unwrap_or(false) {
            return true;
        }
        let Some(over) = over else { return false };
        if !locked.shard(over).and_then(|shard| shard.change_leases(over, renew)).unwrap_or(false) {
            return false;
        }
        let rule = Rule::Leases(one.limit);
        let most = self.max_keys_a_shard;
        let has_room =
            locked.shard(own).is_some_and(|shard| !shard.is_full(own, most) && !holds(shard, own, &rule));
        if has_room && is_small(&mut locked, over) {
            // Renewed on the overflow counter for ever, it would keep new keys of its shard there too.
            take_along(&mut locked, over, own, &rule);
            if let Some(shard) = locked.shard(over) {
                shard.change_leases(over, |held| one.limit.release(held, now, lease));
            }
        } else if let Some(shard) = locked.shard(own) {
            shard.note_crowded(now.plus(one.limit.ttl));
        }
        true
    }

    /// Gives a lease back wherever it is held; false where it is nowhere.
    pub(super) fn release_under(&self, one: &LeaseLimit, lease: &str) -> bool {
        let own = self.id(&one.key);
        let over = self.overflow_id(&one.key);
        let mut locked = self.lock_all(std::iter::once(&own).chain(&over));
        let now = locked.now;
        let release = |held: &mut LeaseSet| one.limit.release(held, now, lease);
        let mut on =
            |id| locked.shard(id).and_then(|shard| shard.change_leases(id, release)).unwrap_or(false);
        // Both: the one may have taken it along from the other.
        let (here, there) = (on(own), over.is_some_and(on));
        here || there
    }

    /// The overflow counter of a key, when there has been need of any.
    fn overflow_id(&self, key: &Key) -> Option<Id> {
        (self.overflowed() > 0).then(|| self.id(&key.overflow()))
    }
}

/// The spot of one demand, by its own shard as it is.
fn place(shard: &Shard, (own, over): (Id, Id), (rule, now): (&Rule, Moment), most: usize) -> Spot {
    if holds(shard, own, rule) {
        Spot::own(own)
    } else if shard.is_full(own, most) {
        Spot { own, read: over, charge: over }
    } else if shard.was_crowded(now) {
        Spot { own, read: over, charge: own }
    } else {
        Spot::own(own)
    }
}

/// Whether the key has a state of its own; it is then not new, whatever the domain holds.
fn holds(shard: &Shard, id: Id, rule: &Rule) -> bool {
    match rule {
        Rule::Window(_) => shard.logs.get(id).is_some(),
        Rule::Bucket(_) => shard.buckets.get(id).is_some(),
        Rule::Fixed(_) => shard.counts.get(id).is_some(),
        Rule::Leases(_) => shard.leases(id).is_some(),
    }
}

/// Whether the leases of a counter are few enough to be copied under two locks.
fn is_small(locked: &mut Locked<'_>, id: Id) -> bool {
    locked.shard(id).and_then(|shard| shard.leases(id)).is_none_or(|held| held.len() <= MOST_COPIED)
}

/// Begins a counter with the state of another.
fn take_along(locked: &mut Locked<'_>, from: Id, to: Id, rule: &Rule) {
    let Some(shard) = locked.shard(from) else { return };
    match rule {
        Rule::Window(_) => {
            let state = shard.logs.get(from).map(|log| Log { charges: log.charges.clone(), ends: log.ends });
            if let (Some(state), Some(shard)) = (state, locked.shard(to)) {
                shard.put_log(to, state);
            }
        }
        Rule::Bucket(_) => {
            let state = shard.buckets.get(from).copied();
            if let (Some(state), Some(shard)) = (state, locked.shard(to)) {
                shard.put_bucket(to, state);
            }
        }
        Rule::Fixed(_) => {
            let state = shard.counts.get(from).map(|held| Counted { count: held.count, ends: held.ends });
            if let (Some(state), Some(shard)) = (state, locked.shard(to)) {
                shard.put_count(to, state);
            }
        }
        Rule::Leases(_) => {
            let state = shard.leases(from).cloned();
            if let (Some(state), Some(shard)) = (state, locked.shard(to)) {
                shard.put_leases(to, state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryOptions, StoreClock};
    use super::*;
    use crate::engine::ask::Weight;
    use crate::engine::bucket::Bucket;
    use crate::engine::fixed::Fixed;
    use crate::engine::leases::Leases;
    use crate::engine::units::Micros;
    use crate::engine::window::Window;
    use crate::store::{HeldLease, Renewed};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    const START: u64 = 1_700_000_000_000_000;
    const WINDOW: Micros = Micros(10_000_000);
    /// What a flood holds its keys for: shorter, so that room comes back within a window.
    const SHORT: Micros = Micros(2_000_000);
    /// Enough keys that nearly every shard of a store for one key a shard is full.
    const FLOOD: u64 = 900;

    struct World {
        store: MemoryStore,
        at: Arc<AtomicU64>,
        floods: u64,
    }

    impl World {
        fn new() -> Self {
            let at = Arc::new(AtomicU64::new(START));
            let clock = StoreClock::Manual(Arc::clone(&at));
            let options = MemoryOptions { max_keys: 1, clock, ..MemoryOptions::default() };
            Self { store: MemoryStore::new(options).unwrap(), at, floods: 0 }
        }

        fn now(&self) -> u64 {
            self.at.load(Ordering::SeqCst)
        }

        fn wait(&self, span: u64) {
            self.at.fetch_add(span, Ordering::SeqCst);
        }

        /// New keys of a policy, of which each is asked for once.
        fn flood(&mut self, policy: &str, rule: Rule) {
            for _ in 0..FLOOD {
                self.floods += 1;
                let who = format!("flood-{}", self.floods);
                self.take((policy, &who), rule, 1, Some(&who));
            }
        }

        /// Whether one demand passes.
        fn take(&self, (policy, who): (&str, &str), rule: Rule, cost: u32, lease: Option<&str>) -> bool {
            let demand = Demand {
                key: key(policy, who, &rule),
                rule,
                cost,
                take: Take::Charge,
                weight: Weight::Enforced,
                lease: lease.map(Into::into),
            };
            let ask = Ask { demands: std::iter::once(demand).collect(), ..Ask::default() };
            self.store.take_now(&ask).passed(&ask.demands)
        }

        fn lease(&self, who: &str, limit: Leases, id: &str) -> HeldLease {
            let key = key("p", who, &Rule::Leases(limit));
            let limits = std::iter::once(LeaseLimit { key, limit, weight: Weight::Enforced }).collect();
            HeldLease { id: id.into(), limits, token: None, token_ends: None }
        }
    }

    fn key(policy: &str, who: &str, rule: &Rule) -> Key {
        Key::new("d", policy, [("who", who)].into_iter(), rule)
    }

    fn rules() -> impl Strategy<Value = Rule> {
        prop_oneof![
            (1_u64..8).prop_map(|limit| Rule::Window(Window::new(limit, WINDOW))),
            (65_u64..90).prop_map(|limit| Rule::Window(Window::new(limit, WINDOW))),
            (1_u64..8, 1_u64..8).prop_map(|(limit, burst)| Rule::Bucket(Bucket::new(limit, WINDOW, burst))),
            (1_u64..8).prop_map(|limit| Rule::Fixed(Fixed { limit, window: WINDOW })),
        ]
    }

    /// The most that one key may be admitted in `span`.
    fn bound(rule: &Rule, span: u64) -> u64 {
        match rule {
            Rule::Window(window) => window.limit * (span / window.window.0 + 1),
            Rule::Bucket(bucket) => bucket.burst + span / bucket.emission,
            Rule::Fixed(fixed) => fixed.limit * (span / fixed.window.0 + 2),
            Rule::Leases(leases) => leases.limit,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn no_key_gets_more_than_its_policy_says_however_it_crosses(
            rule in rules(),
            // Of one kind and another: a flood, a wait within a window, tries of some keys.
            steps in prop::collection::vec((0..6_u8, 0..4_u8, 0..3_000_000_u64, 1..30_u32), 10..60),
        ) {
            let (mut world, mut floods) = (World::new(), 0);
            let filler = Rule::Bucket(Bucket::new(1, SHORT, 1));
            let mut admitted: HashMap<u8, Vec<(u64, u64)>> = HashMap::new();
            for (kind, who, wait, tries) in steps {
                match kind {
                    0 if floods < 4 => {
                        floods += 1;
                        world.flood("filler", filler);
                    }
                    // The flood's keys are over, and those who ask sweep them.
                    1 => world.wait(SHORT.0 + wait),
                    2 => world.wait(wait / 100),
                    _ => {
                        for _ in 0..tries {
                            let cost = u64::from(tries).min(rule.capacity()).min(3);
                            if world.take(("p", &who.to_string()), rule, u32::try_from(cost).unwrap(), None) {
                                admitted.entry(who).or_default().push((world.now(), cost));
                            }
                        }
                    }
                }
            }
            for charges in admitted.values() {
                for (i, (from, _)) in charges.iter().enumerate() {
                    let mut units = 0;
                    for (to, cost) in &charges[i..] {
                        units += cost;
                        let most = bound(&rule, to - from);
                        prop_assert!(units <= most, "{} units, at most {}, in {} µs of {:?}", units, most, to - from, rule);
                    }
                }
            }
        }

        #[test]
        fn no_key_holds_more_leases_than_its_limit_however_it_crosses(
            limit in 1_u64..4,
            steps in prop::collection::vec((0..7_u8, 0..3_u8, 0..6_u8, 0..4_000_000_u64), 20..120),
        ) {
            let (mut world, mut floods) = (World::new(), 0);
            let filler = Rule::Bucket(Bucket::new(1, SHORT, 1));
            let leases = Leases { limit, ttl: WINDOW };
            // What the holders know: of each key, the leases with their ends.
            let mut held: HashMap<u8, HashMap<String, u64>> = HashMap::new();
            for (kind, who, id, wait) in steps {
                let (subject, id) = (who.to_string(), format!("{who}-{id}"));
                let own = held.entry(who).or_default();
                match kind {
                    0 if floods < 4 => {
                        floods += 1;
                        world.flood("filler", filler);
                    }
                    1 => world.wait(wait),
                    2 => {
                        let lease = world.lease(&subject, leases, &id);
                        let (renewed, now) = (world.store.renew_one(&lease), world.now());
                        let known = own.get(&id).is_some_and(|ends| *ends > now);
                        prop_assert_eq!(renewed == Renewed::Held, known, "{} of a lease that is held: {}", id, known);
                        if known {
                            own.insert(id, now + WINDOW.0);
                        }
                    }
                    3 => {
                        let lease = world.lease(&subject, leases, &id);
                        world.store.release_now(&lease);
                        own.remove(&id);
                        prop_assert_eq!(world.store.renew_one(&lease), Renewed::Lost);
                    }
                    _ => {
                        if world.take(("p", &subject), Rule::Leases(leases), 1, Some(&id)) {
                            own.insert(id, world.now() + WINDOW.0);
                        }
                    }
                }
                let now = world.now();
                let live = u64::try_from(held[&who].values().filter(|ends| **ends > now).count()).unwrap();
                prop_assert!(live <= limit, "{} leases of {}", live, limit);
            }
        }
    }

    #[test]
    fn room_that_is_back_gives_nothing_twice_and_the_wait_for_it_ends() {
        let rule = Rule::Window(Window::new(5, WINDOW));
        let mut world = World::new();
        world.flood("filler", Rule::Bucket(Bucket::new(1, SHORT, 1)));
        let all = |world: &World| (0..20).filter(|_| world.take(("p", "one"), rule, 1, None)).count();
        assert_eq!(all(&world), 5);
        assert!(world.store.overflowed() >= 20, "on the overflow counter");
        world.wait(SHORT.0);
        assert_eq!(all(&world), 0, "on a counter of its own now, or soon");
        let overflowed = world.store.overflowed();
        world.wait(WINDOW.0 - SHORT.0);
        assert_eq!(all(&world), 5);
        assert_eq!(world.store.overflowed(), overflowed, "by now");
    }

    #[test]
    fn leases_that_are_renewed_for_ever_keep_nobody_on_the_overflow_counter() {
        let leases = Leases { limit: 1, ttl: WINDOW };
        let mut world = World::new();
        let shard = |world: &World, who: &str| {
            world.store.id(&key("p", who, &Rule::Leases(leases))).shard(super::super::SHARDS)
        };
        let neighbour =
            (0..).map(|i| format!("n{i}")).find(|name| shard(&world, name) == shard(&world, "one")).unwrap();
        world.flood("filler", Rule::Bucket(Bucket::new(1, SHORT, 1)));
        assert!(world.take(("p", "one"), Rule::Leases(leases), 1, Some("a")));
        assert!(world.store.overflowed() > FLOOD / 2, "on the overflow counter");
        let renews = |world: &World| world.store.renew_one(&world.lease("one", leases, "a")) == Renewed::Held;
        for _ in 0..6 {
            world.wait(WINDOW.0 / 2);
            // Who asks sweeps what is over.
            for i in 0..FLOOD {
                world.take(("q", &i.to_string()), Rule::Bucket(Bucket::new(1, SHORT, 1)), 0, None);
            }
            assert!(renews(&world));
        }
        assert!(world.take(("p", &neighbour), Rule::Leases(leases), 1, Some("b")), "its place is its own");
        assert!(!world.take(("p", "one"), Rule::Leases(leases), 1, Some("c")), "the limit holds");
    }

    #[test]
    fn a_refund_takes_nothing_off_what_others_share() {
        let rule = Rule::Fixed(Fixed { limit: 5, window: WINDOW });
        let mut world = World::new();
        world.flood("filler", Rule::Bucket(Bucket::new(1, SHORT, 1)));
        assert!(world.take(("p", "one"), rule, 5, None));
        let refund = Demand {
            key: key("p", "other", &rule),
            rule,
            cost: 5,
            take: Take::Refund,
            weight: Weight::Enforced,
            lease: None,
        };
        world.store.take_now(&Ask { demands: std::iter::once(refund).collect(), ..Ask::default() });
        assert!(!world.take(("p", "one"), rule, 1, None));
    }
}
