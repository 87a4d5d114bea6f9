//! Back-off and attempt arithmetic: pure, total for every input, free of overflow.

/// How long a job waits before it is tried again. Both in milliseconds; a negative value counts as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first attempt. 0 switches the back-off off.
    pub delay_ms: i64,
    /// What the doubling stops at, before jitter is added.
    pub max_delay_ms: i64,
}

/// Milliseconds to wait after the given attempt (counted from 1; anything below counts as 1).
///
/// The delay doubles with each attempt and is capped at `max_delay_ms`; then up to a quarter of it is
/// added, in proportion to `jitter` (0 to 1; outside: the nearer end, NaN: none). So the result may pass
/// the cap by its jitter only. Never negative, and saturates at `i64::MAX`.
pub fn delay_ms(backoff: &Backoff, attempt: i64, jitter: f64) -> i64 {
    let delay = doubled(backoff.delay_ms.max(0), attempt).min(backoff.max_delay_ms.max(0));
    delay.saturating_add(share_of_quarter(delay, jitter))
}

/// `delay` doubled once for each attempt after the first, saturating.
fn doubled(delay: i64, attempt: i64) -> i64 {
    let doublings = u32::try_from(attempt.max(1) - 1).unwrap_or(u32::MAX);
    2i64.saturating_pow(doublings).saturating_mul(delay)
}

/// `jitter` (0 to 1) of a quarter of `delay`, rounded down.
fn share_of_quarter(delay: i64, jitter: f64) -> i64 {
    let quarter = delay / 4;
    // The cast turns NaN into 0; a quarter above 2^53 may have been rounded up.
    ((quarter as f64 * jitter.clamp(0.0, 1.0)) as i64).min(quarter)
}

/// How often a job may be claimed: `retries + 1`, held between 1 and `i32::MAX`.
pub fn max_attempts(retries: i64) -> i32 {
    let attempts = retries.saturating_add(1).max(1);
    i32::try_from(attempts).unwrap_or(i32::MAX)
}

