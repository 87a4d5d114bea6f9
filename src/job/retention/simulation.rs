//! The walk on tables that are vectors: what it removes, when, and how many rows it reads for that.

use std::collections::BTreeMap;

use super::age::{Aged, Terms};
use super::walk::{Span, Walk, LONGEST_REST};
use super::{CHUNK, LOOKS, READS, REMOVALS};
use crate::job::state::Status;
use crate::queue::settings::QueueSettings;

const SECOND: i64 = 1_000_000;

struct Table {
    rows: BTreeMap<i64, (Status, Option<i64>)>,
    terms: Terms,
    walk: Walk,
    read: usize,
    removed: usize,
    looks: usize,
}

impl Table {
    fn new(retention_ms: Option<i64>, failed_retention_ms: Option<i64>, start: i64) -> Self {
        let settings = QueueSettings { retention_ms, failed_retention_ms, ..QueueSettings::default() };
        let terms = Terms::of(&settings).unwrap();
        let (rows, walk) = (BTreeMap::new(), Walk::starting_at(start));
        Self { rows, terms, walk, read: 0, removed: 0, looks: 0 }
    }

    fn put(&mut self, id: i64, status: Status, at: i64) {
        self.rows.insert(id, (status, Some(at)));
    }

    /// A step as `run` does it; whether there is more.
    fn step(&mut self, now: i64) -> bool {
        self.walk.begin();
        let (mut reads, mut removals, mut looks) = (READS, REMOVALS, LOOKS);
        while let Some(span) = self.walk.next(now).filter(|_| reads > 0 && removals > 0 && looks > 0) {
            let limit = CHUNK.min(reads);
            let rows = self.rows.range(span.from..=span.to).take(limit);
            let met: Vec<Aged> =
                rows.map(|(id, (status, at))| Aged { id: *id, status: Some(*status), updated_at: *at }).collect();
            let rest = self.walk.rest(span.from);
            let found = self.terms.judge(&met, removals, rest, now);
            let last = met.last().filter(|_| met.len() == limit).map(|row| row.id);
            let seen = Span { from: span.from, to: found.cut_at.or(last).unwrap_or(span.to) };
            (reads, looks) = (reads - met.len(), looks - 1);
            removals -= found.old.len() + found.undated.len();
            self.walk.pass(seen, found.rows, now);
            for id in &found.old {
                self.rows.remove(id);
            }
            for id in &found.undated {
                self.rows.insert(*id, (Status::Completed, Some(now)));
            }
            let did = found.old.len() + found.undated.len();
            let again_at = self.terms.again_at(&found, did, seen, rest, now);
            self.walk.settle(span.from, again_at, did > 0, now);
            self.read += met.len();
            self.removed += found.old.len();
            self.looks += 1;
        }
        self.walk.next(now).is_some()
    }

    /// Steps until there is no more to do.
    fn steps(&mut self, now: i64) {
        let mut most = 100_000;
        while self.step(now) {
            most -= 1;
            assert!(most > 0, "the steps come to no end");
        }
    }
}

#[test]
fn steady_state_reads_a_job_a_few_times_in_its_life() {
    let (rate, retention) = (200, 600);
    let mut table = Table::new(Some(retention * 1_000), None, i64::MIN);
    let seconds = 4 * retention;
    let (mut late, mut done) = (0, 0);
    for second in 0..seconds {
        let now = second * SECOND;
        for at in 0..rate {
            table.put(second * rate + at, Status::Completed, now);
            done += 1;
        }
        table.steps(now);
        let oldest = table.rows.values().filter_map(|(_, at)| *at).min().unwrap();
        late = late.max(now - oldest - retention * 1_000 * 1_000);
    }
    println!("{done} jobs, {} removed, {} read, {} looks, {} us late", table.removed, table.read, table.looks, late);
    assert_eq!(table.rows.len() as i64, rate * retention);
    assert!(table.read < 5 * done as usize);
    assert!(late <= SECOND);
    assert!(table.walk.len() < 1_000, "{} stretches", table.walk.len());
}

