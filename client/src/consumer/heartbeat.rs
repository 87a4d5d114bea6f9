//! Keeps the leases of what is not settled.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use crate::backoff::Backoff;
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
        match backend.extend(&due, None).await {
            Ok(held) => {
                backoff.reset();
                let lost = ledger.renewed(&due, &held);
                telemetry::renewed(ledger.workflow(), held.len(), lost);
            }
            Err(error) => {
                tracing::warn!(workflow = %ledger.workflow(), %error, leases = due.len(), "leases could not be renewed");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}
