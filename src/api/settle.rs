//! `ack` and its kin: from arguments to asks, and from verdicts to counts. `ack_and_fetch` hands on to `fetch`.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use crate::api::fetch::{Order, Request};
use crate::api::queue::consumed;
use crate::error::{Error, Result};
use crate::guc;
use crate::host::call::{Call, Name};
use crate::host::rows::Sink;
use crate::host::value::{self, Arg};
use crate::host::xact;
use crate::ids::IdHasher;
use crate::job::extend;
use crate::job::outcomes;
use crate::job::settle::{self, Answer, Ask};
use crate::job::state::{Outcome, Verdict};
use crate::queue::cache::Workflow;
use crate::queue::settings::{self, MAX_MS};

const WORKFLOW: Name = (0, "workflow");
const IDS: Name = (1, "ids");
const LEASES: Name = (2, "leases");
/// Longest reason kept, in bytes.
const MAX_REASON: usize = 8 * 1024;
/// Longest text of outcomes, in bytes.
const MAX_OUTCOMES: usize = 64 * 1024 * 1024;

crate::entry_points! {
    qflow_ack, pg_finfo_qflow_ack => ack;
    qflow_ack_and_fetch, pg_finfo_qflow_ack_and_fetch => ack_and_fetch;
    qflow_requeue, pg_finfo_qflow_requeue => requeue;
    qflow_fail, pg_finfo_qflow_fail => fail;
    qflow_release, pg_finfo_qflow_release => release;
    qflow_settle, pg_finfo_qflow_settle => settle;
    qflow_extend, pg_finfo_qflow_extend => extend_leases;
}

fn ack(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.ack()");
    let strict = call.flag((3, "strict"), false);
    settle_ids(call, Outcome::Ack, None, None, strict)
}

/// Acks first, so that what the leases held is free for the fetch. What is wrong with the order is said before anything is
/// locked; whatever fails takes the acks with it.
fn ack_and_fetch(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.ack_and_fetch()");
    let sink = Sink::open(call)?;
    let name = call.text(WORKFLOW)?;
    let asks = asks(call, Outcome::Ack, None, None)?;
    let request = Request::read(call, 3)?;
    let workflow = consumed(&name)?;
    let order = Order::of(&workflow, request)?;
    carry_out(&workflow, &asks, true)?;
    order.fill(&sink)?;
    Ok(None)
}

fn requeue(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.requeue()");
    let delay_ms = call.opt_bigint((4, "delay_ms"), 0)?;
    check_delay(delay_ms)?;
    settle_ids(call, Outcome::Requeue, reason(call), delay_ms, false)
}

fn fail(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.fail()");
    settle_ids(call, Outcome::Fail, reason(call), None, false)
}

fn release(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.release()");
    settle_ids(call, Outcome::Release, None, None, false)
}

/// The reason, cut to its longest at a character boundary.
fn reason(call: &Call) -> Arg {
    call.datum((3, "reason")).and_then(|datum| value::clip_text(datum, MAX_REASON))
}

fn check_delay(delay_ms: Option<i64>) -> Result<()> {
    match delay_ms {
        Some(delay) if delay > MAX_MS => Err(Error::bad_value(format!("delay_ms must be at most {MAX_MS}"))
            .detail(format!("The value given is {delay}."))),
        _ => Ok(()),
    }
}

fn settle_ids(call: &Call, outcome: Outcome, reason: Arg, delay_ms: Option<i64>, strict: bool) -> Result<Arg> {
    let name = call.text(WORKFLOW)?;
    let asks = asks(call, outcome, reason, delay_ms)?;
    let workflow = consumed(&name)?;
    let answers = carry_out(&workflow, &asks, strict)?;
    let counted = answers.iter().filter(|answer| answer.verdict.counts()).count();
    Ok(value::bigint(counted as i64))
}

/// Asks for one outcome, for the ids and leases of a call.
fn asks(call: &Call, outcome: Outcome, reason: Arg, delay_ms: Option<i64>) -> Result<Vec<Ask>> {
    let pairs = pairs(call)?.into_iter();
    Ok(pairs.map(|(id, lease)| Ask { id, lease, outcome, reason, delay_ms }).collect())
}

