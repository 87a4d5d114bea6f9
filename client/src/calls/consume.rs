//! Taking jobs, and waiting for them.

use std::time::{Duration, SystemTime};

use tokio_postgres::types::Type;
use tokio_postgres::Row;

use super::settle::{split, Claim};
use crate::client::{column, Client};
use crate::connection::Connection;
use crate::error::Result;
use crate::hints::Hints;
use crate::json::Json;
use crate::millis::{count, duration, millis, optional};

// What a call that fetches answers, as `Job::from_row` reads it. What is left of the lease is measured by the server's
// clock, the only one that counts.
macro_rules! jobs_of {
    ($call:literal) => {
        concat!(
            "SELECT batch_no, id, data, metadata, attempt, max_attempts, lease, lease_until, inserted_at, \
             failure_reason, resources, \
             (pg_catalog.date_part('epoch', lease_until OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()) \
              OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 \
             FROM ",
            $call
        )
    };
}
const FETCH: &str = jobs_of!("qflow.fetch($1, $2, $3, $4)");
const ACK_AND_FETCH: &str = jobs_of!("qflow.ack_and_fetch($1, $2, $3, $4, $5, $6)");
const WAIT: &str = "CALL qflow.wait($1, $2, $3)";

/// What a fetch asks for. What is `None` is the workflow's setting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchOptions {
    /// Most jobs to take, 1 or more.
    pub demand: Option<usize>,
    /// Most jobs in one of the batches that they are numbered into, 1 or more.
    pub batch_size: Option<usize>,
    /// Resources, and how long the lease holds.
    pub hints: Hints,
}

/// A job that this program has fetched and nobody else has.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which batch of the fetch it belongs to, from 1.
    pub batch_no: i32,
    /// Its number in the queue.
    pub id: i64,
    /// The payload.
    pub data: Json,
    /// What the producer said besides; an adopted table may have none.
    pub metadata: Option<Json>,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// How many there may be.
    pub max_attempts: i32,
    /// The lease that all jobs of the fetch share: the fencing token that goes back with each settle.
    pub lease: i64,
    /// When the lease ends, by the server's clock.
    pub lease_until: SystemTime,
    /// How much of the lease was left when the server answered.
    pub lease_left: Duration,
    /// When the job was made, by the server's clock; an adopted table may not know.
    pub inserted_at: Option<SystemTime>,
    /// Why the last attempt did not succeed.
    pub failure_reason: Option<String>,
    /// What was taken with the jobs: for slots a list of numbers, for units an amount.
    pub resources: Option<Json>,
}

impl Job {
    /// What a settle needs to know of it.
    pub fn claim(&self) -> Claim {
        Claim { id: self.id, lease: self.lease }
    }

    fn from_row(row: &Row) -> Result<Self> {
        Ok(Job {
            batch_no: column(row, 0)?,
            id: column(row, 1)?,
            data: column(row, 2)?,
            metadata: column(row, 3)?,
            attempt: column(row, 4)?,
            max_attempts: column(row, 5)?,
            lease: column(row, 6)?,
            lease_until: column(row, 7)?,
            inserted_at: column(row, 8)?,
            failure_reason: column(row, 9)?,
            resources: column(row, 10)?,
            lease_left: duration(column(row, 11)?),
        })
    }
}

impl<C: Connection> Client<C> {
    /// Claims up to `demand` jobs. None is an ordinary answer: wait, and fetch again.
    ///
    /// The claim counts when the transaction commits. Do not drop the future while it runs: the database may have
    /// claimed the jobs already, and they would stay claimed until their lease ends.
    pub async fn fetch(&self, workflow: &str, options: &FetchOptions) -> Result<Vec<Job>> {
        let (demand, batch_size) = (options.demand.map(count), options.batch_size.map(count));
        let hints = options.hints.to_json()?;
        let arguments: [crate::connection::Argument<'_>; 4] =
            [(&workflow, Type::TEXT), (&demand, Type::INT8), (&batch_size, Type::INT8), (&hints, Type::JSONB)];
        self.rows(FETCH, &arguments).await?.iter().map(Job::from_row).collect()
    }

    /// Settles jobs as completed and claims others, as [`ack`](Client::ack) with `strict` and [`fetch`](Client::fetch) do,
    /// in one round trip and one transaction. All or nothing: a claim that is not accepted is 55000, and then nothing is
    /// acked and nothing claimed. Without claims it is a plain fetch. No jobs in the answer: the acks count, wait and fetch
    /// again.
    ///
    /// The same holds as for a fetch: do not drop the future while it runs.
    pub async fn ack_and_fetch(&self, workflow: &str, claims: &[Claim], options: &FetchOptions) -> Result<Vec<Job>> {
        let (ids, leases) = split(claims);
        let (demand, batch_size) = (options.demand.map(count), options.batch_size.map(count));
        let hints = options.hints.to_json()?;
        let arguments: [crate::connection::Argument<'_>; 6] = [
            (&workflow, Type::TEXT),
            (&ids, Type::INT8_ARRAY),
            (&leases, Type::INT8_ARRAY),
            (&demand, Type::INT8),
            (&batch_size, Type::INT8),
            (&hints, Type::JSONB),
        ];
        self.rows(ACK_AND_FETCH, &arguments).await?.iter().map(Job::from_row).collect()
    }

    /// Returns when a fetch would probably bring jobs, else when `timeout` has passed (`None`: one second).
    ///
    /// It takes a connection for as long as it waits, and holds nothing else. Where it cannot let go of a transaction
    /// it fails with 25001: poll there.
    pub async fn wait(&self, workflow: &str, timeout: Option<Duration>, hints: &Hints) -> Result<()> {
        let (timeout, hints) = (optional(timeout), hints.to_json()?);
        self.rows(WAIT, &[(&workflow, Type::TEXT), (&timeout, Type::INT8), (&hints, Type::JSONB)]).await?;
        Ok(())
    }
}

const EXTEND: &str = "SELECT lease, lease_until, \
     (pg_catalog.date_part('epoch', lease_until OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()) \
      OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 \
     FROM qflow.extend($1, $2, $3)";

impl<C: Connection> Client<C> {
    /// Moves the deadline of leases to `timeout` from now (`None`: as long as at the fetch) and returns those that are
    /// held. **A lease that is not in the answer is lost**: give up the work on its jobs.
    pub async fn extend(
        &self,
        workflow: &str,
        leases: &[i64],
        timeout: Option<Duration>,
    ) -> Result<Vec<super::ExtendedLease>> {
        let timeout = timeout.map(millis);
        let rows =
            self.rows(EXTEND, &[(&workflow, Type::TEXT), (&leases, Type::INT8_ARRAY), (&timeout, Type::INT8)]).await?;
        let extended = |row: &Row| -> Result<super::ExtendedLease> {
            Ok(super::ExtendedLease {
                lease: column(row, 0)?,
                lease_until: column(row, 1)?,
                lease_left: duration(column(row, 2)?),
            })
        };
        rows.iter().map(extended).collect()
    }
}
