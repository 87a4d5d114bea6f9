//! Consumers and pipelines for qflow, the durable work queues inside PostgreSQL.
//!
//! A queue is a table; a program takes jobs from it in batches, and says how each one ended. Doing that well is more
//! than two calls: leases have to be kept, answers that got lost repeated, a shutdown must neither lose a job nor burn
//! an attempt. This crate does it once, in three layers, each usable alone:
//!
//! - [`Client`]: qflow's SQL functions with Rust's types, also on a connection or transaction of yours.
//! - [`Consumer`]: a stream of [`Delivery`]s, each to be settled when it is done.
//! - [`Pipeline`]: handlers, and everything around them.
//!
//! ```no_run
//! # async fn send(_: &str) -> Result<(), std::io::Error> { Ok(()) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> qflow_client::Result<()> {
//! use std::time::Duration;
//! use qflow_client::{Message, Next, Pipeline};
//!
//! let running = Pipeline::builder::<String, ()>("mail") // DATABASE_URL says where
//!     .queue("mail")
//!     .handle_message(|message: Message<String>| async move {
//!         send(message.payload()).await?;
//!         Ok(Next::Done)
//!     })
//!     .build()?
//!     .start()
//!     .await?;
//! let report = running.run_until(tokio::signal::ctrl_c(), Duration::from_secs(30)).await;
//! println!("{report}");
//! # Ok(()) }
//! ```
//!
//! # What one sees
//!
//! Spans of `tracing`: `qflow.message` (fields `workflow`, `job`, `attempt`) and `qflow.batch` (`workflow`, `batcher`,
//! `jobs`) around handlers. Events tell what is repeated, refused or lost. Neither has a payload or a connection string.
//!
//! The `metrics` facade, each with the label `workflow`:
//!
//! | name | kind | what |
//! |---|---|---|
//! | `qflow_client_in_flight_jobs` | gauge | fetched and not settled |
//! | `qflow_client_fetches_total` | counter | fetches |
//! | `qflow_client_jobs_fetched_total` | counter | jobs that they brought |
//! | `qflow_client_fetch_errors_total` | counter | fetches and waits that failed |
//! | `qflow_client_leases_renewed_total` | counter | heartbeats, by lease |
//! | `qflow_client_leases_lost_total` | counter | leases that had ended when they were to be renewed |
//! | `qflow_client_jobs_settled_total` | counter | by label `verdict`: the database's word, or `refused` |
//! | `qflow_client_settle_retries_total` | counter | statements that were repeated |
//! | `qflow_client_handler_seconds` | histogram | by labels `stage` (`message`, `batch`) and `result` (`ok`, `error`, `panic`, `timeout`, `lost`, `interrupted`) |
//!
//! # Settings
//!
//! [`Environment`] lists the variables. Behind a pooler in transaction mode set [`ClientOptions::behind_pooler`]. For TLS
//! make a pool of your own: [`Client::from_pool`].
//!
//! # Features
//!
//! `testing`: a queue in memory that takes the database's place, and assertions on what was enqueued.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod backoff;
mod calls;
mod client;
mod connection;
mod consumer;
mod environment;
mod error;
mod hints;
mod json;
mod millis;
mod pipeline;
mod source;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use calls::{
    Check, Claim, EnqueueOptions, ExtendedLease, FetchOptions, Job, LeaseStatus, OnComplete, Outcome, QueueSettings,
    QueueStats, QueueTotals, Reaped, ResourceKind, ResourceStatus, Settled, Verdict, WorkflowSettings, WorkflowStatus,
};
pub use client::{Client, ClientOptions};
pub use connection::{Connection, Pooled};
pub use consumer::{Consumer, ConsumerOptions, Delivery, Lease, Rate};
pub use environment::Environment;
pub use error::{Error, Result};
pub use hints::{Hints, OnBusy, Scope};
pub use json::Json;
pub use pipeline::{
    Batch, BatchOutcome, Batcher, Builder, Cause, FailedJob, Failure, Handler, Message, Next, OnFailure, Pipeline,
    Processors, Report, Running,
};
pub use source::Source;
