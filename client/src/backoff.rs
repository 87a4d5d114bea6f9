//! Pauses between tries, longer each time and never the same for two processes.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Doubles from `first` up to `longest`; each pause is between half of that and all of it.
///
/// When a server comes back, the programs that lost it do not come back all at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, tries: 0 }
    }

    /// For calls to a server that may be away.
    pub(crate) fn for_reconnects() -> Self {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
    }

    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX));
        self.tries = (self.tries + 1).min(30);
        jittered(doubled.min(self.longest))
    }
}

/// Between half of a duration and all of it.
pub(crate) fn jittered(duration: Duration) -> Duration {
    let thousandths = u32::try_from(500 + random() % 501).unwrap_or(1_000);
    duration / 1_000 * thousandths
}

/// Not for secrets: each hasher that the standard library makes has keys of its own.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut expected = 100;
        for _ in 0..100 {
            let pause = backoff.next().as_millis();
            assert!((expected / 2..=expected).contains(&pause), "{pause} of {expected}");
            expected = (expected * 2).min(1_000);
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
        assert_ne!(random(), random());
    }
}
