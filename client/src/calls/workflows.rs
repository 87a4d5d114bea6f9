//! Workflows: registered, changed, paused.

use std::time::Duration;

use tokio_postgres::types::Type;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Result;
use crate::hints::Hints;
use crate::millis::optional;

const CREATE_WORKFLOW: &str = "SELECT qflow.create_workflow($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const ALTER_WORKFLOW: &str = "SELECT qflow.alter_workflow($1, $2, $3, $4, $5, $6, $7, $8)";
const DROP_WORKFLOW: &str = "SELECT qflow.drop_workflow($1)";
const PAUSE_WORKFLOW: &str = "SELECT qflow.pause_workflow($1)";
const RESUME_WORKFLOW: &str = "SELECT qflow.resume_workflow($1)";

/// Settings of a workflow. What is `None` is left to the queue and the server, or as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkflowSettings {
    /// How long a lease holds, more than zero. Kept in whole milliseconds.
    pub timeout: Option<Duration>,
    /// How often a job is tried again, 0 or more.
    pub retries: Option<u32>,
    /// Most jobs in a batch, 1 or more.
    pub batch_size: Option<u32>,
    /// How many producers a client should run, 1 or more.
    pub concurrency: Option<u32>,
    /// Laid under the hints of each fetch.
    pub resource_hints: Option<Hints>,
    /// The back-off before the first retry; doubled for each further one.
    pub retry_delay: Option<Duration>,
    /// The longest back-off.
    pub retry_max_delay: Option<Duration>,
}

impl<C: Connection> Client<C> {
    /// Registers a workflow for a queue. True when this call made it; with `if_not_exists` false means that it is there,
    /// with settings of its own, on the same queue.
    pub async fn create_workflow(
        &self,
        workflow: &str,
        queue: &str,
        settings: &WorkflowSettings,
        if_not_exists: bool,
    ) -> Result<bool> {
        let hints = settings.hints()?;
        let numbers = settings.numbers();
        let [timeout, retries, batch_size, concurrency, retry_delay, retry_max_delay] = &numbers;
        self.value(
            CREATE_WORKFLOW,
            &[
                (&workflow, Type::TEXT),
                (&queue, Type::TEXT),
                (timeout, Type::INT8),
                (retries, Type::INT8),
                (batch_size, Type::INT8),
                (concurrency, Type::INT8),
                (&hints, Type::JSONB),
                (retry_delay, Type::INT8),
                (retry_max_delay, Type::INT8),
                (&if_not_exists, Type::BOOL),
            ],
        )
        .await
    }

    /// Changes settings of a workflow. True when something changed.
    pub async fn alter_workflow(&self, workflow: &str, settings: &WorkflowSettings) -> Result<bool> {
        let hints = settings.hints()?;
        let numbers = settings.numbers();
        let [timeout, retries, batch_size, concurrency, retry_delay, retry_max_delay] = &numbers;
        self.value(
            ALTER_WORKFLOW,
            &[
                (&workflow, Type::TEXT),
                (timeout, Type::INT8),
                (retries, Type::INT8),
                (batch_size, Type::INT8),
                (concurrency, Type::INT8),
                (&hints, Type::JSONB),
                (retry_delay, Type::INT8),
                (retry_max_delay, Type::INT8),
            ],
        )
        .await
    }

    /// Removes a workflow. Jobs in progress under it come back when their lease expires.
    pub async fn drop_workflow(&self, workflow: &str) -> Result<bool> {
        self.value(DROP_WORKFLOW, &[(&workflow, Type::TEXT)]).await
    }

    /// Lets the workflow's fetches return nothing until it is resumed. True when something changed.
    pub async fn pause_workflow(&self, workflow: &str) -> Result<bool> {
        self.value(PAUSE_WORKFLOW, &[(&workflow, Type::TEXT)]).await
    }

    /// Ends a pause. True when something changed.
    pub async fn resume_workflow(&self, workflow: &str) -> Result<bool> {
        self.value(RESUME_WORKFLOW, &[(&workflow, Type::TEXT)]).await
    }
}

impl WorkflowSettings {
    fn hints(&self) -> Result<Option<crate::Json>> {
        self.resource_hints.as_ref().map(crate::Json::encode).transpose()
    }

    fn numbers(&self) -> [Option<i64>; 6] {
        [
            optional(self.timeout),
            self.retries.map(i64::from),
            self.batch_size.map(i64::from),
            self.concurrency.map(i64::from),
            optional(self.retry_delay),
            optional(self.retry_max_delay),
        ]
    }
}
