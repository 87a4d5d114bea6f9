//! What a settle or an `extend` does to a job: the state table of the architecture page as pure functions.
//!
//! The lease on a job's row is the one it was last claimed under and stays there until the next claim,
//! so that a repeated call can be told from a late one.

use super::retry;

/// The status of a job, as its row says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waiting to be fetched.
    Pending,
    /// Claimed under a lease.
    InProgress,
    /// Done.
    Completed,
    /// Given up.
    Failed,
}

impl Status {
    /// Reads a status word; `None` for a word qflow does not know.
    pub fn parse(word: &str) -> Option<Self> {
        Self::of(word.as_bytes())
    }

    /// The same of a word as it lies in the table.
    pub fn of(word: &[u8]) -> Option<Self> {
        match word {
            b"pending" => Some(Self::Pending),
            b"in_progress" => Some(Self::InProgress),
            b"completed" => Some(Self::Completed),
            b"failed" => Some(Self::Failed),
            _ => None,
        }
    }

    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// What a consumer says about a job it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Completed.
    Ack,
    /// Pending again, with back-off; failed when no attempt is left.
    Requeue,
    /// Failed now.
    Fail,
    /// Pending again, attempt refunded: it was never started.
    Release,
}

impl Outcome {
    /// Reads an outcome word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "ack" => Some(Self::Ack),
            "requeue" => Some(Self::Requeue),
            "fail" => Some(Self::Fail),
            "release" => Some(Self::Release),
            _ => None,
        }
    }
}

/// What became of one (id, lease) that was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Applied: the job is completed.
    Acked,
    /// Applied: the job is pending again.
    Requeued,
    /// Applied: the job is failed, asked for or for want of attempts.
    Failed,
    /// Applied: the job is pending again and its attempt refunded.
    Released,
    /// Nothing to do: the job is where an earlier call under the same lease put it.
    Already,
    /// Refused: the lease no longer holds the job, or never did.
    Stale,
    /// Refused: there is no such job.
    Unknown,
}

impl Verdict {
    /// The word in `settle`'s answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Requeued => "requeued",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Already => "already",
            Self::Stale => "stale",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the job's row is to be changed.
    pub fn is_applied(self) -> bool {
        matches!(self, Self::Acked | Self::Requeued | Self::Failed | Self::Released)
    }

    /// Whether it adds to the returned count (applied or already); `strict` raises for any other.
    pub fn counts(self) -> bool {
        self.is_applied() || self == Self::Already
    }
}

/// What a job's row says of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobState {
    /// `None`: a status word that qflow does not know; such a job is nobody's.
    pub status: Option<Status>,
    /// The lease of the last claim; `None` when there was none.
    pub lease: Option<i64>,
    /// How often the job was claimed.
    pub attempt: i32,
}

impl JobState {
    /// The job's status, when its last lease is this one.
    fn status_under(&self, lease: i64) -> Option<Status> {
        self.status.filter(|_| self.lease == Some(lease))
    }
}

/// What `outcome` under `lease` does to a job; `None`: there is no such row.
///
/// `lease_is_ours` says whether the lease belongs to the calling workflow, and is looked at only while
/// the job is in progress under that lease. A requeue with no attempt left is `Failed`.
pub fn verdict(
    job: Option<&JobState>,
    outcome: Outcome,
    lease: i64,
    lease_is_ours: bool,
    max_attempts: i32,
) -> Verdict {
    let Some(job) = job else {
        return Verdict::Unknown;
    };
    match (job.status_under(lease), outcome) {
        (Some(Status::InProgress), _) if lease_is_ours => applied(outcome, retry::spent(job.attempt, max_attempts)),
        (Some(Status::Pending), Outcome::Requeue | Outcome::Release)
        | (Some(Status::Completed), Outcome::Ack)
        | (Some(Status::Failed), Outcome::Requeue | Outcome::Fail) => Verdict::Already,
        _ => Verdict::Stale,
    }
}

