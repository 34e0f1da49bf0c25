//! A batch of asks as `take.lua` reads it, or a single simple one as `one.lua` does.
//!
//! Promise: every ask of the batch stands in it once, and `order` says where its answer will be. Most asks are one
//! demand on a counter; they are grouped by rule so that Redis reads each rule once and touches each key once.
//!
//! Must never: put an ask among the groups whose answer depends on anything but its one counter.

use crate::engine::ask::{AnswerRoom, Ask, Demand, OnceOver, Take, Weight};
use crate::engine::rule::Rule;
use crate::engine::units::Micros;
use crate::store::redis::life::Life;
use crate::store::redis::name;
use crate::store::redis::pack::{Packed, double};
use fred::types::Key as RedisKey;
use std::collections::HashMap;

/// The bits of a row's flags that say what becomes of it, [`Take::number`]. A peek leaves the counter as it is, even
/// one to be mended.
const TAKE: u8 = 3;
/// Flag of a row among the others: it may fail to fit without refusing its ask.
const SHADOW: u8 = 4;
/// Flag of a row among the others: where its counter was over before, its ask is not charged.
const STOPS: u8 = 8;
/// Flag of a group: some key of it has several asks, so a byte of count follows for each key. Without it a
/// group of single asks, the usual one, carries no counts.
const COUNTS: u8 = 4;

/// A rule with a cost, as numbers for Lua. Two demands share a row only when all of it is equal, the cost too:
/// the script then runs the same step for both.
///
/// | kind | rule | numbers |
/// |---|---|---|
/// | 1 | sliding window | limit, cost, memory, grain |
/// | 2 | token bucket | tolerance, increment, 0, 0 |
/// | 3 | fixed window | limit, cost, window, 0 |
/// | 4 | leases | limit, ttl, 0, 0 |
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    /// As in the table above; the scripts branch on it.
    kind: u8,
    /// The sum of `TAKE`, `SHADOW` and `STOPS`; `COUNTS` belongs to the group.
    flags: u8,
    /// What the key must have left after a charge, and what it gets otherwise.
    life: Life,
    /// Always four, so that every row has one width; spans are in microseconds.
    numbers: [u64; 4],
}

/// Keys that are charged by one row, each with the asks that it has.
#[derive(Debug)]
struct Group {
    /// What is charged, to each key once for each of its asks.
    row: Row,
    /// Each key once, with its asks in order of arrival: the first to come is the first to be charged, and
    /// those behind it see what it left.
    keys: Vec<(RedisKey, Vec<usize>)>,
}

/// Where an ask's numbers stand in the reply, and how to read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the groups: the ask's number.
    Grouped(usize),
    /// Among the others: the ask's number.
    Other(usize),
}

/// The arguments of one call, and how to read its reply.
#[derive(Debug)]
pub(super) struct Plan {
    /// KEYS: the counters of the groups in the order of the groups, then whatever the others name. Each stands
    /// here once; the others name theirs by number.
    pub(super) keys: Vec<RedisKey>,
    /// ARGV: the groups, then the others if there are any. An absent second one spares the script making the
    /// functions that only they need.
    pub(super) args: Vec<Vec<u8>>,
    /// The asks in the order of the reply, which is that of the groups and not that of arrival.
    pub(super) order: Vec<Place>,
    /// One ask on one counter and nothing else: `one.lua` decides it, else `take.lua`.
    pub(super) is_single: bool,
}

