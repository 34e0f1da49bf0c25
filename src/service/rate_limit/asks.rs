//! From demands to asks: as few as can be.
//!
//! A store reads all demands of an ask before it charges any, so an ask names a counter once. Demands on one counter that
//! go the same way become one of all their units, and each remembers what those before it took.

use super::share;
use crate::engine::ask::{Ask, Demand, Reading, Take, Weight};
use crate::engine::rule::Rule;

/// Demands of one class and one counter can be one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Class {
    /// Counted whatever it comes to, or looked at beside such.
    Counts,
    /// The same beside policies of our own. Limits that differ in their rule or weight are not one there: what the step
    /// comes to would be right for one of them only.
    CountsAs(Rule, Weight),
    /// Given back.
    GivesBack,
    /// Only what passes is charged.
    Passes(Rule),
    /// Looked at, beside limits that charge only what passes.
    Looks(Rule),
}

/// What is remembered of a demand that was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    class: Class,
    /// Hits of all its descriptors.
    pub(super) hits: u64,
    /// What it takes under its rule.
    pub(super) take: Take,
    weight: Weight,
    rule: Rule,
}

/// Where a descriptor's numbers will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) ask: usize,
    pub(super) demand: usize,
    /// Hits of earlier descriptors on the same counter in the same ask.
    pub(super) before: u64,
}

/// The asks of one request, each with its slots.
#[derive(Debug, Default)]
pub(super) struct Asks(pub(super) Vec<(Ask, Vec<Slot>)>);

impl Slot {
    /// Whether its ask may pass for all it saw.
    pub(super) fn passes(&self, reading: &Reading) -> bool {
        reading.fits || self.weight == Weight::Shadow
    }

    /// Whether its limit, or one of so many shares of it, was over before; see [`Demand::stops_once_over`].
    pub(super) fn was_over(&self, reading: &Reading, shares: Option<u64>) -> bool {
        let rule = shares.map_or(self.rule, |shares| share(self.rule, shares));
        matches!(rule, Rule::Fixed(_)) && self.take != Take::Refund && reading.level > rule.limit()
    }

    /// See [`Take::is_charged`].
    pub(super) fn is_charged(&self, reading: &Reading, outcome: crate::engine::decision::Outcome) -> bool {
        self.take.is_charged(self.weight, reading, outcome)
    }
}

impl Asks {
    /// Adds the demand of a descriptor with so many hits.
    pub(super) fn add(&mut self, demand: Demand, class: Class, hits: u64) -> Place {
        if self.0.is_empty() {
            self.0.push(Default::default());
        }
        let at = self.0.last().and_then(|(ask, _)| ask.demands.iter().position(|one| one.key == demand.key));
        if let (Some(at), Some((ask, slots))) = (at, self.0.last_mut()) {
            match (ask.demands.get_mut(at), slots.get_mut(at)) {
                (Some(one), Some(slot)) if slot.class == class => {
                    let before = slot.hits;
                    join(one, slot, (&demand, hits));
                    return Place { ask: self.0.len() - 1, demand: at, before };
                }
                _ => self.0.push(Default::default()),
            }
        }
        let ask = self.0.len() - 1;
        let slot = Slot { class, hits, take: demand.takes(), weight: demand.weight, rule: demand.rule };
        let mut place = Place { ask, demand: 0, before: 0 };
        if let Some((last, slots)) = self.0.last_mut() {
            place.demand = slots.len();
            last.demands.push(demand);
            slots.push(slot);
        }
        place
    }
}

/// Makes one demand of two. What counts beside a look counts; the lower limit says whether both fit.
fn join(one: &mut Demand, slot: &mut Slot, other: (&Demand, u64)) {
    let (demand, hits) = other;
    one.cost = one.cost.saturating_add(demand.cost);
    if demand.take != Take::Peek {
        one.take = demand.take;
        slot.take = demand.takes();
    }
    if demand.weight == Weight::Enforced {
        one.weight = Weight::Enforced;
        slot.weight = Weight::Enforced;
    }
    if demand.rule.limit() < one.rule.limit() {
        one.rule = demand.rule;
        slot.rule = demand.rule;
    }
    slot.hits = slot.hits.saturating_add(hits);
}
