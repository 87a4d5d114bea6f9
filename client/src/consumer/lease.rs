//! A lease as a handler sees it.

use tokio_util::sync::CancellationToken;

/// The hold on a job, while it lasts.
///
/// Who works for long asks it whether the work still counts: once the lease is lost, somebody else may have the job,
/// and nothing that this program says about it will be accepted.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(crate) id: i64,
    pub(crate) lost: CancellationToken,
}

impl Lease {
    /// Its number, the fencing token.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Whether the database has said that it has ended.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns when the lease is lost; as long as it is held, never.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}
