//! How many jobs of each status a queue has, without counting them every time: what an exact count found, and what
//! transactions have moved since. Pure arithmetic; who calls it holds the slot's lock.
//!
//! It is exact, not nearly so. The snapshot that a count reads with is taken while the lock is held, and kept beside the
//! count. A transaction tells what it moved after it has become visible. So what is told later is left out where the
//! snapshot shows its transaction, since the count has seen it, and is added where it does not.

use crate::host::snapshot::Horizon;
use crate::job::state::Status;

/// Jobs by status, or changes to such numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depths {
    /// Waiting, delayed ones included.
    pub pending: i64,
    /// Held by consumers.
    pub in_progress: i64,
    /// Done, and kept.
    pub completed: i64,
    /// Given up.
    pub failed: i64,
}

impl Depths {
    /// Adds others to these.
    pub fn add(&mut self, other: &Self) {
        let Self { pending, in_progress, completed, failed } = other;
        self.pending = self.pending.saturating_add(*pending);
        self.in_progress = self.in_progress.saturating_add(*in_progress);
        self.completed = self.completed.saturating_add(*completed);
        self.failed = self.failed.saturating_add(*failed);
    }

    /// So many jobs more of a status.
    pub fn shift(&mut self, status: Status, jobs: i64) {
        let number = match status {
            Status::Pending => &mut self.pending,
            Status::InProgress => &mut self.in_progress,
            Status::Completed => &mut self.completed,
            Status::Failed => &mut self.failed,
        };
        *number = number.saturating_add(jobs);
    }

    /// Whether a number cannot be: somebody changed jobs by hand.
    fn is_impossible(&self) -> bool {
        [self.pending, self.in_progress, self.completed, self.failed].iter().any(|number| *number < 0)
    }

    /// The same with 0 for what cannot be.
    fn possible(self) -> Self {
        Self {
            pending: self.pending.max(0),
            in_progress: self.in_progress.max(0),
            completed: self.completed.max(0),
            failed: self.failed.max(0),
        }
    }
}

/// Transactions that may run while jobs are counted; with more the count is shown, but is no base.
const MAX_RUNNING: usize = 128;
/// Whoever counts longer has probably died: another may begin, microseconds.
const MAX_COUNT: i64 = 60_000_000;
/// A queue in which something happens is counted again after this long at the earliest, microseconds.
const AGAIN: i64 = 600_000_000;
/// The same where the numbers are known to be wrong.
const AGAIN_IF_WRONG: i64 = 10_000_000;
/// And not before so many times what the count took.
const COST: i64 = 100;

/// What a snapshot shows.
#[derive(Default)]
struct View {
    end: u64,
    running: heapless::Vec<u64, MAX_RUNNING>,
}

impl View {
    fn of(horizon: &Horizon) -> Option<Self> {
        let mut running = heapless::Vec::new();
        horizon.running.iter().try_for_each(|xid| running.push(*xid)).ok()?;
        Some(Self { end: horizon.end, running })
    }

    fn shows(&self, xid: u64) -> bool {
        xid < self.end && !self.running.contains(&xid)
    }
}

/// A count under way.
struct Counting {
    id: u64,
    begun_at: i64,
    view: View,
    since: Depths,
}

/// The numbers of one queue.
#[derive(Default)]
pub struct Gauges {
    is_known: bool,
    depths: Depths,
    view: View,
    counting: Option<Counting>,
    counts: u64,
    /// The newest prepared transaction that moved jobs: nobody tells when it commits.
    prepared_to: u64,
    counted_at: i64,
    took: i64,
    /// Whether the last count came to nothing.
    has_failed: bool,
}

impl Gauges {
    /// The numbers; nothing while they are not known.
    pub fn depths(&self) -> Option<Depths> {
        self.is_known.then(|| self.depths.possible())
    }

