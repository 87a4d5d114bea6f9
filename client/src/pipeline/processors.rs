//! The first stage: jobs to handlers.

use std::sync::Arc;

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::Semaphore;

use super::message::Message;
use super::stages::Stages;
use crate::consumer::{Consumer, Delivery};

/// How jobs are handed to `handle_message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors {
    pub(crate) concurrency: Option<usize>,
    pub(crate) min_demand: usize,
    pub(crate) max_demand: usize,
}

impl Default for Processors {
    fn default() -> Self {
        Processors { concurrency: None, min_demand: 0, max_demand: 1 }
    }
}

impl Processors {
    /// So many handlers at a time, 1 or more.
    pub fn new(concurrency: usize) -> Self {
        Processors { concurrency: Some(concurrency), ..Processors::default() }
    }

    /// Jobs that are fetched for each processor, the one it works on among them. Default 1: nothing is fetched that
    /// cannot be started. More saves fetches where jobs are short.
    pub fn max_demand(mut self, jobs: usize) -> Self {
        self.max_demand = jobs;
        self
    }

    /// Jobs are fetched when there is room for `max_demand - min_demand`. Default 0.
    pub fn min_demand(mut self, jobs: usize) -> Self {
        self.min_demand = jobs;
        self
    }
}

/// Takes jobs as they come and hands them on, until there are no more or the pipeline gives back what it has not begun.
pub(crate) async fn dispatch<In, Out>(consumer: Consumer, stages: Arc<Stages<In, Out>>, concurrency: usize)
where
    In: serde::de::DeserializeOwned + Send + 'static,
    Out: Send + 'static,
{
    let release = stages.run.release.clone();
    let handed_on = async {
        match stages.partition_by.is_some() {
            false => to_any(consumer, stages, concurrency).await,
            true => by_key(consumer, stages, concurrency).await,
        }
    };
    // Dropping the consumer gives back what nobody has taken.
    tokio::select! {
        biased;
        () = release.cancelled() => {}
        () = handed_on => {}
    }
}

async fn to_any<In, Out>(mut consumer: Consumer, stages: Arc<Stages<In, Out>>, concurrency: usize)
where
    In: serde::de::DeserializeOwned + Send + 'static,
    Out: Send + 'static,
{
    let slots = Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS)));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Some(item) = consumer.take().await else { break };
        // What cannot be fetched has been told in the log, and is tried again.
        let Ok(mut delivery) = item else { continue };
        let stages = stages.clone();
        tokio::spawn(async move {
            delivery.start();
            if let Some((message, delivery)) = stages.read(delivery).await {
                stages.process(message, delivery).await;
            }
            drop(slot);
        });
    }
}

/// Each processor has a line of its own, and a key always the same processor.
async fn by_key<In, Out>(mut consumer: Consumer, stages: Arc<Stages<In, Out>>, concurrency: usize)
where
    In: serde::de::DeserializeOwned + Send + 'static,
    Out: Send + 'static,
{
    let lines: Vec<UnboundedSender<(Message<In>, Delivery)>> = (0..concurrency.max(1))
        .map(|_| {
            let (sender, receiver) = unbounded_channel();
            tokio::spawn(one_after_the_other(receiver, stages.clone()));
            sender
        })
        .collect();
    while let Some(item) = consumer.take().await {
        let Ok(delivery) = item else { continue };
        let Some((message, delivery)) = stages.read(delivery).await else { continue };
        let Some((line, message, delivery)) = stages.line(message, delivery).await else { continue };
        let number = usize::try_from(line % lines.len() as u64).unwrap_or(0);
        if let Some(line) = lines.get(number) {
            let _ended = line.send((message, delivery)); // dropped, it goes back
        }
    }
}

async fn one_after_the_other<In, Out>(
    mut line: UnboundedReceiver<(Message<In>, Delivery)>,
    stages: Arc<Stages<In, Out>>,
) where
    In: serde::de::DeserializeOwned + Send + 'static,
    Out: Send + 'static,
{
    while let Some((message, mut delivery)) = line.recv().await {
        if stages.run.release.is_cancelled() {
            continue; // dropped, it goes back with its attempt
        }
        delivery.start();
        let handler = stages.clone();
        // In a task of its own, so that what nobody thought of ends the job and not the line.
        let _ended = tokio::spawn(async move { handler.process(message, delivery).await }).await;
    }
}
