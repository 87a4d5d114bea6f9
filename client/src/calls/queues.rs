//! Queues: made, changed, paused, emptied.

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Result;
use crate::millis::optional;

const CREATE_QUEUE: &str = "SELECT qflow.create_queue($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const ALTER_QUEUE: &str = "SELECT qflow.alter_queue($1, $2, $3, $4, $5, $6, $7)";
const DROP_QUEUE: &str = "SELECT qflow.drop_queue($1, $2)";
const PAUSE_QUEUE: &str = "SELECT qflow.pause_queue($1)";
const RESUME_QUEUE: &str = "SELECT qflow.resume_queue($1)";
const PURGE_QUEUE: &str = "SELECT qflow.purge_queue($1, $2, $3)";
const RETRY_FAILED: &str = "SELECT qflow.retry_failed($1, $2)";

/// Settings of a queue. What is `None` is left to the server, or as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a lease holds, more than zero. Kept in whole milliseconds.
    pub timeout: Option<Duration>,
    /// How often a job is tried again, 0 or more.
    pub retries: Option<u32>,
    /// Most jobs in a batch, 1 or more.
    pub batch_size: Option<u32>,
    /// How long completed jobs are kept, more than zero.
    pub retention: Option<Duration>,
    /// How long failed jobs are kept, more than zero.
    pub failed_retention: Option<Duration>,
    /// What an ack does with the job.
    pub on_complete: Option<OnComplete>,
}

/// What an ack does with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnComplete {
    /// It stays, completed. Effects that must happen exactly once need this.
    Keep,
    /// It is deleted.
    Delete,
}

impl OnComplete {
    fn word(self) -> &'static str {
        match self {
            OnComplete::Keep => "keep",
            OnComplete::Delete => "delete",
        }
    }
}

impl<C: Connection> Client<C> {
    /// Makes a queue table and registers one workflow for it, named `workflow` or else like the table; a table that is
    /// there is adopted. Returns the table's qualified name. With `if_not_exists` an existing queue is left unchanged.
    pub async fn create_queue(
        &self,
        queue: &str,
        settings: &QueueSettings,
        if_not_exists: bool,
        workflow: Option<&str>,
    ) -> Result<String> {
        let arguments = settings.arguments();
        let [timeout, retries, batch_size, retention, failed_retention] = &arguments;
        self.value(
            CREATE_QUEUE,
            &[
                (&queue, Type::TEXT),
                (timeout, Type::INT8),
                (retries, Type::INT8),
                (batch_size, Type::INT8),
                (retention, Type::INT8),
                (failed_retention, Type::INT8),
                (&settings.on_complete.map(OnComplete::word), Type::TEXT),
                (&if_not_exists, Type::BOOL),
                (&workflow, Type::TEXT),
            ],
        )
        .await
    }

    /// Changes settings of a queue. True when something changed.
    pub async fn alter_queue(&self, queue: &str, settings: &QueueSettings) -> Result<bool> {
        let arguments = settings.arguments();
        let [timeout, retries, batch_size, retention, failed_retention] = &arguments;
        self.value(
            ALTER_QUEUE,
            &[
                (&queue, Type::TEXT),
                (timeout, Type::INT8),
                (retries, Type::INT8),
                (batch_size, Type::INT8),
                (retention, Type::INT8),
                (failed_retention, Type::INT8),
                (&settings.on_complete.map(OnComplete::word), Type::TEXT),
            ],
        )
        .await
    }

    /// Removes a queue with its workflows and leases. The table stays with its rows where `keep_table` is true; a table
    /// that was there before the queue cannot be dropped this way (55000).
    pub async fn drop_queue(&self, queue: &str, keep_table: bool) -> Result<bool> {
        self.value(DROP_QUEUE, &[(&queue, Type::TEXT), (&keep_table, Type::BOOL)]).await
    }

    /// Lets no workflow of the queue fetch until it is resumed. True when something changed.
    pub async fn pause_queue(&self, queue: &str) -> Result<bool> {
        self.value(PAUSE_QUEUE, &[(&queue, Type::TEXT)]).await
    }

    /// Ends a pause. True when something changed.
    pub async fn resume_queue(&self, queue: &str) -> Result<bool> {
        self.value(RESUME_QUEUE, &[(&queue, Type::TEXT)]).await
    }

    /// Deletes jobs and returns how many: those with a status (`None`: completed and failed) that are at least that old
    /// (`None`: the queue's retention, else any age).
    pub async fn purge_queue(&self, queue: &str, status: Option<&str>, older_than: Option<Duration>) -> Result<i64> {
        let arguments =
            [(&queue as _, Type::TEXT), (&status as _, Type::TEXT), (&optional(older_than) as _, Type::INT8)];
        self.value(PURGE_QUEUE, &arguments).await
    }

    /// Makes failed jobs pending again with fresh attempts and returns how many: these, or all of them (`None`).
    pub async fn retry_failed(&self, queue: &str, ids: Option<&[i64]>) -> Result<i64> {
        self.value(RETRY_FAILED, &[(&queue, Type::TEXT), (&ids, Type::INT8_ARRAY)]).await
    }
}

impl QueueSettings {
    fn arguments(&self) -> [Option<i64>; 5] {
        [
            optional(self.timeout),
            self.retries.map(i64::from),
            self.batch_size.map(i64::from),
            optional(self.retention),
            optional(self.failed_retention),
        ]
    }
}
