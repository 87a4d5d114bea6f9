//! Looking at queues, and after them.

use std::time::{Duration, SystemTime};

use tokio_postgres::types::Type;
use tokio_postgres::Row;

use crate::client::{column, Client};
use crate::connection::{Argument, Connection};
use crate::error::Result;
use crate::json::Json;
use crate::millis::duration;

const REAP: &str = "SELECT queue, returned, failed FROM qflow.reap()";
const VERIFY: &str = "SELECT check_name, ok, detail, remedy FROM qflow.verify($1)";
const READINESS: &str = "SELECT check_name, ok, detail, remedy FROM qflow.readiness($1)";
const HEALTH: &str = "SELECT check_name, ok, detail, remedy FROM qflow.health()";
const PROMETHEUS: &str = "SELECT qflow.prometheus()";
const QUEUE_STATS: &str = "SELECT queue, paused, pending, delayed, in_progress, completed, failed, oldest_pending_ms, \
     enqueued_total, claimed_total, acked_total, requeued_total, failed_total, released_total, reaped_total, stale_total \
     FROM qflow.queue_stats ORDER BY queue";
const WORKFLOW_STATUS: &str = "SELECT workflow, queue, paused, timeout_ms, retries, batch_size, concurrency, \
     resource_hints, in_flight, leases, last_fetch_at, last_error FROM qflow.workflow_status ORDER BY workflow";
const LEASE_STATUS: &str =
    "SELECT lease, workflow, queue, jobs, unsettled, leased_at, lease_until, worker, pid, bound, \
     resources FROM qflow.lease_status ORDER BY lease";

/// What one pass of [`Client::reap`] did in one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// The queue's qualified name.
    pub queue: String,
    /// Jobs that are pending again.
    pub returned: i64,
    /// Jobs that had no attempt left.
    pub failed: i64,
}

/// One line of a check-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do where it is not well.
    pub remedy: Option<String>,
}

/// A queue in figures. What cannot be counted is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStats {
    /// Its qualified name.
    pub queue: String,
    /// Whether nobody may fetch.
    pub paused: bool,
    /// Jobs that wait, `delayed` among them.
    pub pending: Option<i64>,
    /// Jobs that wait for their time.
    pub delayed: Option<i64>,
    /// Jobs under a lease.
    pub in_progress: Option<i64>,
    /// Jobs that are done and kept.
    pub completed: Option<i64>,
    /// Jobs that have failed for good.
    pub failed: Option<i64>,
    /// The age of the oldest job that waits, without the delayed ones.
    pub oldest_pending: Option<Duration>,
    /// What happened since the server started.
    pub totals: QueueTotals,
}

/// What happened in a queue since the server started; `None` where nobody counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Jobs added.
    pub enqueued: Option<i64>,
    /// Jobs fetched.
    pub claimed: Option<i64>,
    /// Jobs completed.
    pub acked: Option<i64>,
    /// Jobs tried again.
    pub requeued: Option<i64>,
    /// Jobs failed for good.
    pub failed: Option<i64>,
    /// Jobs given back.
    pub released: Option<i64>,
    /// Jobs taken back because their lease had ended.
    pub reaped: Option<i64>,
    /// Settles that came too late.
    pub stale: Option<i64>,
}

/// A workflow with the settings that a fetch uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowStatus {
    /// Its name.
    pub workflow: String,
    /// Its queue's qualified name.
    pub queue: String,
    /// Whether its fetches return nothing.
    pub paused: bool,
    /// How long a lease holds.
    pub timeout: Duration,
    /// How often a job is tried again.
    pub retries: i64,
    /// Most jobs in a batch.
    pub batch_size: i64,
    /// How many producers a client should run.
    pub concurrency: i64,
    /// Laid under the hints of each fetch.
    pub resource_hints: Option<Json>,
    /// Jobs in progress under it; `None` where they cannot be counted.
    pub in_flight: Option<i64>,
    /// Its leases.
    pub leases: Option<i64>,
    /// When somebody last fetched.
    pub last_fetch_at: Option<SystemTime>,
    /// Why a job was last requeued, failed or taken back.
    pub last_error: Option<String>,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Its id.
    pub lease: i64,
    /// The workflow that fetched.
    pub workflow: String,
    /// The queue's qualified name.
    pub queue: String,
    /// Jobs fetched under it.
    pub jobs: i64,
    /// Jobs of these that are not settled; `None` where they cannot be counted.
    pub unsettled: Option<i64>,
    /// When it began.
    pub leased_at: SystemTime,
    /// When it ends.
    pub lease_until: SystemTime,
    /// The name that the consumer gave itself.
    pub worker: Option<String>,
    /// The process of the server that fetched.
    pub pid: Option<i32>,
    /// Whether it ends with its connection.
    pub bound: bool,
    /// What it holds.
    pub resources: Option<Json>,
}

