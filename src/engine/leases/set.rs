//! The leases of one key: by id, and by when they end.
//!
//! Most keys hold one to five, so up to [`FEW`] are a list that is looked through. More are a table by id beside an order by
//! end, so that to find, to renew, to take, to give back, and to tell the next and the last end costs O(log n) whatever
//! their number, and to drop those that ended O(log n) each. Only to count the live ones costs a step for each that has
//! ended since the last call that could drop it.

use crate::engine::units::Moment;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Most leases that are a list: looking through them costs as much as two walks down a tree.
const FEW: usize = 64;
/// Fewer than this become a list again: far below [`FEW`], so that no single lease makes a set change its form each time.
const FEW_AGAIN: usize = 16;

/// What a lease of a list points to: its id, as the allocator rounds it.
const FEW_BYTES: usize = 64;
/// What a lease of an index points to: its id with its two counts, and its place in the tree, whose nodes are half full.
const MANY_BYTES: usize = 80 + 64;

/// The leases of one key.
#[derive(Clone, Debug)]
pub struct LeaseSet(Form);

#[derive(Clone, Debug)]
enum Form {
    Few(Vec<Held>),
    Many(Box<Index>),
}

/// One held connection.
#[derive(Clone, Debug)]
struct Held {
    /// Made by the caller: 128 random bits.
    id: Box<str>,
    ends: Moment,
}

#[derive(Clone, Debug, Default)]
struct Index {
    ends: HashMap<Arc<str>, Moment>,
    order: BTreeSet<(Moment, Arc<str>)>,
}

impl Default for LeaseSet {
    fn default() -> Self {
        Self(Form::Few(Vec::new()))
    }
}

impl LeaseSet {
    /// Leases in it, ended ones that were not dropped yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::Few(list) => list.len(),
            Form::Many(index) => index.ends.len(),
        }
    }

    /// Bytes that it takes, at most: an id of [`super::MAX_LEASE_ID_BYTES`] in a list that is half full, or in a table that is a
    /// quarter full with a tree beside it. O(1).
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Form::Few(list) => list.len() * FEW_BYTES + list.capacity() * size_of::<Held>(),
            Form::Many(index) => {
                index.ends.len() * MANY_BYTES + index.ends.capacity() * size_of::<(Arc<str>, Moment)>() * 2
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the last of them ends.
    #[must_use]
    pub fn last_end(&self) -> Option<Moment> {
        match &self.0 {
            Form::Few(list) => list.iter().map(|held| held.ends).max(),
            Form::Many(index) => index.order.last().map(|(ends, _)| *ends),
        }
    }

    /// When a lease ends; none for one that is not in it.
    #[must_use]
    pub fn end_of(&self, id: &str) -> Option<Moment> {
        match &self.0 {
            Form::Few(list) => list.iter().find(|held| *held.id == *id).map(|held| held.ends),
            Form::Many(index) => index.ends.get(id).copied(),
        }
    }

    /// How many end later than `now`.
    #[must_use]
    pub fn live(&self, now: Moment) -> usize {
        match &self.0 {
            Form::Few(list) => list.iter().filter(|held| held.ends > now).count(),
            Form::Many(index) => index.order.len() - index.ended(now),
        }
    }

    /// Of the ends later than `now` the one that `earlier` others come before.
    pub(super) fn nth_end(&self, now: Moment, earlier: usize) -> Option<Moment> {
        match &self.0 {
            Form::Few(list) => {
                let mut ends: Vec<_> = list.iter().map(|held| held.ends).filter(|ends| *ends > now).collect();
                ends.sort_unstable();
                ends.get(earlier).copied()
            }
            Form::Many(index) => {
                index.order.iter().nth(index.ended(now).saturating_add(earlier)).map(|(ends, _)| *ends)
            }
        }
    }

    /// Puts a lease in, or gives it another end.
    pub(super) fn put(&mut self, id: &str, ends: Moment) {
        match &mut self.0 {
            Form::Few(list) => match list.iter_mut().find(|held| *held.id == *id) {
                Some(held) => held.ends = ends,
                None => list.push(Held { id: id.into(), ends }),
            },
            Form::Many(index) => index.put(id, ends),
        }
        if let Form::Few(list) = &self.0
            && list.len() > FEW
        {
            let mut index = Index::default();
            list.iter().for_each(|held| index.put(&held.id, held.ends));
            self.0 = Form::Many(Box::new(index));
        }
    }

    /// Takes a lease out; false when it was not in.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let was_in = match &mut self.0 {
            Form::Few(list) => match list.iter().position(|held| *held.id == *id) {
                Some(at) => {
                    list.swap_remove(at);
                    true
                }
                None => false,
            },
            Form::Many(index) => index.remove(id),
        };
        self.shrink();
        was_in
    }

    /// Drops what ended.
    pub(super) fn drop_ended(&mut self, now: Moment) {
        match &mut self.0 {
            Form::Few(list) => list.retain(|held| held.ends > now),
            Form::Many(index) => {
                while index.order.first().is_some_and(|(ends, _)| *ends <= now) {
                    if let Some((_, id)) = index.order.pop_first() {
                        index.ends.remove(&id);
                    }
                }
            }
        }
        self.shrink();
    }

    /// Lets no lease end later than `latest`.
    pub(super) fn cap(&mut self, latest: Moment) {
        match &mut self.0 {
            Form::Few(list) => list.iter_mut().for_each(|held| held.ends = held.ends.min(latest)),
            Form::Many(index) => {
                while index.order.last().is_some_and(|(ends, _)| *ends > latest) {
                    if let Some((_, id)) = index.order.pop_last() {
                        index.ends.insert(Arc::clone(&id), latest);
                        index.order.insert((latest, id));
                    }
                }
            }
        }
    }

    /// Becomes a list again when few are left.
    fn shrink(&mut self) {
        if let Form::Many(index) = &self.0
            && index.ends.len() < FEW_AGAIN
        {
            let held = |(ends, id): &(Moment, Arc<str>)| Held { id: (**id).into(), ends: *ends };
            self.0 = Form::Few(index.order.iter().map(held).collect());
        }
    }
}

