//! Settings of queues and workflows as they are given: each `None` means "not given".

use crate::error::{Error, Result};
use crate::host::call::{Call, Name};

/// What happens to a job when it is acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnComplete {
    /// It stays, as completed.
    Keep,
    /// Its row is deleted.
    Delete,
}

impl OnComplete {
    /// Reads 'keep' or 'delete'.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "keep" => Ok(Self::Keep),
            "delete" => Ok(Self::Delete),
            _ => Err(Error::bad_value("on_complete must be 'keep' or 'delete'")),
        }
    }

    /// The word that stands for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}

/// Settings of a queue. Milliseconds; all at least 1 but `retries`, at least 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Lease time.
    pub timeout_ms: Option<i64>,
    /// Tries after the first.
    pub retries: Option<i64>,
    /// Jobs in a batch.
    pub batch_size: Option<i64>,
    /// How long completed jobs are kept.
    pub retention_ms: Option<i64>,
    /// How long failed jobs are kept.
    pub failed_retention_ms: Option<i64>,
}

/// Settings of a workflow. Milliseconds; all at least 1 but `retries` and `retry_delay_ms`, at least 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkflowSettings {
    /// Lease time.
    pub timeout_ms: Option<i64>,
    /// Tries after the first.
    pub retries: Option<i64>,
    /// Jobs in a batch.
    pub batch_size: Option<i64>,
    /// Producers advised to clients.
    pub concurrency: Option<i64>,
    /// Text of the jsonb.
    pub resource_hints: Option<String>,
    /// First back-off.
    pub retry_delay_ms: Option<i64>,
    /// Longest back-off before jitter.
    pub retry_max_delay_ms: Option<i64>,
}

/// Longest time that is accepted: 100 years, so that no sum of times can overflow.
pub const MAX_MS: i64 = 100 * 366 * 86_400_000;

/// An optional duration in milliseconds from `least` to 100 years.
pub fn duration(call: &Call, name: Name, least: i64) -> Result<Option<i64>> {
    within(call.opt_bigint(name, least)?, name.1, MAX_MS)
}

/// An optional number of retries.
pub fn retries(call: &Call, name: Name) -> Result<Option<i64>> {
    within(call.opt_bigint(name, 0)?, name.1, i64::from(i32::MAX) - 1)
}

/// An optional count of at least 1 that fits an integer.
pub fn count(call: &Call, name: Name) -> Result<Option<i64>> {
    within(call.opt_bigint(name, 1)?, name.1, i64::from(i32::MAX))
}

fn within(value: Option<i64>, name: &str, most: i64) -> Result<Option<i64>> {
    match value {
        Some(value) if value > most => {
            Err(Error::bad_value(format!("{name} must be at most {most}"))
                .detail(format!("The value given is {value}.")))
        }
        other => Ok(other),
    }
}
