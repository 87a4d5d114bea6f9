//! Where jobs come from and go to: the database, or memory in tests.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use crate::calls::{Claim, ExtendedLease, FetchOptions, Job, Outcome, Settled};
use crate::client::Client;
use crate::error::Result;
use crate::hints::Hints;

/// How long an interrupted wait may take to say so before its connection is dropped without an answer.
const GOODBYE: Duration = Duration::from_secs(1);

const SHORT_LOCKS: &str = "SET LOCAL lock_timeout = '100ms'";

/// What a consumer needs of a queue. None of these is ever dropped half-way, but for `wait`.
pub(crate) trait Backend: Send + Sync + 'static {
    fn fetch<'a>(&'a self, request: &'a FetchOptions) -> BoxFuture<'a, Result<Vec<Job>>>;
    /// Returns early, and well, when it is told to stop.
    fn wait<'a>(
        &'a self,
        timeout: Duration,
        hints: &'a Hints,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<()>>;
    fn settle<'a>(&'a self, outcomes: &'a [(Claim, Outcome)]) -> BoxFuture<'a, Result<Vec<Settled>>>;
    fn extend<'a>(&'a self, leases: &'a [i64], timeout: Option<Duration>) -> BoxFuture<'a, Result<Vec<ExtendedLease>>>;
    /// The client, where there is a database.
    fn client(&self) -> Option<&Client> {
        None
    }
}

/// Where a consumer or pipeline takes its jobs from.
///
/// A [`Client`] becomes one, and so does the in-memory queue of the feature `testing`: replacing one by the other
/// changes one line of a program.
#[derive(Clone)]
pub struct Source(pub(crate) Arc<dyn Connect>);

/// Makes the backend of one workflow.
pub(crate) trait Connect: Send + Sync {
    fn connect(&self, workflow: &str) -> Arc<dyn Backend>;
    /// Connections that the source can have at one time, where they are limited.
    fn connections(&self) -> Option<usize>;
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl From<Client> for Source {
    fn from(client: Client) -> Self {
        Source(Arc::new(client))
    }
}

impl From<&Client> for Source {
    fn from(client: &Client) -> Self {
        client.clone().into()
    }
}

impl Connect for Client {
    fn connect(&self, workflow: &str) -> Arc<dyn Backend> {
        Arc::new(Database { client: self.clone(), workflow: workflow.to_owned() })
    }

    fn connections(&self) -> Option<usize> {
        Some(self.pool().status().max_size)
    }
}

struct Database {
    client: Client,
    workflow: String,
}

impl Database {
    /// A wait holds a connection for long. When it is to stop, the server is asked to end it, and the connection is
    /// given up: a request to cancel that comes late must not hit the statement of somebody else.
    async fn wait_on_a_connection(&self, timeout: Duration, hints: &Hints, stop: &CancellationToken) -> Result<()> {
        let connection = tokio::select! {
            connection = self.client.pool().get() => connection?,
            () = stop.cancelled() => return Ok(()),
        };
        {
            let on = Client::on(&connection);
            let mut waiting = std::pin::pin!(on.wait(&self.workflow, Some(timeout), hints));
            tokio::select! {
                waited = &mut waiting => return waited,
                () = stop.cancelled() => {}
            }
            if connection.cancel_token().cancel_query(NoTls).await.is_ok() {
                // Until the session is idle, so that the server has nothing to say about its end.
                let ended = async {
                    let _cancelled = waiting.await;
                    connection.batch_execute("").await
                };
                let _idle = tokio::time::timeout(GOODBYE, ended).await;
            }
        }
        drop(deadpool_postgres::Object::take(connection));
        Ok(())
    }
}

impl Database {
    /// A transaction that has acked a job of a lease keeps it locked until it ends. Other leases must not run out
    /// meanwhile, so this does not wait for it, but fails with 55P03.
    async fn extend_without_waiting(&self, leases: &[i64], timeout: Option<Duration>) -> Result<Vec<ExtendedLease>> {
        let mut connection = self.client.pool().get().await?;
        let transaction = connection.transaction().await?;
        transaction.batch_execute(SHORT_LOCKS).await?;
        let held = Client::on(&transaction).extend(&self.workflow, leases, timeout).await?;
        transaction.commit().await?;
        Ok(held)
    }
}

impl Backend for Database {
    fn fetch<'a>(&'a self, request: &'a FetchOptions) -> BoxFuture<'a, Result<Vec<Job>>> {
        Box::pin(self.client.fetch(&self.workflow, request))
    }

    fn wait<'a>(
        &'a self,
        timeout: Duration,
        hints: &'a Hints,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.wait_on_a_connection(timeout, hints, stop))
    }

    fn settle<'a>(&'a self, outcomes: &'a [(Claim, Outcome)]) -> BoxFuture<'a, Result<Vec<Settled>>> {
        Box::pin(self.client.settle(&self.workflow, outcomes, false))
    }

    fn extend<'a>(&'a self, leases: &'a [i64], timeout: Option<Duration>) -> BoxFuture<'a, Result<Vec<ExtendedLease>>> {
        Box::pin(self.extend_without_waiting(leases, timeout))
    }

    fn client(&self) -> Option<&Client> {
        Some(&self.client)
    }
}