#[test]
fn nothing_is_read_where_nothing_can_be_old() {
    let mut table = Table::new(Some(3_600_000), None, 77_000);
    for id in 0..200_000 {
        table.put(id, Status::Completed, 0);
    }
    table.steps(0);
    assert_eq!((table.read, table.removed), (200_000, 0));
    // The end, where jobs come in, is looked at all the same.
    table.steps(3_599 * SECOND);
    assert!(table.read <= 200_000 + CHUNK, "{}", table.read);
    table.steps(3_601 * SECOND);
    assert_eq!(table.removed, 200_000);
}

#[test]
fn a_step_is_bounded() {
    let mut table = Table::new(Some(1), None, i64::MIN);
    for id in 0..50_000 {
        table.put(id, if id % 3 == 0 { Status::Completed } else { Status::Failed }, 0);
    }
    let mut before = (0, 0);
    while table.step(10 * SECOND) {
        assert!(table.read - before.0 <= READS && table.removed - before.1 <= REMOVALS);
        before = (table.read, table.removed);
    }
    assert_eq!(table.removed, 16_667);
}

#[test]
fn failed_jobs_that_are_kept_are_read_once_an_hour() {
    let mut table = Table::new(Some(60_000), None, i64::MIN);
    for id in 0..100_000 {
        table.put(id, Status::Failed, 0);
    }
    for second in 0..3_600 {
        table.put(100_000 + second, Status::Completed, second * SECOND);
        table.steps(second * SECOND);
    }
    println!("{} read", table.read);
    assert!(table.read < 100_000 + 250_000);
    assert!(table.rows.len() <= 100_000 + 62);
}

#[test]
fn a_backlog_with_a_short_retention_is_read_once_a_minute() {
    let mut table = Table::new(Some(1_000), None, i64::MIN);
    for id in 0..100_000 {
        table.put(id, Status::Pending, 0);
    }
    for second in 0..600 {
        table.steps(second * SECOND);
    }
    println!("{} read in ten minutes", table.read);
    assert!(table.read < 18 * 100_000);
    // Consumers come at last.
    for id in 0..100_000 {
        table.put(id, Status::Completed, 600 * SECOND);
    }
    for second in 600..662 {
        table.steps(second * SECOND);
    }
    assert_eq!(table.rows.len(), 0);
}

#[test]
fn what_nobody_foresaw_is_removed_after_a_day() {
    let mut table = Table::new(Some(30 * 86_400_000), None, i64::MIN);
    for id in 0..10_000 {
        table.put(2 * id, Status::Completed, 0);
    }
    table.steps(0);
    let long_ago = -90 * 86_400 * SECOND;
    table.put(5_001, Status::Completed, long_ago);
    table.put(6_000, Status::Completed, long_ago);
    table.put(30_000, Status::Completed, long_ago);
    table.steps(601 * SECOND);
    assert_eq!(table.rows.len(), 10_001, "new ids are looked at after ten minutes");
    table.steps(LONGEST_REST + SECOND);
    assert_eq!(table.rows.len(), 9_999);
}

#[test]
fn jobs_without_a_date_grow_old_from_when_they_are_met() {
    let mut table = Table::new(Some(60_000), None, i64::MIN);
    table.rows.insert(1, (Status::Completed, None));
    table.rows.insert(2, (Status::Pending, None));
    table.steps(0);
    assert_eq!(table.rows[&1].1, Some(0));
    table.steps(59 * SECOND);
    assert_eq!(table.rows.len(), 2);
    table.steps(61 * SECOND);
    assert_eq!(table.rows.keys().collect::<Vec<_>>(), [&2]);
}

#[test]
fn ids_at_both_ends_and_gaps() {
    let mut table = Table::new(Some(1), Some(1), 5);
    for id in [i64::MIN, i64::MIN + 1, -1, 0, 1_000_000_007, i64::MAX - 1, i64::MAX] {
        table.put(id, Status::Failed, 0);
    }
    assert!(!table.step(SECOND));
    assert_eq!(table.rows.len(), 0);
}

#[test]
fn memory_is_bounded() {
    let mut table = Table::new(Some(3_600_000), None, i64::MIN);
    let count = 9_500_000;
    table.rows = (0..count).map(|id| (id, (Status::Completed, Some(0)))).collect();
    table.steps(0);
    assert!(table.walk.len() <= 8_192, "{} stretches", table.walk.len());
    table.steps(3_601 * SECOND);
    assert_eq!(table.removed as i64, count);
}
