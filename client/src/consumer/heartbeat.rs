//! Keeps the leases of what is not settled.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use crate::backoff::Backoff;
use crate::error::{Error, Result};
use crate::source::Backend;
use crate::telemetry;

/// Renews leases until the consumer has stopped and nothing is left.
pub(crate) fn start(backend: Arc<dyn Backend>, ledger: Arc<Ledger>, stop: CancellationToken) {
    tokio::spawn(async move {
        let over = async {
            stop.cancelled().await;
            ledger.empty().await;
        };
        // A renewal that is cut off here renews leases that nobody needs any more.
        tokio::select! {
            () = over => {}
            () = renew(&*backend, &ledger) => {}
        }
    });
}

async fn renew(backend: &dyn Backend, ledger: &Ledger) {
    let mut backoff = Backoff::for_reconnects();
    loop {
        let due = ledger.due_leases().await;
        let renewed = match extend(backend, ledger, &due).await {
            Err(error) if is_locked(&error) => one_by_one(backend, ledger, &due).await,
            renewed => renewed,
        };
        match renewed {
            Ok(()) => backoff.reset(),
            Err(error) => {
                tracing::warn!(workflow = %ledger.workflow(), %error, leases = due.len(), "leases could not be renewed");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

async fn extend(backend: &dyn Backend, ledger: &Ledger, leases: &[i64]) -> Result<()> {
    let held = backend.extend(leases, None).await?;
    let lost = ledger.renewed(leases, &held);
    telemetry::renewed(ledger.workflow(), held.len(), lost);
    Ok(())
}

/// One of them is locked by a transaction that settles its jobs: it is held, and the others must not wait for it.
async fn one_by_one(backend: &dyn Backend, ledger: &Ledger, leases: &[i64]) -> Result<()> {
    for lease in leases {
        match extend(backend, ledger, &[*lease]).await {
            Err(error) if is_locked(&error) => ledger.postpone(*lease),
            renewed => renewed?,
        }
    }
    Ok(())
}

fn is_locked(error: &Error) -> bool {
    error.code() == Some("55P03")
}
