//! `reap`, `verify`, `readiness`, `health` and `prometheus`.

use std::panic::AssertUnwindSafe;

use crate::error::{self, Error, Level, Result};
use crate::host::call::Call;
use crate::host::rows::Sink;
use crate::host::subtransaction::{attempt, Caught};
use crate::host::value::{self, Arg};
use crate::host::{relation, xact};
use crate::job::reap::Reaped;
use crate::job::{retention, upkeep};
use crate::metrics::{health, prometheus};
use crate::queue::cache;
use crate::queue::check::Check;
use crate::queue::readiness;
use crate::queue::registry;
use crate::queue::verify;

crate::entry_points! {
    qflow_reap, pg_finfo_qflow_reap => reap_all;
    qflow_verify, pg_finfo_qflow_verify => verify_queue;
    qflow_readiness, pg_finfo_qflow_readiness => readiness_of;
    qflow_health, pg_finfo_qflow_health => health_of;
    qflow_prometheus, pg_finfo_qflow_prometheus => prometheus_text;
}

/// One pass over all queues. What fails in one is reported and does not keep the others waiting.
fn reap_all(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.reap()");
    let sink = Sink::open(call)?;
    for row in registry::all_queues()? {
        match attempt(AssertUnwindSafe(|| upkeep::look_after(row.table))) {
            Ok(Some((name, reaped))) if reaped != Reaped::default() => {
                sink.put(&[
                    value::text_for_people(&name),
                    value::bigint(reaped.returned),
                    value::bigint(reaped.failed),
                ]);
            }
            Ok(_) => {}
            Err(caught) => {
                warn(row.table, "reap", &caught);
                continue;
            }
        }
        if !retention::is_set(&row.settings) {
            continue;
        }
        // Apart from the reaping, which must not be undone when old jobs cannot be removed.
        let outcome = attempt(AssertUnwindSafe(|| upkeep::remove_old(row.table, true)));
        if let Some(caught) = outcome.map_or_else(Some, |outcome| outcome.refused) {
            warn(row.table, "remove old jobs of", &caught);
        }
    }
    registry::remove_orphans()?;
    Ok(None)
}

fn warn(table: pgrx::pg_sys::Oid, task: &str, caught: &Caught) {
    let name = relation::display_name(table);
    let Caught { message, sqlstate } = caught;
    error::say(Level::Warning, format!("qflow could not {task} queue {name}: {message} ({sqlstate})"));
}

fn verify_queue(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    let row = cache::registered(&call.text((0, "queue"))?)?;
    if !relation::may(row.table, pgrx::pg_sys::ACL_SELECT) {
        let name = relation::display_name(row.table);
        return Err(Error::denied(format!("permission denied for queue {name}"))
            .hint("qflow.verify needs SELECT on the queue's table."));
    }
    answer(&sink, &verify::verify(&row)?);
    Ok(None)
}

fn readiness_of(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    answer(&sink, &readiness::readiness(&call.text((0, "workflow"))?)?);
    Ok(None)
}

fn health_of(call: &Call) -> Result<Arg> {
    let sink = Sink::open(call)?;
    answer(&sink, &health::health()?);
    Ok(None)
}

fn prometheus_text(_call: &Call) -> Result<Arg> {
    Ok(value::text_for_people(&prometheus::text()?))
}

fn answer(sink: &Sink, checks: &[Check]) {
    for check in checks {
        sink.put(&[
            value::text(check.name),
            value::boolean(check.ok),
            value::text_for_people(&check.detail),
            check.remedy.as_deref().and_then(value::text_for_people),
        ]);
    }
}
