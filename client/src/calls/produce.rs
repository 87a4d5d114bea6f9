//! Adding jobs.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::types::Type;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Result;
use crate::json::Json;
use crate::millis::optional;

const ENQUEUE: &str = "SELECT qflow.enqueue($1, $2, $3, $4, $5)";
const ENQUEUE_BATCH: &str = "SELECT qflow.enqueue_batch($1, $2, $3, $4, $5)";

/// What a job has besides its payload. What is `None` is the server's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnqueueOptions {
    /// A JSON object beside the payload. For a batch: the same for all its jobs.
    pub metadata: Option<Json>,
    /// 0 to 9, lower first. Default 4.
    pub priority: Option<u8>,
    /// The job is not fetched earlier than this from now.
    pub delay: Option<Duration>,
}

impl<C: Connection> Client<C> {
    /// Adds one pending job and returns its id.
    pub async fn enqueue<T: Serialize + ?Sized + Sync>(
        &self,
        queue: &str,
        data: &T,
        options: EnqueueOptions,
    ) -> Result<i64> {
        let data = Json::encode(data)?;
        self.value(
            ENQUEUE,
            &[
                (&queue, Type::TEXT),
                (&data, Type::JSONB),
                (&options.metadata, Type::JSONB),
                (&options.priority.map(i64::from), Type::INT8),
                (&optional(options.delay), Type::INT8),
            ],
        )
        .await
    }

    /// Adds one pending job for each payload, all or none, and returns the ids in the same order.
    pub async fn enqueue_batch<'t, T: Serialize + Sync + 't>(
        &self,
        queue: &str,
        data: impl IntoIterator<Item = &'t T> + Send,
        options: EnqueueOptions,
    ) -> Result<Vec<i64>> {
        let data = data.into_iter().map(Json::encode).collect::<Result<Vec<_>>>()?;
        let metadata = options.metadata.map(|metadata| vec![metadata; data.len()]);
        self.value(
            ENQUEUE_BATCH,
            &[
                (&queue, Type::TEXT),
                (&data, Type::JSONB_ARRAY),
                (&metadata, Type::JSONB_ARRAY),
                (&options.priority.map(i64::from), Type::INT8),
                (&optional(options.delay), Type::INT8),
            ],
        )
        .await
    }
}
