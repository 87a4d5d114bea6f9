//! Sets and maps by ids of jobs and leases. Every fetch and every settle fills some: they hash by a multiplication. Who
//! makes ids collide on purpose slows down his own queue.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// Ids.
pub type IdSet = HashSet<i64, BuildHasherDefault<IdHasher>>;
/// Something for each id.
pub type IdMap<V> = HashMap<i64, V, BuildHasherDefault<IdHasher>>;
/// Something for each job under a lease.
pub type PairMap<V> = HashMap<(i64, i64), V, BuildHasherDefault<IdHasher>>;

/// Mixes numbers by multiplying them with an odd constant without pattern (2^64 divided by the golden ratio).
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes its slot from the lowest bits and its tag from the highest: fold these onto those.
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_a_row_and_multiples_are_spread() {
        for step in [1, 64, 4_096, 1 << 32] {
            let hash = |id: i64| {
                let mut hasher = IdHasher::default();
                hasher.write_i64(id);
                hasher.finish() % 1_024
            };
            let slots: IdSet = (0..1_024).map(|at| hash(at * step) as i64).collect();
            assert!(slots.len() > 500, "{} slots for ids {step} apart", slots.len());
        }
    }
}