/// The verdict on a job that the lease holds.
fn applied(outcome: Outcome, spent: bool) -> Verdict {
    match outcome {
        Outcome::Ack => Verdict::Acked,
        Outcome::Requeue if spent => Verdict::Failed,
        Outcome::Requeue => Verdict::Requeued,
        Outcome::Fail => Verdict::Failed,
        Outcome::Release => Verdict::Released,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: i64 = 5;
    const MAX: i32 = 4;
    const OUTCOMES: [Outcome; 4] = [Outcome::Ack, Outcome::Requeue, Outcome::Fail, Outcome::Release];
    const STATUSES: [Status; 4] = [Status::Pending, Status::InProgress, Status::Completed, Status::Failed];

    /// A row of the page, once for each way to be in it: status, last lease, lease is ours (`?`: either),
    /// attempt | ack, requeue, fail, release. `L` is the lease of the call, `M` another, `-` none.
    const TABLE: &str = "
        in_progress L yes 3 | acked   requeued failed  released
        in_progress L yes 4 | acked   failed   failed  released
        in_progress L yes 5 | acked   failed   failed  released
        in_progress M ?   1 | stale   stale    stale   stale
        in_progress M ?   4 | stale   stale    stale   stale
        in_progress - ?   1 | stale   stale    stale   stale
        in_progress L no  1 | stale   stale    stale   stale
        in_progress L no  4 | stale   stale    stale   stale
        pending     L ?   1 | stale   already  stale   already
        pending     L ?   4 | stale   already  stale   already
        completed   L ?   1 | already stale    stale   stale
        completed   L ?   4 | already stale    stale   stale
        failed      L ?   1 | stale   already  already stale
        failed      L ?   4 | stale   already  already stale
        pending     M ?   1 | stale   stale    stale   stale
        pending     - ?   0 | stale   stale    stale   stale
        completed   M ?   1 | stale   stale    stale   stale
        completed   - ?   1 | stale   stale    stale   stale
        failed      M ?   4 | stale   stale    stale   stale
        failed      - ?   4 | stale   stale    stale   stale
        archived    L ?   1 | stale   stale    stale   stale
        archived    M ?   1 | stale   stale    stale   stale
        archived    - ?   0 | stale   stale    stale   stale
        no_row      - ?   0 | unknown unknown  unknown unknown
    ";

    fn job_of(row: &[&str]) -> Option<JobState> {
        let lease = match row[1] {
            "L" => Some(LEASE),
            "M" => Some(LEASE + 1),
            _ => None,
        };
        let attempt = row[3].parse().unwrap();
        (row[0] != "no_row").then(|| JobState { status: Status::parse(row[0]), lease, attempt })
    }

    fn ours_of(row: &[&str]) -> &'static [bool] {
        match row[2] {
            "yes" => &[true],
            "no" => &[false],
            _ => &[true, false],
        }
    }

    #[test]
    fn every_cell_of_the_table() {
        let mut rows = 0;
        for line in TABLE.lines().filter(|line| !line.trim().is_empty()) {
            let row: Vec<&str> = line.split_whitespace().collect();
            assert_eq!((row.len(), row[4]), (9, "|"), "{line}");
            let job = job_of(&row);
            for &ours in ours_of(&row) {
                let found: Vec<&str> =
                    OUTCOMES.iter().map(|&outcome| verdict(job.as_ref(), outcome, LEASE, ours, MAX).as_str()).collect();
                assert_eq!(found, row[5..], "ours {ours}: {line}");
            }
            rows += 1;
        }
        assert_eq!(rows, 24);
    }

    #[test]
    fn words_are_read_back() {
        for status in STATUSES {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        for outcome in OUTCOMES {
            assert!(Outcome::parse(&format!("{outcome:?}").to_lowercase()) == Some(outcome));
        }
        for word in ["", "Pending", "pending ", "acked", "nack"] {
            assert_eq!((Status::parse(word), Outcome::parse(word)), (None, None), "{word}");
        }
    }

    #[test]
    fn what_is_applied_and_what_counts() {
        use Verdict::*;
        for verdict in [Acked, Requeued, Failed, Released] {
            assert!(verdict.is_applied() && verdict.counts());
        }
        assert!(!Already.is_applied() && Already.counts());
        for verdict in [Stale, Unknown] {
            assert!(!verdict.is_applied() && !verdict.counts());
        }
    }

    #[test]
    fn leases_are_compared_for_equality_only() {
        for lease in [i64::MIN, -1, 0, i64::MAX] {
            let job = JobState { status: Some(Status::InProgress), lease: Some(lease), attempt: 1 };
            assert_eq!(verdict(Some(&job), Outcome::Ack, lease, true, MAX), Verdict::Acked);
            assert_eq!(verdict(Some(&job), Outcome::Ack, LEASE, true, MAX), Verdict::Stale);
        }
    }
}
