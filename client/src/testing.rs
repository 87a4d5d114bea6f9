//! For the tests of programs: a queue in memory, and assertions on what was enqueued.
//!
//! A program's pipeline runs unchanged on a [`MemoryQueue`]: the one line that names its source is another.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> qflow_client::Result<()> {
//! use qflow_client::testing::MemoryQueue;
//! use qflow_client::{Environment, Message, Next, Pipeline};
//!
//! let queue = MemoryQueue::new();
//! let id = queue.push(&21)?;
//! let running = Pipeline::builder::<u32, ()>("doubling")
//!     .source(&queue) // instead of .source(Client::from_env()?)
//!     .environment(Environment::default())
//!     .handle_message(|message: Message<u32>| async move {
//!         println!("{}", message.payload() * 2);
//!         Ok(Next::Done)
//!     })
//!     .build()?
//!     .start()
//!     .await?;
//! queue.idle().await;
//! assert_eq!(queue.completed(), [id]);
//! running.drain().await;
//! # Ok(()) }
//! ```

mod memory;

use serde::Serialize;
use tokio_postgres::types::Type;

use crate::client::Client;
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::json::Json;

pub use memory::{MemoryJob, MemoryQueue, MemoryStatus};

const TABLE: &str = "SELECT pg_catalog.to_regclass($1)::pg_catalog.text";
const JOBS: &str = "SELECT pg_catalog.query_to_xml(pg_catalog.format(\
     'SELECT id FROM %s WHERE data OPERATOR(pg_catalog.=) %L::pg_catalog.jsonb ORDER BY id', $1::pg_catalog.regclass, $2), \
     false, true, '')::pg_catalog.text";

/// The ids of the jobs in a queue that have this payload, whatever became of them.
///
/// On a transaction of yours it sees what that has enqueued so far: roll it back, and the test leaves nothing behind.
///
/// # Errors
///
/// As calls of the [`Client`]; an [answer](Error) that is not understood where the queue has no table.
pub async fn enqueued<C: Connection, T: Serialize + ?Sized>(
    client: &Client<C>,
    queue: &str,
    data: &T,
) -> Result<Vec<i64>> {
    let table: Option<String> = client.value(TABLE, &[(&queue, Type::TEXT)]).await?;
    let Some(table) = table else {
        return Err(Error::configuration(vec![format!("there is no queue {queue:?}")]));
    };
    let data = Json::encode(data)?;
    let xml: String = client.value(JOBS, &[(&table, Type::TEXT), (&data.text(), Type::TEXT)]).await?;
    Ok(xml.split("<id>").skip(1).filter_map(|rest| rest.split('<').next()?.parse().ok()).collect())
}

/// Asserts that a queue has a job with this payload.
///
/// # Panics
///
/// When it has none, or the database cannot be asked.
pub async fn assert_enqueued<C: Connection, T: Serialize + ?Sized>(client: &Client<C>, queue: &str, data: &T) {
    let found = enqueued(client, queue, data).await;
    assert!(found.as_ref().is_ok_and(|ids| !ids.is_empty()), "no such job in queue {queue:?}: {found:?}");
}