impl<C: Connection> Client<C> {
    /// Takes back the expired leases of all queues, once. Returns the queues where there was something to do. A server
    /// with qflow preloaded does it by itself.
    pub async fn reap(&self) -> Result<Vec<Reaped>> {
        let reaped =
            |row: &Row| Ok(Reaped { queue: column(row, 0)?, returned: column(row, 1)?, failed: column(row, 2)? });
        self.rows(REAP, &[]).await?.iter().map(reaped).collect()
    }

    /// Checks a queue and changes nothing. Reads the whole table.
    pub async fn verify(&self, queue: &str) -> Result<Vec<Check>> {
        self.checks(VERIFY, &[(&queue, Type::TEXT)]).await
    }

    /// Says whether this role can work for a workflow now, and why nothing comes.
    pub async fn readiness(&self, workflow: &str) -> Result<Vec<Check>> {
        self.checks(READINESS, &[(&workflow, Type::TEXT)]).await
    }

    /// Says whether all is well in this database, and if not, how to mend it.
    pub async fn health(&self) -> Result<Vec<Check>> {
        self.checks(HEALTH, &[]).await
    }

    /// All figures in the text format that Prometheus reads.
    pub async fn prometheus(&self) -> Result<String> {
        self.value(PROMETHEUS, &[]).await
    }

    /// The queues that this role may see, by name.
    pub async fn queue_stats(&self) -> Result<Vec<QueueStats>> {
        self.rows(QUEUE_STATS, &[]).await?.iter().map(QueueStats::from_row).collect()
    }

    /// The workflows that this role may see, by name.
    pub async fn workflow_status(&self) -> Result<Vec<WorkflowStatus>> {
        self.rows(WORKFLOW_STATUS, &[]).await?.iter().map(WorkflowStatus::from_row).collect()
    }

    /// The leases that this role may see, oldest first.
    pub async fn lease_status(&self) -> Result<Vec<LeaseStatus>> {
        self.rows(LEASE_STATUS, &[]).await?.iter().map(LeaseStatus::from_row).collect()
    }

    async fn checks(&self, sql: &'static str, arguments: &[Argument<'_>]) -> Result<Vec<Check>> {
        let check = |row: &Row| {
            let detail: Option<String> = column(row, 2)?;
            Ok(Check {
                name: column(row, 0)?,
                ok: column(row, 1)?,
                detail: detail.unwrap_or_default(),
                remedy: column(row, 3)?,
            })
        };
        self.rows(sql, arguments).await?.iter().map(check).collect()
    }
}

impl QueueStats {
    fn from_row(row: &Row) -> Result<Self> {
        let oldest: Option<i64> = column(row, 7)?;
        Ok(QueueStats {
            queue: column(row, 0)?,
            paused: column(row, 1)?,
            pending: column(row, 2)?,
            delayed: column(row, 3)?,
            in_progress: column(row, 4)?,
            completed: column(row, 5)?,
            failed: column(row, 6)?,
            oldest_pending: oldest.map(duration),
            totals: QueueTotals {
                enqueued: column(row, 8)?,
                claimed: column(row, 9)?,
                acked: column(row, 10)?,
                requeued: column(row, 11)?,
                failed: column(row, 12)?,
                released: column(row, 13)?,
                reaped: column(row, 14)?,
                stale: column(row, 15)?,
            },
        })
    }
}

impl WorkflowStatus {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(WorkflowStatus {
            workflow: column(row, 0)?,
            queue: column(row, 1)?,
            paused: column(row, 2)?,
            timeout: duration(column(row, 3)?),
            retries: column(row, 4)?,
            batch_size: column(row, 5)?,
            concurrency: column(row, 6)?,
            resource_hints: column(row, 7)?,
            in_flight: column(row, 8)?,
            leases: column(row, 9)?,
            last_fetch_at: column(row, 10)?,
            last_error: column(row, 11)?,
        })
    }
}

impl LeaseStatus {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(LeaseStatus {
            lease: column(row, 0)?,
            workflow: column(row, 1)?,
            queue: column(row, 2)?,
            jobs: column(row, 3)?,
            unsettled: column(row, 4)?,
            leased_at: column(row, 5)?,
            lease_until: column(row, 6)?,
            worker: column(row, 7)?,
            pid: column(row, 8)?,
            bound: column(row, 9)?,
            resources: column(row, 10)?,
        })
    }
}
