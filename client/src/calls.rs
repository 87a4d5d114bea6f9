//! The calls, one file for each part of the SQL interface.

mod consume;
mod produce;
mod queues;
mod resources;
mod rights;
mod settle;
mod watch;
mod workflows;

pub use consume::{FetchOptions, Job};
pub use produce::EnqueueOptions;
pub use queues::{OnComplete, QueueSettings};
pub use resources::{ResourceKind, ResourceStatus};
pub use settle::{Claim, ExtendedLease, Outcome, Settled, Verdict};
pub use watch::{Check, LeaseStatus, QueueStats, QueueTotals, Reaped, WorkflowStatus};
pub use workflows::WorkflowSettings;
