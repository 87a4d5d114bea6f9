//! Consumers and pipelines for qflow, the durable work queues inside PostgreSQL.
//!
//! A queue is a table; a program takes jobs from it in batches, and says how each one ended. This crate offers three
//! layers for that, each usable alone:
//!
//! - [`Client`]: qflow's SQL functions with Rust's types, also on a connection or transaction of yours.
//! - [`Consumer`]: a stream of [`Delivery`]s, each to be settled when it is done.
//! - [`Pipeline`]: handlers, and everything around them.
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
    QueueStats, QueueTotals, Reaped, Settled, Verdict, WorkflowSettings, WorkflowStatus,
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
