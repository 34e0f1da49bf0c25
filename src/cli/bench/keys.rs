//! Which key each request of a bench is about.

use clap::ValueEnum;
use std::sync::Arc;

/// Share of the requests that go to the one hot key, of 256.
const HOT_SHARE: u64 = 230;

/// How requests spread over the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// Every key alike
    Uniform,
    /// The k-th key in proportion to 1/k, as traffic of users tends to be
    Zipf,
    /// Nine of ten requests for one key, the others uniform
    Hot,
}

impl Distribution {
    /// Its name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Hot => "hot",
        }
    }
}

/// What a picker draws from; shared by the pickers of a bench.
#[derive(Clone, Debug)]
enum Spread {
    Uniform(u32),
    Hot(u32),
    /// Cumulated weights of the keys, the last of them the sum.
    Zipf(Arc<[f64]>),
}

/// Draws keys below `keys`; the same seed draws the same keys.
#[derive(Clone, Debug)]
pub struct Picker {
    spread: Spread,
    state: u64,
}

impl Picker {
    /// A picker of `keys` keys (at least one).
    #[must_use]
    pub fn new(distribution: Distribution, keys: u32) -> Self {
        let keys = keys.max(1);
        let spread = match distribution {
            Distribution::Uniform => Spread::Uniform(keys),
            Distribution::Hot => Spread::Hot(keys),
            Distribution::Zipf => {
                let cumulate = |sum: &mut f64, key: u32| {
                    *sum += 1.0 / f64::from(key);
                    Some(*sum)
                };
                Spread::Zipf((1..=keys).scan(0.0, cumulate).collect())
            }
        };
        Self { spread, state: 0 }
    }

    /// The same keys with draws of its own.
    #[must_use]
    pub fn seeded(&self, seed: u64) -> Self {
        Self { spread: self.spread.clone(), state: mix(seed) }
    }

    /// The next key.
    pub fn pick(&mut self) -> u32 {
        let draw = self.draw();
        match &self.spread {
            Spread::Uniform(keys) => below(draw, *keys),
            Spread::Hot(_) if draw & 0xff < HOT_SHARE => 0,
            Spread::Hot(keys) => below(draw, *keys),
            Spread::Zipf(weights) => {
                let total = weights.last().copied().unwrap_or(1.0);
                let point = f64::from(high(draw)) / f64::from(u32::MAX) * total;
                let at = weights.partition_point(|weight| *weight < point);
                u32::try_from(at.min(weights.len().saturating_sub(1))).unwrap_or(0)
            }
        }
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): enough for load.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn high(draw: u64) -> u32 {
    u32::try_from(draw >> 32).unwrap_or(0)
}

fn below(draw: u64, keys: u32) -> u32 {
    u32::try_from((u64::from(high(draw)) * u64::from(keys)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 100_000;

    fn counts(distribution: Distribution, keys: u32) -> Vec<u32> {
        let mut picker = Picker::new(distribution, keys).seeded(7);
        let mut counts = vec![0; usize::try_from(keys).unwrap()];
        for _ in 0..DRAWS {
            counts[usize::try_from(picker.pick()).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn uniform_reaches_every_key_about_alike() {
        let counts = counts(Distribution::Uniform, 100);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_halves_at_the_second_key_and_reaches_the_last() {
        let counts = counts(Distribution::Zipf, 100);
        // The hundredth harmonic number is 5.187: the first key gets 19.3 %.
        assert!((18_500..20_000).contains(&counts[0]), "{}", counts[0]);
        assert!((9_200..10_100).contains(&counts[1]), "{}", counts[1]);
        assert!((1_700..2_150).contains(&counts[9]), "{}", counts[9]);
        assert!(counts[99] > 100, "{}", counts[99]);
        assert_eq!(counts.iter().sum::<u32>(), DRAWS);
    }

    #[test]
    fn hot_sends_nine_of_ten_to_one_key() {
        let counts = counts(Distribution::Hot, 1_000);
        assert!((89_000..91_000).contains(&counts[0]), "{}", counts[0]);
        assert!(counts.iter().filter(|count| **count > 0).count() > 900);
    }

    #[test]
    fn a_seed_draws_the_same_keys_again_and_another_seed_others() {
        let base = Picker::new(Distribution::Uniform, 1_000_000);
        let draw = |seed| {
            let mut picker = base.seeded(seed);
            (0..10).map(|_| picker.pick()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(Picker::new(Distribution::Zipf, 1).seeded(3).pick(), 0);
    }
}