/// Whether a job that was claimed `attempt` times has no attempt left.
pub fn spent(attempt: i32, max_attempts: i32) -> bool {
    attempt >= max_attempts
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTREMES: [i64; 12] =
        [i64::MIN, i64::MIN + 1, -1, 0, 1, 2, 3, 1_000, 1 << 53, i64::MAX / 4 + 1, i64::MAX - 1, i64::MAX];
    const JITTERS: [f64; 9] = [f64::NEG_INFINITY, -1.0, 0.0, f64::MIN_POSITIVE, 0.5, 1.0, 2.0, f64::INFINITY, f64::NAN];

    /// A deterministic stream of numbers of every magnitude (splitmix64).
    struct Numbers(u64);

    impl Numbers {
        fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn int(&mut self) -> i64 {
            let magnitude = self.bits() % 64;
            (self.bits() as i64) >> magnitude
        }

        fn share(&mut self) -> f64 {
            (self.bits() >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    fn backoff(delay_ms: i64, max_delay_ms: i64) -> Backoff {
        Backoff { delay_ms, max_delay_ms }
    }

    /// 0, the cap and the quarter bound every delay, whatever goes in.
    fn assert_bounds(backoff: Backoff, attempt: i64, jitter: f64) {
        let base = delay_ms(&backoff, attempt, 0.0);
        let delay = delay_ms(&backoff, attempt, jitter);
        let case = format!("{backoff:?}, attempt {attempt}, jitter {jitter}");
        assert!(base >= 0 && base <= backoff.max_delay_ms.max(0), "{case}");
        assert!(base >= backoff.delay_ms.min(backoff.max_delay_ms), "{case}");
        assert!(delay >= base, "{case}");
        assert!(delay <= base.saturating_add(base / 4), "{case}");
    }

    #[test]
    fn doubles_to_the_cap() {
        let usual = backoff(1_000, 300_000);
        let delays: Vec<i64> = (1..=11).map(|attempt| delay_ms(&usual, attempt, 0.0)).collect();
        let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000];
        assert_eq!(delays, expected);
    }

    #[test]
    fn jitter_comes_on_top_of_the_cap() {
        let usual = backoff(1_000, 300_000);
        assert_eq!(delay_ms(&usual, 1, 0.5), 1_125);
        assert_eq!(delay_ms(&usual, 1, 1.0), 1_250);
        assert_eq!(delay_ms(&usual, 99, 1.0), 375_000);
    }

    #[test]
    fn odd_jitter_is_taken_as_the_nearer_end() {
        let usual = backoff(1_000, 300_000);
        assert_eq!(delay_ms(&usual, 1, -3.0), 1_000);
        assert_eq!(delay_ms(&usual, 1, 7.0), 1_250);
        assert_eq!(delay_ms(&usual, 1, f64::NAN), 1_000);
    }

    #[test]
    fn zero_and_negative_settings_give_zero() {
        for attempt in EXTREMES {
            assert_eq!(delay_ms(&backoff(0, 300_000), attempt, 1.0), 0);
            assert_eq!(delay_ms(&backoff(-5, 300_000), attempt, 1.0), 0);
            assert_eq!(delay_ms(&backoff(1_000, 0), attempt, 1.0), 0);
            assert_eq!(delay_ms(&backoff(1_000, -5), attempt, 1.0), 0);
        }
    }

    #[test]
    fn attempts_below_one_count_as_the_first() {
        for attempt in [i64::MIN, -1, 0, 1] {
            assert_eq!(delay_ms(&backoff(7, 300_000), attempt, 0.0), 7);
        }
    }

    #[test]
    fn extremes_stay_within_bounds() {
        for delay in EXTREMES {
            for max in EXTREMES {
                for attempt in EXTREMES.into_iter().chain(60..70) {
                    for jitter in JITTERS {
                        assert_bounds(backoff(delay, max), attempt, jitter);
                    }
                }
            }
        }
        assert_eq!(delay_ms(&backoff(1, i64::MAX), 63, 0.0), 1 << 62);
        assert_eq!(delay_ms(&backoff(1, i64::MAX), 64, 0.0), i64::MAX);
        assert_eq!(delay_ms(&backoff(i64::MAX, i64::MAX), i64::MAX, 1.0), i64::MAX);
    }

    #[test]
    fn any_numbers_stay_within_bounds_and_grow_with_attempt_and_jitter() {
        let mut numbers = Numbers(1);
        for _ in 0..20_000 {
            let backoff = backoff(numbers.int(), numbers.int());
            let (attempt, jitter) = (numbers.int(), numbers.share());
            assert_bounds(backoff, attempt, jitter);

            let later = attempt.saturating_add(numbers.int().saturating_abs() % 5);
            let wider = jitter + (1.0 - jitter) * numbers.share();
            let delay = delay_ms(&backoff, attempt, jitter);
            assert!(delay <= delay_ms(&backoff, later, jitter), "{backoff:?} {attempt} {later} {jitter}");
            assert!(delay <= delay_ms(&backoff, attempt, wider), "{backoff:?} {attempt} {jitter} {wider}");
        }
    }

    #[test]
    fn attempts_are_retries_and_one() {
        assert_eq!(max_attempts(0), 1);
        assert_eq!(max_attempts(3), 4);
        assert_eq!(max_attempts(i64::from(i32::MAX) - 1), i32::MAX);
        assert_eq!(max_attempts(i64::from(i32::MAX)), i32::MAX);
        assert_eq!(max_attempts(i64::MAX), i32::MAX);
        assert_eq!(max_attempts(-1), 1);
        assert_eq!(max_attempts(i64::MIN), 1);
    }

    #[test]
    fn a_job_is_spent_at_its_last_attempt() {
        assert!(!spent(3, 4));
        assert!(spent(4, 4));
        assert!(spent(5, 4));
        assert!(spent(i32::MAX, i32::MAX));
        assert!(!spent(i32::MIN, 1));
    }
}