impl Plan {
    /// The plan of `asks`; `hold` is added to the life of every key.
    ///
    /// A counter stands in one group only. The script reads all grouped counters before it writes the first, so
    /// a counter in two groups would be charged twice from one reading.
    pub(super) fn new<'a>(asks: impl Iterator<Item = &'a Ask>, hold: Micros) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut others: Vec<(usize, &Ask)> = Vec::new();
        for (number, ask) in asks.enumerate() {
            let Some(demand) = counter_alone(ask) else {
                others.push((number, ask));
                continue;
            };
            let row = Row::new(demand, hold).alone();
            if let Some(&(group, key)) = places.get(demand.key.as_str()) {
                match groups.get_mut(group).filter(|group| group.row == row) {
                    Some(group) => group.push(key, number),
                    // The same counter by another rule or cost: after the groups, it is read afresh.
                    None => others.push((number, ask)),
                }
                continue;
            }
            let group = groups.iter().position(|group| group.row == row).unwrap_or_else(|| {
                groups.push(Group { row, keys: Vec::new() });
                groups.len() - 1
            });
            if let Some(entry) = groups.get_mut(group) {
                places.insert(demand.key.as_str(), (group, entry.keys.len()));
                entry.keys.push((name::counter(&demand.key).as_ref().into(), vec![number]));
            }
        }
        Self::assemble(groups, &others, hold)
    }

    /// Lays the groups out, then the others. The capacity is that of a group's row: 4 bytes of head, 48 of
    /// numbers, and a `px` of at most 17 digits with its end.
    fn assemble(mut groups: Vec<Group>, others: &[(usize, &Ask)], hold: Micros) -> Self {
        groups.sort_by_key(|group| group.row.kind);
        let kinds = groups.iter().fold(0, |kinds, group| kinds | 1 << (group.row.kind - 1));
        let counters: usize = groups.iter().map(|group| group.keys.len()).sum();
        let mut plan = Self {
            keys: Vec::with_capacity(counters),
            args: Vec::with_capacity(2),
            order: Vec::with_capacity(counters),
            is_single: others.is_empty() && counters == 1 && groups.iter().all(Group::is_single),
        };
        let mut packed = Vec::with_capacity(80 * groups.len() + 3);
        if !plan.is_single {
            packed.push(kinds);
            packed.extend_from_slice(&short(counters).to_le_bytes());
        }
        for group in groups {
            if plan.is_single {
                group.row.pack_single(&mut packed)
            } else {
                group.pack(&mut packed)
            }
            for (key, asks) in group.keys {
                plan.keys.push(key);
                plan.order.extend(asks.into_iter().map(Place::Grouped));
            }
        }
        plan.args.push(packed);
        if !others.is_empty() {
            let mut rest = Others::new(&mut plan.keys, hold);
            for (_, ask) in others {
                rest.ask(ask);
            }
            plan.args.push(rest.finish());
            plan.order.extend(others.iter().map(|(number, _)| Place::Other(*number)));
        }
        plan
    }
}

/// The demand of an ask that is one counter, whatever it held before, and nothing else. A token or a `request_id` makes the answer depend
/// on another key, and leases are a sorted set, which a group's one read of all counters cannot read.
fn counter_alone(ask: &Ask) -> Option<&Demand> {
    match ask.demands.as_slice() {
        [demand] if ask.token.is_none() && ask.request_id.is_none() && ask.once_over == OnceOver::Nothing => {
            (!matches!(demand.rule, Rule::Leases(_))).then_some(demand)
        }
        _ => None,
    }
}

impl Row {
    /// A cost of nothing is a peek, or it would write an entry that counts nothing; a lease is taken whatever
    /// its cost says. The life of leases is set at every write, for a script cannot read it from the value.
    fn new(demand: &Demand, hold: Micros) -> Self {
        let cost = u64::from(demand.cost);
        let (kind, numbers) = match demand.rule {
            Rule::Window(window) => (1, [window.limit, cost, demand.rule.memory().0, window.grain]),
            Rule::Bucket(bucket) => (2, [bucket.tolerance(), cost.saturating_mul(bucket.emission), 0, 0]),
            Rule::Fixed(fixed) => (3, [fixed.limit, cost, fixed.window.0, 0]),
            Rule::Leases(leases) => (4, [leases.limit, leases.ttl.0, 0, 0]),
        };
        let take = match demand.takes() {
            Take::Charge | Take::Count if demand.cost == 0 && kind != 4 => Take::Peek,
            take => take,
        };
        let shadow = if demand.weight == Weight::Shadow { SHADOW } else { 0 };
        let life = match kind {
            4 => Life::fixed(demand.rule.memory(), hold),
            _ => Life::renewed(demand.rule.memory(), hold),
        };
        Self { kind, flags: take.number() | shadow, life, numbers }
    }

    /// An ask of one demand passes or not for itself alone: shadow changes nothing.
    fn alone(self) -> Self {
        Self { flags: self.flags & TAKE, ..self }
    }

    /// For `one.lua`: no number of keys, for there is one.
    fn pack_single(&self, into: &mut Vec<u8>) {
        into.push(self.kind);
        into.push(self.flags);
        self.pack_numbers(into);
    }

    /// The part that both scripts read alike. `px` is text that ends in a zero byte: it goes into the command
    /// as it stands.
    fn pack_numbers(&self, into: &mut Vec<u8>) {
        for number in [self.life.need, self.life.keep].into_iter().chain(self.numbers) {
            into.extend_from_slice(&double(number).to_le_bytes());
        }
        into.extend_from_slice(self.life.px().to_string().as_bytes());
        into.push(0);
    }
}

impl Group {
    /// Two asks on one counter need the loop of `take.lua`.
    fn is_single(&self) -> bool {
        self.keys.iter().all(|(_, asks)| asks.len() == 1)
    }

    /// One more ask on a key that the group has already.
    fn push(&mut self, key: usize, ask: usize) {
        if let Some((_, asks)) = self.keys.get_mut(key) {
            asks.push(ask);
        }
    }

    /// A count fits its byte: a batch has at most `MAX_ASKS` asks, 255.
    fn pack(&self, into: &mut Vec<u8>) {
        let row = &self.row;
        let counts = self.keys.iter().any(|(_, asks)| asks.len() > 1);
        into.push(row.kind);
        into.push(row.flags | if counts { COUNTS } else { 0 });
        into.extend_from_slice(&short(self.keys.len()).to_le_bytes());
        row.pack_numbers(into);
        if counts {
            into.extend(self.keys.iter().map(|(_, asks)| u8::try_from(asks.len()).unwrap_or(u8::MAX)));
        }
    }
}

