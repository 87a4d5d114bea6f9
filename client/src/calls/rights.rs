//! Rights on a queue for roles.

use tokio_postgres::types::Type;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Result;

const GRANT_PRODUCER: &str = "SELECT qflow.grant_producer($1, $2)";
const GRANT_CONSUMER: &str = "SELECT qflow.grant_consumer($1, $2)";
const GRANT_MONITOR: &str = "SELECT qflow.grant_monitor($1, $2)";
const REVOKE_PRODUCER: &str = "SELECT qflow.revoke_producer($1, $2)";
const REVOKE_CONSUMER: &str = "SELECT qflow.revoke_consumer($1, $2)";
const REVOKE_MONITOR: &str = "SELECT qflow.revoke_monitor($1, $2)";

impl<C: Connection> Client<C> {
    /// Lets a role add jobs to a queue.
    pub async fn grant_producer(&self, queue: &str, role: &str) -> Result<()> {
        self.right(GRANT_PRODUCER, queue, role).await
    }

    /// Lets a role fetch and settle a queue's jobs.
    pub async fn grant_consumer(&self, queue: &str, role: &str) -> Result<()> {
        self.right(GRANT_CONSUMER, queue, role).await
    }

    /// Lets a role see a queue's figures, but no payload.
    pub async fn grant_monitor(&self, queue: &str, role: &str) -> Result<()> {
        self.right(GRANT_MONITOR, queue, role).await
    }

    /// Takes back what [`grant_producer`](Client::grant_producer) gave.
    pub async fn revoke_producer(&self, queue: &str, role: &str) -> Result<()> {
        self.right(REVOKE_PRODUCER, queue, role).await
    }

    /// Takes back what [`grant_consumer`](Client::grant_consumer) gave.
    pub async fn revoke_consumer(&self, queue: &str, role: &str) -> Result<()> {
        self.right(REVOKE_CONSUMER, queue, role).await
    }

    /// Takes back what [`grant_monitor`](Client::grant_monitor) gave.
    pub async fn revoke_monitor(&self, queue: &str, role: &str) -> Result<()> {
        self.right(REVOKE_MONITOR, queue, role).await
    }

    async fn right(&self, sql: &'static str, queue: &str, role: &str) -> Result<()> {
        self.rows(sql, &[(&queue, Type::TEXT), (&role, Type::TEXT)]).await.map(drop)
    }
}
