//! Saying how jobs ended.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::Row;

use crate::client::{column, Client};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::millis::{millis, optional};

const ACK: &str = "SELECT qflow.ack($1, $2, $3, $4)";
const REQUEUE: &str = "SELECT qflow.requeue($1, $2, $3, $4, $5)";
const FAIL: &str = "SELECT qflow.fail($1, $2, $3, $4)";
const RELEASE: &str = "SELECT qflow.release($1, $2, $3)";
const SETTLE: &str = "SELECT id, lease, outcome FROM qflow.settle($1, $2, $3)";

/// Bytes of a reason that the database keeps.
const MAX_REASON_BYTES: usize = 8 * 1024;

/// A job and the lease it is held under: what a settle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// The job.
    pub id: i64,
    /// The lease it was fetched under.
    pub lease: i64,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Completed.
    Ack,
    /// Pending again after a delay (`None`: the workflow's back-off), or failed when no attempt is left.
    Requeue {
        /// Kept in `failure_reason`, the first 8 kB of it.
        reason: Option<String>,
        /// Before the job can be fetched again.
        delay: Option<Duration>,
    },
    /// Failed now, whatever attempts are left.
    Fail {
        /// Kept in `failure_reason`, the first 8 kB of it.
        reason: Option<String>,
    },
    /// Pending again at once, the attempt given back: it was never started.
    Release,
}

/// What the database says of one settled job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is completed.
    Acked,
    /// It is pending again, or failed if that was its last attempt.
    Requeued,
    /// It is failed.
    Failed,
    /// It is pending again, the attempt given back.
    Released,
    /// The same had been said before: the answer to the first time was lost.
    Already,
    /// The lease has ended; somebody else may have the job.
    Stale,
    /// There is no such job.
    Unknown,
}

/// One line of [`Client::settle`]'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The job and its lease.
    pub claim: Claim,
    /// What became of it.
    pub verdict: Verdict,
}

/// One line of [`Client::extend`]'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedLease {
    /// The lease, which is held.
    pub lease: i64,
    /// When it ends, by the server's clock.
    pub lease_until: SystemTime,
    /// How much of it was left when the server answered.
    pub lease_left: Duration,
}