impl Index {
    fn put(&mut self, id: &str, ends: Moment) {
        let id = match self.ends.remove_entry(id) {
            Some((id, before)) => {
                self.order.remove(&(before, Arc::clone(&id)));
                id
            }
            None => id.into(),
        };
        self.order.insert((ends, Arc::clone(&id)));
        self.ends.insert(id, ends);
    }

    fn remove(&mut self, id: &str) -> bool {
        let Some((id, ends)) = self.ends.remove_entry(id) else { return false };
        self.order.remove(&(ends, id))
    }

    fn ended(&self, now: Moment) -> usize {
        self.order.iter().take_while(|(ends, _)| *ends <= now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_set_of_any_size_is_what_a_list_is(
            steps in prop::collection::vec((0..16_u8, 0..120_u8, 0..400_u64), 1..500),
        ) {
            let (mut set, mut list, mut now) = (LeaseSet::default(), HashMap::<String, u64>::new(), 1_000);
            for (kind, id, wait) in steps {
                let id = format!("lease-{id}");
                match kind {
                    0 => {
                        set.drop_ended(Moment(now));
                        list.retain(|_, ends| *ends > now);
                    }
                    1 => {
                        let latest = now + wait;
                        set.cap(Moment(latest));
                        list.values_mut().for_each(|ends| *ends = (*ends).min(latest));
                    }
                    2 | 3 => prop_assert_eq!(set.remove(&id), list.remove(&id).is_some()),
                    4 => now += wait / 8,
                    _ => {
                        set.put(&id, Moment(now + wait));
                        list.insert(id.clone(), now + wait);
                    }
                }
                let mut live: Vec<u64> = list.values().copied().filter(|ends| *ends > now).collect();
                live.sort_unstable();
                prop_assert_eq!(set.len(), list.len());
                prop_assert_eq!(set.live(Moment(now)), live.len());
                prop_assert_eq!(set.end_of(&id).map(|ends| ends.0), list.get(&id).copied());
                prop_assert_eq!(set.last_end().map(|ends| ends.0), list.values().copied().max());
                for earlier in [0, 1, live.len() / 2, live.len()] {
                    let end = set.nth_end(Moment(now), earlier).map(|ends| ends.0);
                    prop_assert_eq!(end, live.get(earlier).copied());
                }
            }
        }
    }

    #[test]
    fn a_key_of_few_leases_takes_no_more_than_a_list() {
        assert_eq!(size_of::<LeaseSet>(), size_of::<Vec<Held>>());
    }
}