    /// Begins a count that reads with the snapshot `horizon`, taken while the slot's lock is held; its number. Nothing
    /// while another one is under way, or when what it finds could not be kept up from then on.
    pub fn begin(&mut self, horizon: &Horizon, now: i64) -> Option<u64> {
        let is_under_way = |counting: &Counting| (0..MAX_COUNT).contains(&now.saturating_sub(counting.begun_at));
        let oldest = horizon.running.first().copied().unwrap_or(horizon.end);
        if self.counting.as_ref().is_some_and(is_under_way) || self.prepared_to >= oldest {
            return None;
        }
        let view = View::of(horizon)?;
        self.counts += 1;
        self.counting = Some(Counting { id: self.counts, begun_at: now, view, since: Depths::default() });
        Some(self.counts)
    }

    /// Ends a count: from here on these are the numbers.
    pub fn finish(&mut self, id: u64, found: Depths, now: i64) {
        if let Some(counting) = self.counting.take_if(|counting| counting.id == id) {
            self.depths = found;
            self.depths.add(&counting.since);
            self.view = counting.view;
            self.is_known = true;
            self.tried(counting.begun_at, now);
            self.has_failed = false;
        }
    }

    /// Ends a count that came to nothing.
    pub fn give_up(&mut self, id: u64, now: i64) {
        if let Some(counting) = self.counting.take_if(|counting| counting.id == id) {
            self.put_off(counting.begun_at, now);
        }
    }

    /// Nothing can be counted now.
    pub fn put_off(&mut self, begun_at: i64, now: i64) {
        self.tried(begun_at, now);
        self.has_failed = true;
    }

    fn tried(&mut self, begun_at: i64, now: i64) {
        self.counted_at = now;
        self.took = now.saturating_sub(begun_at).max(0);
    }

    /// A transaction has committed that moved jobs.
    pub fn moved(&mut self, xid: u64, by: &Depths) {
        if self.is_known && !self.view.shows(xid) {
            self.depths.add(by);
        }
        if let Some(counting) = self.counting.as_mut().filter(|counting| !counting.view.shows(xid)) {
            counting.since.add(by);
        }
    }

    /// A transaction was prepared that moved jobs: the numbers are not known before it has ended.
    pub fn prepared(&mut self, xid: u64) {
        self.is_known = false;
        self.counting = None;
        self.prepared_to = self.prepared_to.max(xid);
    }