/// Settles; under `strict` all of it or, with an error, nothing.
fn carry_out(workflow: &Workflow, asks: &[Ask], strict: bool) -> Result<Vec<Answer>> {
    let answers = settle::settle(workflow, asks, strict)?;
    if strict {
        require_all(&answers)?;
    }
    Ok(answers)
}

/// The distinct (id, lease) pairs of a call: one lease for all ids, or one for each; no lease where that is allowed.
fn pairs(call: &Call) -> Result<Vec<(i64, Option<i64>)>> {
    let ids = call.bigints(IDS, guc::max_ids())?;
    let leases: Vec<Option<i64>> = match call.opt_bigints(LEASES, guc::max_ids())? {
        None if guc::allow_unfenced() => vec![None; ids.len()],
        None => return Err(unfenced()),
        Some(leases) if ids.is_empty() && leases.len() <= 1 => Vec::new(),
        Some(leases) if leases.len() == ids.len() => leases.into_iter().map(Some).collect(),
        Some(leases) if leases.len() == 1 => vec![leases.first().copied(); ids.len()],
        Some(leases) => {
            return Err(Error::bad_value("leases must have one element, or one for each id").detail(format!(
                "There are {} ids and {} leases.",
                ids.len(),
                leases.len()
            )));
        }
    };
    if ids.windows(2).all(|pair| pair[0] < pair[1]) {
        return Ok(ids.into_iter().zip(leases).collect()); // the common case
    }
    let mut seen: HashSet<(i64, Option<i64>), BuildHasherDefault<IdHasher>> =
        HashSet::with_capacity_and_hasher(ids.len(), Default::default());
    Ok(ids.into_iter().zip(leases).filter(|pair| seen.insert(*pair)).collect())
}

fn unfenced() -> Error {
    Error::null_value("leases must not be null")
        .detail("An ack by id alone could complete a job that somebody else runs now.")
        .hint("Pass the lease that qflow.fetch returned with each job. SET qflow.allow_unfenced = on accepts the risk.")
}

/// 55000 unless every ask was applied, or had been before.
fn require_all(answers: &[Answer]) -> Result<()> {
    let refused: Vec<&Answer> = answers.iter().filter(|answer| !answer.verdict.counts()).collect();
    let Some(first) = refused.first() else {
        return Ok(());
    };
    Err(Error::not_ready(format!("{} of {} jobs could not be settled", refused.len(), answers.len()))
        .detail(format!("The first is job {}: {}.", first.id, first.verdict.as_str()))
        .hint("Its lease has ended: somebody else may run it now. Roll back what you did for it."))
}

fn settle(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.settle()");
    let sink = Sink::open(call)?;
    let name = call.text(WORKFLOW)?;
    let text = value::jsonb_to_string_lossy(call.required((1, "outcomes"))?, MAX_OUTCOMES, "outcomes")?;
    let strict = call.flag((2, "strict"), false);
    let asked = outcomes::parse(&text, guc::max_ids(), guc::allow_unfenced())?;
    for ask in &asked {
        check_delay(ask.delay_ms)?;
    }
    let asks: Vec<Ask> = asked.iter().map(ask_of).collect();
    let workflow = consumed(&name)?;
    let answers = carry_out(&workflow, &asks, strict)?;
    for answer in &answers {
        let lease = answer.lease.and_then(value::bigint);
        sink.put(&[value::bigint(answer.id), lease, value::text(word(answer.verdict))]);
    }
    Ok(None)
}

fn word(verdict: Verdict) -> &'static str {
    verdict.as_str()
}

fn ask_of(asked: &outcomes::Asked) -> Ask {
    Ask {
        id: asked.id,
        lease: asked.lease,
        outcome: asked.outcome,
        reason: asked.reason.as_deref().and_then(value::text).and_then(|datum| value::clip_text(datum, MAX_REASON)),
        delay_ms: asked.delay_ms,
    }
}

fn extend_leases(call: &Call) -> Result<Arg> {
    xact::require_writable(c"qflow.extend()");
    let sink = Sink::open(call)?;
    let name = call.text(WORKFLOW)?;
    let leases = call.bigints((1, "leases"), guc::max_ids())?;
    let timeout_ms = settings::duration(call, (2, "timeout_ms"), 1)?;
    let workflow = consumed(&name)?;
    for (lease, deadline) in extend::extend(&workflow, &leases, timeout_ms)? {
        sink.put(&[value::bigint(lease), value::timestamp(deadline)]);
    }
    Ok(None)
}
