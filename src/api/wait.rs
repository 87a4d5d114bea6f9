//! `wait`: arguments of a fetch, and its answer is that it returns.

use crate::api::fetch::read_hints;
use crate::api::queue::require_consumer;
use crate::error::{Error, Result};
use crate::guc;
use crate::host::call::Call;
use crate::host::portions::Portions;
use crate::host::value::Arg;
use crate::host::xact;
use crate::job::waiting::{self, Sought};
use crate::queue::cache;
use crate::resource::hints::{self, Hints};
use crate::resource::want;

/// How long a wait takes where nobody says, milliseconds.
const USUAL_MS: i64 = 1_000;

crate::entry_points! {
    qflow_wait, pg_finfo_qflow_wait => wait;
}

fn wait(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.wait()");
    let name = call.text((0, "workflow"))?;
    let timeout_ms = timeout(call)?;
    let call_hints = read_hints(call, (2, "hints"))?;
    let portions = Portions::begin(call)?;
    let outcome = waiting::wait(&portions, &name, timeout_ms, || find(&name, &call_hints));
    portions.end()?;
    outcome.map(|()| None)
}

/// What the caller's fetch with these hints would look for, if it could work at all.
fn find(name: &str, call_hints: &Hints) -> Result<Sought> {
    let workflow = cache::workflow_to_look(name)?;
    require_consumer(&workflow.queue.row)?;
    let hints = hints::overlay(call_hints.clone(), &workflow.hints);
    let (wants, by_session) = (want::wants(&hints)?, want::is_by_session(&hints));
    Ok(Sought { workflow, wants, worker: hints.worker, by_session })
}

fn timeout(call: &Call) -> Result<i64> {
    let cap = guc::max_wait_ms();
    match call.opt_bigint((1, "timeout_ms"), 0)? {
        Some(ms) if ms > cap => Err(Error::over_cap(format!("timeout_ms must be at most {cap}"))
            .detail(format!("The value given is {ms}."))
            .hint("Wait again when it is over, or raise qflow.max_wait_ms.")),
        Some(ms) => Ok(ms),
        None => Ok(USUAL_MS),
    }
}
