//! What this crate tells the `metrics` facade, in one place, so that the names stay as they are documented.
//!
//! The table stands in the crate's documentation.

use std::sync::Arc;
use std::time::Duration;

use crate::calls::Verdict;
use crate::error::Result;

pub(crate) fn in_flight(workflow: &Arc<str>, jobs: usize) {
    metrics::gauge!("qflow_client_in_flight_jobs", "workflow" => workflow.clone()).set(jobs as f64);
}

pub(crate) fn fetched(workflow: &Arc<str>, jobs: usize) {
    metrics::counter!("qflow_client_fetches_total", "workflow" => workflow.clone()).increment(1);
    metrics::counter!("qflow_client_jobs_fetched_total", "workflow" => workflow.clone()).increment(jobs as u64);
}

pub(crate) fn trouble(workflow: &Arc<str>) {
    metrics::counter!("qflow_client_fetch_errors_total", "workflow" => workflow.clone()).increment(1);
}

pub(crate) fn renewed(workflow: &Arc<str>, held: usize, lost: usize) {
    metrics::counter!("qflow_client_leases_renewed_total", "workflow" => workflow.clone()).increment(held as u64);
    metrics::counter!("qflow_client_leases_lost_total", "workflow" => workflow.clone()).increment(lost as u64);
}

pub(crate) fn settled(workflow: &Arc<str>, verdict: &Result<Verdict>) {
    let word = verdict.as_ref().map_or("refused", |verdict| verdict.word());
    metrics::counter!("qflow_client_jobs_settled_total", "workflow" => workflow.clone(), "verdict" => word)
        .increment(1);
}

pub(crate) fn settle_repeated(workflow: &Arc<str>) {
    metrics::counter!("qflow_client_settle_retries_total", "workflow" => workflow.clone()).increment(1);
}

/// `stage` is `message` or `batch`, `result` one of `ok`, `error`, `panic`, `timeout`, `lost`, `interrupted`.
pub(crate) fn handled(workflow: &Arc<str>, stage: &'static str, result: &'static str, took: Duration) {
    metrics::histogram!("qflow_client_handler_seconds", "workflow" => workflow.clone(), "stage" => stage, "result" => result)
        .record(took.as_secs_f64());
}
