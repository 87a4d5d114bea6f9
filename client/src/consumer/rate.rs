//! How many jobs in what time.

use std::time::Duration;

use tokio::time::Instant;

/// At most so many jobs in a time.
///
/// It is kept before jobs are fetched: no lease runs out while a limit holds its jobs back. After a quiet time up to
/// `jobs` may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 1 or more.
    pub jobs: u32,
    /// More than zero.
    pub per: Duration,
}

impl Rate {
    /// So many jobs a second.
    pub fn per_second(jobs: u32) -> Self {
        Rate { jobs, per: Duration::from_secs(1) }
    }

    pub(crate) fn is_never(self) -> bool {
        self.jobs == 0 || self.per.is_zero()
    }
}

/// What a rate has left: a bucket of `jobs` tokens that fills in `per`.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    tokens: f64,
    filled_at: Instant,
}

impl Allowance {
    pub(crate) fn new(rate: Rate) -> Self {
        Allowance { rate, tokens: f64::from(rate.jobs), filled_at: Instant::now() }
    }

    /// Jobs that may be fetched now, or when there will be one.
    pub(crate) fn now(&mut self) -> Result<usize, Instant> {
        let (now, jobs) = (Instant::now(), f64::from(self.rate.jobs));
        let seconds_a_job = self.rate.per.as_secs_f64() / jobs;
        self.tokens = (self.tokens + (now - self.filled_at).as_secs_f64() / seconds_a_job).min(jobs);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            Ok(self.tokens as usize)
        } else {
            Err(now + Duration::from_secs_f64((1.0 - self.tokens) * seconds_a_job + 0.001))
        }
    }

    pub(crate) fn spend(&mut self, jobs: usize) {
        self.tokens -= jobs as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_in_any_time() {
        let mut allowance = Allowance::new(Rate { jobs: 10, per: Duration::from_secs(1) });
        let (start, mut taken) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(10) {
            match allowance.now() {
                Ok(jobs) => {
                    allowance.spend(jobs);
                    taken += jobs;
                }
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
        assert!((100..=111).contains(&taken), "{taken}");
    }
}
