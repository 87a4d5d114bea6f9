//! Durations as the database takes them.

use std::time::Duration;

/// Whole milliseconds, rounded up so that what is not nothing does not become nothing.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

pub(crate) fn optional(duration: Option<Duration>) -> Option<i64> {
    duration.map(millis)
}

/// A duration that the database gave; what is negative has passed.
pub(crate) fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A count as the database takes it: more than it can hold is over each cap anyway.
pub(crate) fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_rounded_up_and_too_much_is_the_most() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(1_001)), 2);
        assert_eq!(millis(Duration::MAX), i64::MAX);
        assert_eq!(duration(-5), Duration::ZERO);
    }
}