/// A batch is bounded far below this: at most 255 asks, each with one grouped counter.
fn short(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// The asks that are decided one by one, after the groups: they read each key afresh, so they see what the
/// groups charged.
struct Others<'a> {
    /// The plan's KEYS, to be added to.
    keys: &'a mut Vec<RedisKey>,
    /// The number of each key, those of the groups included: a counter that both use is sent once.
    numbers: HashMap<RedisKey, u64>,
    /// Each row once. Few rules serve many asks, so a search from the front is short.
    rows: Vec<Row>,
    /// The asks, flat, as `take.lua` lists them: the script walks it once, without a table for each ask.
    stream: Packed,
    /// Added to the life of every key; zero but in tests.
    hold: Micros,
}

impl<'a> Others<'a> {
    fn new(keys: &'a mut Vec<RedisKey>, hold: Micros) -> Self {
        let numbers = keys.iter().cloned().zip(1..).collect();
        Self { keys, numbers, rows: Vec::new(), stream: Packed::default(), hold }
    }

    /// The number of a key among KEYS, from 1; 0 stands for no key in the stream.
    fn key(&mut self, name: &str) -> u64 {
        let key = RedisKey::from(name);
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        self.keys.push(key.clone());
        let number = u64::try_from(self.keys.len()).unwrap_or(u64::MAX);
        self.numbers.insert(key, number);
        number
    }

    /// The number of a row, from 1 as Lua counts.
    fn row(&mut self, row: Row) -> u64 {
        let at = self.rows.iter().position(|known| *known == row).unwrap_or_else(|| {
            self.rows.push(row);
            self.rows.len() - 1
        });
        u64::try_from(at + 1).unwrap_or(u64::MAX)
    }

    /// One ask: its token, where its answer is kept, its demands. Only a lease has a third field, its id.
    fn ask(&mut self, ask: &Ask) {
        self.stream.number(u64::try_from(ask.demands.len()).unwrap_or(u64::MAX));
        self.token(ask);
        self.answer(ask);
        for demand in &ask.demands {
            let mut row = Row::new(demand, self.hold);
            if ask.once_over == OnceOver::Stops && demand.stops_once_over() {
                row.flags |= STOPS;
            }
            let row = self.row(row);
            let key = self.key(&name::counter(&demand.key));
            self.stream.number(row).number(key);
            if matches!(demand.rule, Rule::Leases(_)) {
                self.stream.text(demand.lease.as_deref().unwrap_or_default());
            }
        }
    }

    /// The token's revocations by number. An unknown `issued_at` is -1, for 0 is a moment. The foreign key is
    /// the application's own and goes out under the name that was configured.
    fn token(&mut self, ask: &Ask) {
        let Some(probe) = &ask.token else {
            self.stream.number(0).number(0).minus_one().number(0);
            return;
        };
        let id = probe.token_id.as_ref().map_or(0, |id| self.key(&name::revoked_id(&probe.issuer, id)));
        let subject =
            probe.subject.as_ref().map_or(0, |sub| self.key(&name::revoked_subject(&probe.issuer, sub)));
        let foreign = probe.foreign_key.as_ref().map_or(0, |key| self.key(key));
        self.stream.number(id).number(subject);
        match probe.issued_at {
            Some(at) => self.stream.number(at),
            None => self.stream.minus_one(),
        };
        self.stream.number(foreign);
    }

    /// Where the answer to a `request_id` is kept, and how long at most; a span of zero: it is looked for, and none is
    /// kept. The script judges its end by the exact span; the expiry of the key is longer by a margin.
    fn answer(&mut self, ask: &Ask) {
        let name = ask.request_id.as_ref().and_then(|id| name::answer(id, &ask.demands));
        let Some(name) = name else {
            self.stream.number(0).number(0).number(0);
            return;
        };
        let life = if ask.answer_room == AnswerRoom::Free { ask.answer_life() } else { Micros(0) };
        let key = self.key(&name);
        self.stream.number(key).number(Life::fixed(life, self.hold).px()).number(life.0);
    }

    /// The rows come first: the script needs them to know how many fields a demand has.
    fn finish(self) -> Vec<u8> {
        let mut rows = Packed::default();
        for row in &self.rows {
            let mut fields = Packed::default();
            fields.number(u64::from(row.kind)).number(u64::from(row.flags));
            fields.text(&row.life.px().to_string()).number(row.life.need).number(row.life.keep);
            for number in row.numbers {
                fields.number(number);
            }
            rows.list(&fields);
        }
        let mut plan = Packed::default();
        plan.list(&rows).list(&self.stream);
        plan.finish()
    }
}