    /// When the jobs are to be counted next, microseconds; nothing while the numbers stand as they were counted.
    pub fn count_at(&self, last_activity: i64) -> Option<i64> {
        let pause = match (self.is_known, self.depths.is_impossible()) {
            _ if self.has_failed => AGAIN,
            (false, _) => 0,
            (true, true) => AGAIN_IF_WRONG,
            (true, false) if last_activity <= self.counted_at => return None,
            (true, false) => AGAIN,
        };
        Some(self.counted_at.saturating_add(pause.max(self.took.saturating_mul(COST))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Depths = Depths { pending: 1, in_progress: 0, completed: 0, failed: 0 };

    fn horizon(end: u64, running: &[u64]) -> Horizon {
        Horizon { end, running: running.iter().copied().collect(), own: None }
    }

    /// Transactions 1 to 4 insert one job each and commit, then become visible, then tell, in any order that keeps these
    /// two steps of each; a count takes its snapshot at one point and ends at another. Whatever the order, the number is
    /// that of the transactions that have told, once all have.
    #[test]
    fn every_interleaving_of_a_count_and_what_is_told_comes_out_right() {
        const TRANSACTIONS: u64 = 3;
        let mut stack = vec![(Vec::<u8>::new(), [0u8; TRANSACTIONS as usize], 0u8)];
        let mut orders = 0;
        while let Some((order, steps, count)) = stack.pop() {
            if order.len() == TRANSACTIONS as usize * 2 + 2 {
                check_order(&order, TRANSACTIONS);
                orders += 1;
                continue;
            }
            for at in 0..TRANSACTIONS as usize {
                if steps[at] < 2 {
                    let (mut order, mut steps) = (order.clone(), steps);
                    order.push(at as u8);
                    steps[at] += 1;
                    stack.push((order, steps, count));
                }
            }
            if count < 2 {
                let mut order = order.clone();
                order.push(9);
                stack.push((order, steps, count + 1));
            }
        }
        assert_eq!(orders, 2520);
    }

    fn check_order(order: &[u8], transactions: u64) {
        for is_recount in [false, true] {
            let mut gauges = Gauges::default();
            if is_recount {
                let id = gauges.begin(&horizon(1, &[]), 1).unwrap();
                gauges.finish(id, Depths::default(), 2);
            }
            let (mut visible, mut told, mut counting, mut found) = (Vec::new(), Vec::new(), None, 0);
            for step in order {
                let xid = u64::from(*step) + 1;
                match (*step, counting) {
                    (9, None) => {
                        let running: Vec<u64> = (1..=transactions).filter(|xid| !visible.contains(xid)).collect();
                        counting = gauges.begin(&horizon(transactions + 1, &running), 100);
                        found = visible.len() as i64;
                    }
                    (9, Some(id)) => gauges.finish(id, Depths { pending: found, ..Depths::default() }, 200),
                    _ if visible.contains(&xid) => {
                        gauges.moved(xid, &ONE);
                        told.push(xid);
                    }
                    _ => visible.push(xid),
                }
            }
            assert_eq!(gauges.depths().map(|depths| depths.pending), Some(transactions as i64), "{order:?}");
        }
    }

    #[test]
    fn a_prepared_transaction_leaves_nothing_known_before_it_has_ended() {
        let mut gauges = Gauges::default();
        let id = gauges.begin(&horizon(5, &[]), 1).unwrap();
        gauges.finish(id, ONE, 2);
        gauges.prepared(7);
        assert_eq!(gauges.depths(), None);
        assert_eq!(gauges.begin(&horizon(9, &[7]), 3), None);
        assert_eq!(gauges.begin(&horizon(9, &[6]), 3), None);
        let id = gauges.begin(&horizon(9, &[8]), 3).unwrap();
        gauges.finish(id, ONE, 4);
        assert_eq!(gauges.depths(), Some(ONE));
    }

    #[test]
    fn one_count_at_a_time_until_it_is_late() {
        let mut gauges = Gauges::default();
        let first = gauges.begin(&horizon(5, &[]), 1).unwrap();
        assert_eq!(gauges.begin(&horizon(6, &[]), 2), None);
        let second = gauges.begin(&horizon(6, &[]), 1 + MAX_COUNT).unwrap();
        gauges.finish(first, ONE, 3);
        assert_eq!(gauges.depths(), None);
        gauges.finish(second, ONE, 4);
        assert_eq!(gauges.depths(), Some(ONE));
    }

    #[test]
    fn counted_again_when_active_and_worth_it() {
        let mut gauges = Gauges::default();
        assert_eq!(gauges.count_at(0), Some(0));
        let id = gauges.begin(&horizon(5, &[]), 1_000).unwrap();
        gauges.finish(id, ONE, 2_000);
        assert_eq!(gauges.count_at(1_999), None);
        assert_eq!(gauges.count_at(3_000), Some(2_000 + AGAIN));
        gauges.moved(6, &Depths { pending: -2, ..Depths::default() });
        assert_eq!((gauges.count_at(3_000), gauges.depths()), (Some(2_000 + AGAIN_IF_WRONG), Some(Depths::default())));
        let id = gauges.begin(&horizon(7, &[]), 100_000_000).unwrap();
        gauges.give_up(id, 110_000_000);
        assert_eq!(gauges.count_at(0), Some(110_000_000 + 1_000_000_000));
    }

    #[test]
    fn too_many_transactions_make_no_base() {
        let many: Vec<u64> = (1..=MAX_RUNNING as u64 + 1).collect();
        assert_eq!(Gauges::default().begin(&horizon(1_000, &many), 1), None);
    }
}
