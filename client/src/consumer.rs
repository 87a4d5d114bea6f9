//! The second layer: a stream of deliveries.

mod delivery;
mod feeder;
mod heartbeat;
mod lease;
mod ledger;
mod rate;
mod settler;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::hints::Hints;
use crate::source::Source;

pub use delivery::Delivery;
pub use lease::Lease;
pub(crate) use ledger::{Ledger, Limits};
pub use rate::Rate;

use feeder::Feeder;
use settler::Settles;

/// Most jobs that the database gives in one fetch.
const MAX_DEMAND: usize = 10_000;

/// How a consumer takes jobs. `ConsumerOptions::default()` holds at most ten at a time.
#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// Most jobs that are fetched and not settled, 1 or more. Default 10.
    pub capacity: usize,
    /// How much of the capacity has to be free before jobs are fetched, 1 to `capacity`. Default 1.
    pub min_demand: usize,
    /// Most leases at a time, 1 or more; each fetch is one. Default: as many as the capacity allows.
    pub max_leases: usize,
    /// Sent with each fetch and wait.
    pub hints: Hints,
    /// How long one wait for jobs takes at most, more than zero. Default 5 s.
    pub wait_timeout: Duration,
    /// How often to look where the database cannot wait, more than zero. Default 250 ms.
    pub poll_interval: Duration,
    /// How long a settle is repeated while the database is away. After that the job is left to the end of its lease.
    /// Default 5 minutes.
    pub settle_timeout: Duration,
    /// Most jobs to fetch in a time.
    pub rate_limit: Option<Rate>,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        ConsumerOptions {
            capacity: 10,
            min_demand: 1,
            max_leases: usize::MAX,
            hints: Hints::default(),
            wait_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_millis(250),
            settle_timeout: Duration::from_secs(300),
            rate_limit: None,
        }
    }
}

impl ConsumerOptions {
    pub(crate) fn problems(&self) -> Vec<String> {
        let zero = [
            (self.capacity == 0, "capacity must be at least 1"),
            (self.min_demand == 0, "min_demand must be at least 1"),
            (self.min_demand > self.capacity, "min_demand is more than the capacity: nothing would ever be fetched"),
            (self.max_leases == 0, "at least one lease must be allowed"),
            (self.wait_timeout.is_zero(), "wait_timeout must be more than zero"),
            (self.poll_interval.is_zero(), "poll_interval must be more than zero"),
            (self.rate_limit.is_some_and(|rate| rate.is_never()), "a rate limit must allow something"),
        ];
        zero.into_iter().filter(|(wrong, _)| *wrong).map(|(_, problem)| problem.to_owned()).collect()
    }
}

/// A stream of jobs, each of which one settles when it is done.
///
/// It is for programs that want to decide themselves what runs when; the [`Pipeline`](crate::Pipeline) is built on it.
/// It fetches when there is room, waits in the database when there is nothing (no polling), keeps the leases of all
/// that is not settled, sends settles in batches, and comes back by itself when the server was away.
///
/// Room is taken when a job is fetched and given back when the database has confirmed how it ended, so that there are
/// never more than [`capacity`](ConsumerOptions::capacity) jobs with this program.
///
/// The stream gives `Err` for what will not pass by itself (a workflow that does not exist, a right that is missing),
/// and tries on: take the next item to wait for the mending, or drop the consumer. It ends after [`stop`](Consumer::stop).
///
/// ```no_run
/// # async fn example() -> qflow_client::Result<()> {
/// use futures_util::StreamExt;
/// use qflow_client::{Client, Consumer, ConsumerOptions};
///
/// let mut consumer = Consumer::new(Client::from_env()?, "mail", ConsumerOptions::default())?;
/// while let Some(delivery) = consumer.next().await {
///     let delivery = delivery?;
///     match delivery.payload::<String>() {
///         Ok(text) => {
///             println!("{text}");
///             delivery.ack().await?;
///         }
///         Err(error) => delivery.fail(error.to_string()).await?,
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    items: UnboundedReceiver<Result<Delivery>>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Consumer {
    /// Starts to fetch for a workflow. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// A [configuration](Error::problems) error with everything that is wrong with the options.
    pub fn new(source: impl Into<Source>, workflow: &str, options: ConsumerOptions) -> Result<Self> {
        let limits = Limits { capacity: options.capacity, stage: usize::MAX, leases: options.max_leases };
        Self::with_limits(&source.into(), workflow, options, limits, Vec::new())
    }

    pub(crate) fn with_limits(
        source: &Source,
        workflow: &str,
        options: ConsumerOptions,
        limits: Limits,
        workers: Vec<String>,
    ) -> Result<Self> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(Error::configuration(problems));
        }
        let backend = source.0.connect(workflow);
        let workflow: Arc<str> = workflow.into();
        let (ledger, stop) = (Arc::new(Ledger::new(limits, workflow.clone())), CancellationToken::new());
        let settles = Settles::start(backend.clone(), ledger.clone(), options.settle_timeout);
        let (sender, items) = unbounded_channel();
        heartbeat::start(backend.clone(), ledger.clone(), stop.clone());
        let feeder =
            Feeder { backend, ledger: ledger.clone(), settles, items: sender, stop: stop.clone(), options, workers };
        let ended = CancellationToken::new();
        let at_end = ended.clone().drop_guard();
        tokio::spawn(async move {
            feeder.run().await;
            drop(at_end);
        });
        Ok(Consumer { items, ledger, stop, ended })
    }

    /// Stops fetching. What was fetched and not yet taken from the stream is given back with its attempt; what was
    /// taken can still be settled.
    pub fn stop(&mut self) {
        self.stop.cancel();
        self.items.close();
        while self.items.try_recv().is_ok() {}
    }

    /// Stops, and returns when everything is settled, or after `timeout` with the number of jobs that are not.
    pub async fn shutdown(mut self, timeout: Duration) -> usize {
        self.stop();
        let settled = async {
            self.ended.cancelled().await;
            self.ledger.empty().await;
        };
        let _in_time = tokio::time::timeout(timeout, settled).await;
        self.ledger.in_flight()
    }

    /// Jobs that are fetched and not settled.
    pub fn in_flight(&self) -> usize {
        self.ledger.in_flight()
    }

    /// Cancelling it stops fetching only: what was fetched still comes.
    pub(crate) fn fetching(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled when nothing more will be fetched.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// The next delivery, not yet begun: dropped, it is given back with its attempt.
    pub(crate) async fn take(&mut self) -> Option<Result<Delivery>> {
        self.items.recv().await
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_recv(context).map(|item| {
            item.map(|item| {
                item.map(|mut delivery| {
                    delivery.start();
                    delivery
                })
            })
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop();
    }
}
