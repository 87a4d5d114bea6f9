//! A pipeline at work, and how it ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{channel, Receiver};
use tokio::time::{timeout_at, Instant};
use tokio_util::sync::CancellationToken;

use super::report::{Report, Tally};
use super::settings::Settings;
use super::stages::{Run, Work};
use crate::backoff::random;
use crate::consumer::{Consumer, ConsumerOptions, Ledger, Limits};
use crate::error::Result;
use crate::source::Source;

/// The part of a shutdown's time that is kept to tell the database what became of interrupted jobs: a tenth.
const TO_TELL: u32 = 10;

/// A [`Pipeline`](crate::Pipeline) at work.
///
/// Dropping it stops fetching, gives back what was not started, and leaves the rest to end by itself as long as the
/// runtime lives; [`shutdown`](Running::shutdown) waits for that.
pub struct Running {
    run: Arc<Run>,
    ledger: Arc<Ledger>,
    fetching: CancellationToken,
    ended: CancellationToken,
    /// Closed when no task works on a job any more, and so all that was done is counted.
    working: Receiver<()>,
}

impl Running {
    pub(crate) fn start(source: &Source, settings: Settings, work: Arc<dyn Work>) -> Result<Self> {
        let run = Arc::new(Run {
            workflow: settings.workflow.as_str().into(),
            policy: settings.on_failure,
            handler_timeout: settings.handler_timeout,
            failed: work.failed_handler(),
            tally: Tally::default(),
            release: CancellationToken::new(),
            flush: CancellationToken::new(),
            interrupt: CancellationToken::new(),
        });
        let consumer = consumer(source, &settings)?;
        let (ledger, fetching, ended) = (consumer.ledger().clone(), consumer.fetching(), consumer.ended());
        let (alive, working) = channel(1);
        work.start(consumer, run.clone(), &settings, alive);
        tokio::spawn(flush_at_the_end(ledger.clone(), ended.clone(), run.flush.clone()));
        tracing::info!(workflow = settings.workflow, capacity = settings.capacity(), "the pipeline has started");
        Ok(Running { run, ledger, fetching, ended, working })
    }

    /// Jobs that are fetched and not settled.
    pub fn in_flight(&self) -> usize {
        self.ledger.in_flight()
    }

    /// What has become of jobs so far.
    pub fn report(&self) -> Report {
        self.run.tally.report(self.ledger.released(), 0)
    }

    /// Fetches no more, and returns when everything that was fetched is done, however long that takes.
    pub async fn drain(mut self) -> Report {
        self.fetching.cancel();
        self.empty().await;
        self.report()
    }

    /// Ends within `timeout`: what was not started goes back with its attempt, what was started may finish, and what has
    /// not finished after nine tenths of the time is interrupted and goes back. The last tenth is for telling the
    /// database; what it could not be told comes back when the leases end.
    pub async fn shutdown(mut self, timeout: Duration) -> Report {
        let start = Instant::now();
        self.fetching.cancel();
        self.run.release.cancel();
        let in_time = timeout_at(start + (timeout - timeout / TO_TELL), self.empty()).await;
        if in_time.is_err() {
            self.run.interrupt.cancel();
            if timeout_at(start + timeout, self.empty()).await.is_err() {
                tracing::error!(workflow = %self.run.workflow, jobs = self.in_flight(), "not settled in time");
            }
        }
        self.run.tally.report(self.ledger.released(), self.in_flight())
    }

    /// Works until the signal comes, and then ends within `timeout`.
    ///
    /// The signal is any future: `tokio::signal::ctrl_c()`, a terminated signal, a channel.
    pub async fn run_until<S: Future>(self, signal: S, timeout: Duration) -> Report {
        signal.await;
        self.shutdown(timeout).await
    }

    async fn empty(&mut self) {
        self.ended.cancelled().await;
        self.ledger.empty().await;
        let _closed = self.working.recv().await;
    }
}

/// When nothing is fetched any more and no handler is left, batches wait for nobody.
async fn flush_at_the_end(ledger: Arc<Ledger>, ended: CancellationToken, flush: CancellationToken) {
    ended.cancelled().await;
    ledger.stage_empty().await;
    flush.cancel();
}

fn consumer(source: &Source, settings: &Settings) -> Result<Consumer> {
    let mut hints = settings.hints.clone();
    hints.timeout = settings.timeout.or(hints.timeout);
    let workers = match hints.worker {
        Some(_) => Vec::new(),
        None => workers(settings.producers()),
    };
    let limits = Limits { capacity: settings.capacity(), stage: settings.stage(), leases: settings.producers() };
    let options = ConsumerOptions {
        capacity: limits.capacity,
        min_demand: settings.least_demand(),
        max_leases: limits.leases,
        hints,
        wait_timeout: settings.wait_timeout,
        poll_interval: settings.poll_interval,
        settle_timeout: settings.settle_timeout,
        rate_limit: settings.rate_limit,
    };
    Consumer::with_limits(source, &settings.workflow, options, limits, workers)
}

/// A name for each producer, which no other program has: a slot that it holds is found by it again.
fn workers(producers: usize) -> Vec<String> {
    let program = random();
    (0..producers).map(|number| format!("{program:016x}-{number}")).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        self.fetching.cancel();
        self.run.release.cancel();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("workflow", &self.run.workflow).field("in_flight", &self.in_flight()).finish()
    }
}
