//! How long jobs took that were acked: from their insertion, and under their lease.

/// Upper bounds of the time from insertion to ack, microseconds.
pub const LATENCY: [i64; 12] = [
    10_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
];
/// Upper bounds of the time from fetch to ack, microseconds.
pub const RUNTIME: [i64; 12] = [
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    3_600_000_000,
];
/// Upper bounds of the share of the lease's time that was used, millionths.
pub const SHARE: [i64; 3] = [500_000, 900_000, 1_000_000];

/// How often a value fell between two bounds, and the sum of all values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// By upper bound.
    pub counts: [u64; N],
    /// Those above all bounds.
    pub above: u64,
    /// Sum of the values.
    pub sum: u64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [0; N], above: 0, sum: 0 }
    }
}

impl<const N: usize> Histogram<N> {
    fn note(&mut self, bounds: &[i64; N], value: i64) {
        let value = value.max(0);
        match bounds.iter().position(|bound| value <= *bound) {
            Some(at) => self.counts[at] += 1,
            None => self.above += 1,
        }
        self.sum = self.sum.saturating_add(value as u64);
    }

    fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.above += other.above;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }
}

/// What is known of the acks of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acks {
    /// From insertion to ack, microseconds.
    pub latency: Histogram<12>,
    /// From fetch to ack, microseconds.
    pub runtime: Histogram<12>,
    /// The runtime as a share of the lease's time, millionths.
    pub share: Histogram<3>,
}

/// A time that is no time: `infinity`, or before it.
fn span(from: i64, to: i64) -> Option<i64> {
    (![i64::MIN, i64::MAX].contains(&from)).then(|| to.saturating_sub(from))
}

impl Acks {
    /// Notes a job that was inserted at a time, fetched at another under a lease of `timeout_ms`, and acked now;
    /// microseconds. A time to come counts as now.
    pub fn note(&mut self, inserted_at: Option<i64>, leased_at: i64, timeout_ms: i64, now: i64) {
        if let Some(latency) = inserted_at.and_then(|from| span(from, now)) {
            self.latency.note(&LATENCY, latency);
        }
        let runtime = now.saturating_sub(leased_at).max(0);
        self.runtime.note(&RUNTIME, runtime);
        // Microseconds of milliseconds, in millionths.
        self.share.note(&SHARE, runtime.saturating_mul(1_000) / timeout_ms.max(1));
    }

    /// Adds others to these.
    pub fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.runtime.add(&other.runtime);
        self.share.add(&other.share);
    }
}

/// Seconds looked back.
const SECONDS: usize = 60;

/// How many jobs were acked in each of the last seconds.
pub struct LastMinute {
    /// Second and jobs.
    cells: [(i64, i64); SECONDS],
}

impl Default for LastMinute {
    fn default() -> Self {
        Self { cells: [(i64::MIN, 0); SECONDS] }
    }
}

impl LastMinute {
    /// Notes jobs acked now, microseconds.
    pub fn note(&mut self, jobs: i64, now: i64) {
        let second = now.div_euclid(1_000_000);
        let cell = &mut self.cells[second.rem_euclid(SECONDS as i64) as usize];
        if cell.0 != second {
            *cell = (second, 0);
        }
        cell.1 += jobs;
    }

    /// Jobs acked in this second and the 59 before.
    pub fn jobs(&self, now: i64) -> i64 {
        let second = now.div_euclid(1_000_000);
        let recent = self.cells.iter().filter(|(at, _)| (second - SECONDS as i64 + 1..=second).contains(at));
        recent.map(|(_, jobs)| jobs).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_the_first_bound_that_is_not_below_it() {
        let mut acks = Acks::default();
        let now = 1_000_000_000;
        acks.note(Some(now - 10_000), now - 10_001, 10, now);
        acks.note(Some(now + 5), now + 5, 10, now);
        acks.note(Some(now - 86_400_000_001), now - 9_000, 10, now);
        acks.note(Some(i64::MIN), now, 10, now);
        acks.note(None, now, 10, now);
        assert_eq!((acks.latency.count(), acks.latency.counts[0], acks.latency.above), (3, 2, 1));
        assert_eq!((acks.runtime.count(), acks.runtime.counts[0], acks.runtime.counts[1]), (5, 4, 1));
        assert_eq!((acks.share.counts, acks.share.above), ([3, 1, 0], 1));
        assert_eq!(acks.runtime.sum, 19_001);
        let mut twice = acks;
        twice.add(&acks);
        assert_eq!((twice.latency.count(), twice.share.sum), (6, 2 * acks.share.sum));
    }

    #[test]
    fn a_minute_is_sixty_seconds() {
        let mut minute = LastMinute::default();
        let at = |second: i64| second * 1_000_000;
        minute.note(1, at(100));
        minute.note(2, at(159) + 999_999);
        assert_eq!(
            (minute.jobs(at(159)), minute.jobs(at(160)), minute.jobs(at(218)), minute.jobs(at(219))),
            (3, 2, 2, 0)
        );
        minute.note(5, at(160));
        assert_eq!((minute.jobs(at(160)), minute.jobs(at(99))), (7, 0));
    }
}