impl<C: Connection> Client<C> {
    /// Settles jobs as completed and returns how many were, now or before under the same lease. With `strict` anything
    /// else is 55000, so that a transaction with the jobs' effects cannot commit.
    pub async fn ack(&self, workflow: &str, claims: &[Claim], strict: bool) -> Result<i64> {
        let (ids, leases) = split(claims);
        let arguments: [crate::connection::Argument<'_>; 4] =
            [(&workflow, Type::TEXT), (&ids, Type::INT8_ARRAY), (&leases, Type::INT8_ARRAY), (&strict, Type::BOOL)];
        self.value(ACK, &arguments).await
    }

    /// Settles jobs that could not be done: pending again after `delay` (`None`: the workflow's back-off), or failed
    /// when no attempt is left. Returns how many were, now or before.
    pub async fn requeue(
        &self,
        workflow: &str,
        claims: &[Claim],
        reason: Option<&str>,
        delay: Option<Duration>,
    ) -> Result<i64> {
        let (ids, leases) = split(claims);
        self.value(
            REQUEUE,
            &[
                (&workflow, Type::TEXT),
                (&ids, Type::INT8_ARRAY),
                (&leases, Type::INT8_ARRAY),
                (&reason.map(text), Type::TEXT),
                (&optional(delay), Type::INT8),
            ],
        )
        .await
    }

    /// Settles jobs as failed, whatever attempts are left. Returns how many were, now or before.
    pub async fn fail(&self, workflow: &str, claims: &[Claim], reason: Option<&str>) -> Result<i64> {
        let (ids, leases) = split(claims);
        let reason = reason.map(text);
        let arguments: [crate::connection::Argument<'_>; 4] =
            [(&workflow, Type::TEXT), (&ids, Type::INT8_ARRAY), (&leases, Type::INT8_ARRAY), (&reason, Type::TEXT)];
        self.value(FAIL, &arguments).await
    }

    /// Gives back jobs that were never started, with their attempt. Returns how many were, now or before.
    pub async fn release(&self, workflow: &str, claims: &[Claim]) -> Result<i64> {
        let (ids, leases) = split(claims);
        self.value(RELEASE, &[(&workflow, Type::TEXT), (&ids, Type::INT8_ARRAY), (&leases, Type::INT8_ARRAY)]).await
    }

    /// Settles many jobs at once, each in its own way, and answers a verdict for each. With `strict` anything that is
    /// not accepted is 55000.
    pub async fn settle(&self, workflow: &str, outcomes: &[(Claim, Outcome)], strict: bool) -> Result<Vec<Settled>> {
        let wire: Vec<Wire<'_>> = outcomes.iter().map(|(claim, outcome)| Wire::new(*claim, outcome)).collect();
        let wire = Json::encode(&wire)?;
        let rows = self.rows(SETTLE, &[(&workflow, Type::TEXT), (&wire, Type::JSONB), (&strict, Type::BOOL)]).await?;
        rows.iter().map(Settled::from_row).collect()
    }
}

pub(super) fn split(claims: &[Claim]) -> (Vec<i64>, Vec<i64>) {
    claims.iter().map(|claim| (claim.id, claim.lease)).unzip()
}

/// A reason as the database can take it: it knows no NUL, and keeps only so much.
fn text(reason: &str) -> String {
    reason[..reason.floor_char_boundary(MAX_REASON_BYTES)].replace('\0', "\u{fffd}")
}

#[derive(Serialize)]
struct Wire<'a> {
    id: i64,
    lease: i64,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<i64>,
}

impl<'a> Wire<'a> {
    fn new(Claim { id, lease }: Claim, outcome: &'a Outcome) -> Self {
        let (outcome, reason, delay) = match outcome {
            Outcome::Ack => ("ack", None, None),
            Outcome::Requeue { reason, delay } => ("requeue", reason.as_deref(), *delay),
            Outcome::Fail { reason } => ("fail", reason.as_deref(), None),
            Outcome::Release => ("release", None, None),
        };
        Wire { id, lease, outcome, reason: reason.map(text), delay_ms: delay.map(millis) }
    }
}

impl Settled {
    fn from_row(row: &Row) -> Result<Self> {
        let word: String = column(row, 2)?;
        let verdict =
            Verdict::parse(&word).ok_or_else(|| Error::not_accepted("a verdict that this crate does not know"))?;
        Ok(Settled { claim: Claim { id: column(row, 0)?, lease: column(row, 1)? }, verdict })
    }
}

impl Verdict {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "acked" => Verdict::Acked,
            "requeued" => Verdict::Requeued,
            "failed" => Verdict::Failed,
            "released" => Verdict::Released,
            "already" => Verdict::Already,
            "stale" => Verdict::Stale,
            "unknown" => Verdict::Unknown,
            _ => return None,
        })
    }

    /// Whether the job is now as the settle asked for.
    pub fn is_accepted(self) -> bool {
        !matches!(self, Verdict::Stale | Verdict::Unknown)
    }

    /// The word that the database uses.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Acked => "acked",
            Verdict::Requeued => "requeued",
            Verdict::Failed => "failed",
            Verdict::Released => "released",
            Verdict::Already => "already",
            Verdict::Stale => "stale",
            Verdict::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character_and_holds_no_nul() {
        let long = "é".repeat(MAX_REASON_BYTES);
        assert_eq!(text(&long).len(), MAX_REASON_BYTES);
        assert_eq!(text("a\0b"), "a\u{fffd}b");
    }

    #[test]
    fn outcomes_are_written_as_the_database_reads_them() {
        let claim = Claim { id: 17, lease: 5 };
        let requeue = Outcome::Requeue { reason: Some("busy".into()), delay: Some(Duration::from_secs(5)) };
        let wire = [Wire::new(claim, &requeue), Wire::new(claim, &Outcome::Ack)];
        let expected = r#"[{"id":17,"lease":5,"outcome":"requeue","reason":"busy","delay_ms":5000},{"id":17,"lease":5,"outcome":"ack"}]"#;
        assert_eq!(serde_json::to_string(&wire).unwrap(), expected);
    }
}
