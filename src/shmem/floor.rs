//! What all sessions share of a queue's claim floor: the floor itself, packed; where the newest claim ended, so that
//! fetchers at work together do not walk over each other's jobs; and from when on there may be due jobs.

use crate::job::floor::{MAX_OPEN, MAX_SKIPPED, PRIORITIES};

/// Words of the longest floor, as `floor_store` packs it: its head, starts, open transactions, skipped runs.
const WORDS: usize = 4 + 2 * PRIORITIES + 3 * MAX_OPEN + 5 * MAX_SKIPPED;

/// A floor as numbers, and which of two is newer.
#[derive(Default)]
pub struct SharedFloor {
    words: heapless::Vec<i64, WORDS>,
    rank: (u64, u64),
    /// The table that it is of.
    table: u32,
    /// The last claim's end in each priority: transaction id and job id.
    pub claimed_to: [(u64, i64); PRIORITIES],
    /// Nothing is due before, microseconds, as far as is known.
    pub due_from: i64,
    /// Changes whenever a job was given a time to come: what was seen before says nothing about it.
    pub due_version: u64,
}

impl SharedFloor {
    /// The packed floor of a table, if there is one.
    pub fn get(&self, table: u32) -> Option<Vec<i64>> {
        (self.table == table && !self.words.is_empty()).then(|| self.words.to_vec())
    }

    /// Keeps a packed floor where it is of another table or of a higher rank; one that is too long is left.
    pub fn offer(&mut self, table: u32, rank: (u64, u64), words: &[i64]) {
        if self.table == table && self.rank >= rank || words.len() > WORDS {
            return;
        }
        if self.table != table {
            *self = Self::default();
        }
        self.words.clear();
        if self.words.extend_from_slice(words).is_ok() {
            (self.table, self.rank) = (table, rank);
        }
    }
}
