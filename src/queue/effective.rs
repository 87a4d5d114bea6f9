//! The settings that count for a workflow: its own, else its queue's, else the server's.

use super::settings::{QueueSettings, WorkflowSettings};
use crate::guc;
use crate::job::retry::{self, Backoff};

/// Settings with the precedence workflow, queue, setting. What a call gives stands above all of it.
pub struct Effective {
    /// What the workflow says.
    pub workflow: WorkflowSettings,
    /// What its queue says.
    pub queue: QueueSettings,
}

impl Effective {
    /// Lease time, milliseconds.
    pub fn timeout_ms(&self) -> i64 {
        first(self.workflow.timeout_ms, self.queue.timeout_ms, guc::default_timeout_ms)
    }

    /// Tries after the first.
    pub fn retries(&self) -> i64 {
        first(self.workflow.retries, self.queue.retries, guc::default_retries)
    }

    /// Tries in all.
    pub fn max_attempts(&self) -> i32 {
        retry::max_attempts(self.retries())
    }

    /// Jobs in a batch.
    pub fn batch_size(&self) -> i64 {
        first(self.workflow.batch_size, self.queue.batch_size, guc::default_batch_size)
    }

    /// Producers advised to clients.
    pub fn concurrency(&self) -> i64 {
        self.workflow.concurrency.unwrap_or_else(guc::default_concurrency)
    }

    /// Delays before retries.
    pub fn backoff(&self) -> Backoff {
        Backoff {
            delay_ms: self.workflow.retry_delay_ms.unwrap_or_else(guc::default_retry_delay_ms),
            max_delay_ms: self.workflow.retry_max_delay_ms.unwrap_or_else(guc::default_retry_max_delay_ms),
        }
    }
}

fn first(workflow: Option<i64>, queue: Option<i64>, setting: fn() -> i64) -> i64 {
    workflow.or(queue).unwrap_or_else(setting)
}
