//! Tokens whose signature was checked, by the SHA-256 of their whole text.
//!
//! Promise: an entry is found only by the very bytes that were checked, only while the keys are those that checked
//! them, and the cache never holds more than its bounds. Only rightly signed tokens come in, so nobody fills it who
//! is not given tokens. What time changes (expiry) and what the store knows (revocation) is looked at on every hit,
//! by the caller.
//!
//! Two generations a shard instead of a list of uses: a full young one becomes the old one, whose predecessor is
//! dropped; a hit in the old one moves to the young one. One lock of a few dozen nanoseconds, no order to keep.

use super::Good;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

const SHARDS: usize = 16;
/// Tokens in one generation of a shard; 65,536 in all.
const MAX_TOKENS: usize = 2_048;
/// Bytes of token text behind one generation of a shard; 16 MiB in all. Claims take a few times their text.
const MAX_BYTES: usize = 512 * 1024;

/// The hash that is the key.
pub(super) type Digest = [u8; 32];

#[derive(Default)]
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

#[derive(Default)]
struct Generation {
    tokens: HashMap<Digest, Entry, BuildHasherDefault<Prefix>>,
    bytes: usize,
}

#[derive(Clone)]
struct Entry {
    good: Arc<Good>,
    /// The state of the keys that checked it. A change of keys is a new number, and so flushes everything at once;
    /// what is left over makes room as it ages.
    keys: u64,
    bytes: usize,
}

impl Cache {
    /// The token of this digest, when keys of this state checked it.
    pub(super) fn get(&self, digest: &Digest, keys: u64) -> Option<Arc<Good>> {
        let mut shard = self.shard(digest)?.lock();
        if let Some(entry) = shard.young.tokens.get(digest) {
            return (entry.keys == keys).then(|| Arc::clone(&entry.good));
        }
        let entry = shard.old.remove(digest)?;
        if entry.keys != keys {
            return None;
        }
        let good = Arc::clone(&entry.good);
        shard.put(*digest, entry);
        Some(good)
    }

    /// Remembers a token of so many bytes that keys of this state checked.
    pub(super) fn put(&self, digest: Digest, keys: u64, good: Arc<Good>, bytes: usize) {
        let Some(shard) = self.shard(&digest) else { return };
        shard.lock().put(digest, Entry { good, keys, bytes });
    }

    /// Forgets one token: its time is over.
    pub(super) fn forget(&self, digest: &Digest) {
        let Some(shard) = self.shard(digest) else { return };
        let mut shard = shard.lock();
        shard.young.remove(digest);
        shard.old.remove(digest);
    }

    fn shard(&self, digest: &Digest) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::from(digest[0]) % SHARDS)
    }
}

impl Shard {
    fn put(&mut self, digest: Digest, entry: Entry) {
        let full = self.young.tokens.len() >= MAX_TOKENS || self.young.bytes + entry.bytes > MAX_BYTES;
        if full && !self.young.tokens.contains_key(&digest) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.put(digest, entry);
    }
}

impl Generation {
    fn put(&mut self, digest: Digest, entry: Entry) {
        self.bytes += entry.bytes;
        if let Some(before) = self.tokens.insert(digest, entry) {
            self.bytes -= before.bytes;
        }
    }

    fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.tokens.remove(digest)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

/// The key is a hash already.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn write(&mut self, bytes: &[u8]) {
        // The digest itself; what comes before it is its length.
        if let Some(last) = bytes.last_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*last);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(index: u32) -> Digest {
        super::super::digest(&index.to_le_bytes())
    }

    fn len(cache: &Cache) -> usize {
        let of = |shard: &Shard| shard.young.tokens.len() + shard.old.tokens.len();
        cache.shards.iter().map(|shard| of(&shard.lock())).sum()
    }

    #[test]
    fn finds_only_the_same_bytes_under_the_same_keys() {
        let cache = Cache::default();
        let good = Good::of_nobody();
        cache.put(digest(1), 7, Arc::clone(&good), 100);
        assert!(cache.get(&digest(1), 7).is_some_and(|found| Arc::ptr_eq(&found, &good)));
        assert!(cache.get(&digest(2), 7).is_none());
        assert!(cache.get(&digest(1), 8).is_none(), "the keys changed");
        cache.forget(&digest(1));
        assert!(cache.get(&digest(1), 7).is_none());
    }

    #[test]
    fn keeps_its_bound_and_the_tokens_in_use() {
        let cache = Cache::default();
        let good = Good::of_nobody();
        cache.put(digest(0), 1, Arc::clone(&good), 300);
        for index in 1..200_000 {
            cache.put(digest(index), 1, Arc::clone(&good), 300);
            if index % 500 == 0 {
                assert!(cache.get(&digest(0), 1).is_some(), "in use, after {index} others");
            }
        }
        assert!(len(&cache) <= 2 * SHARDS * MAX_TOKENS, "{}", len(&cache));
        assert!(cache.get(&digest(1), 1).is_none(), "the oldest is gone");
    }

    #[test]
    fn keeps_its_bound_in_bytes() {
        let cache = Cache::default();
        let good = Good::of_nobody();
        for index in 0..20_000 {
            cache.put(digest(index), 1, Arc::clone(&good), 8 * 1024);
        }
        assert!(len(&cache) * 8 * 1024 <= 2 * SHARDS * MAX_BYTES, "{}", len(&cache));
        for shard in &cache.shards {
            let shard = shard.lock();
            let counted = |one: &Generation| one.tokens.values().map(|entry| entry.bytes).sum::<usize>();
            assert_eq!((shard.young.bytes, shard.old.bytes), (counted(&shard.young), counted(&shard.old)));
        }
    }
}
