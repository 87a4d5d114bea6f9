//! What a user writes.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::failure::{FailedJob, Failure};
use super::message::{Batch, Message};

/// The work of a pipeline, as one type. Closures do as well: [`Builder::handle_message`](crate::Builder::handle_message)
/// and its kin.
pub trait Handler: Send + Sync + 'static {
    /// What the payload is read as.
    type Input: DeserializeOwned + Send + 'static;
    /// What goes from the first stage to the batches; `()` where there are none.
    type Output: Send + 'static;

    /// Does a job, or the part of it that needs no other job. It may run more than once for one job, on several
    /// machines one after the other: what it does elsewhere should bear that.
    fn handle_message(
        &self,
        message: Message<Self::Input>,
    ) -> impl Future<Output = Result<Next<Self::Output>, Failure>> + Send;

    /// Does a batch. By default there is nothing left to do.
    fn handle_batch(&self, batch: Batch<Self::Output>) -> impl Future<Output = Result<BatchOutcome, Failure>> + Send {
        drop(batch);
        async { Ok(BatchOutcome::Done) }
    }

    /// Hears of a failed attempt before the database does. By default nothing.
    fn handle_failed(&self, failed: FailedJob) -> impl Future<Output = ()> + Send {
        drop(failed);
        async {}
    }
}

/// Where a job goes when `handle_message` has done its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Nowhere: it is done.
    Done,
    /// To a batcher.
    Batch {
        /// The batcher's name; `None`: the only one, or the first.
        batcher: Option<Cow<'static, str>>,
        /// Batches hold messages of one key only.
        key: Option<Arc<str>>,
        /// What the batch is given.
        value: T,
    },
}

impl<T> Next<T> {
    /// To the first batcher.
    pub fn batch(value: T) -> Self {
        Next::Batch { batcher: None, key: None, value }
    }

    /// To a batcher by its name. A name that no batcher has is a failed attempt.
    pub fn batch_in(name: impl Into<Cow<'static, str>>, value: T) -> Self {
        Next::Batch { batcher: Some(name.into()), key: None, value }
    }

    /// Only with others of this key.
    pub fn keyed(self, with: impl Into<Arc<str>>) -> Self {
        match self {
            Next::Batch { batcher, value, .. } => Next::Batch { batcher, key: Some(with.into()), value },
            Next::Done => Next::Done,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// All its jobs are done.
    Done,
    /// A result for each message, in order. A job without a result has failed.
    Each(Vec<Result<(), Failure>>),
}

pub(crate) type MessageHandler<In, Out> =
    Arc<dyn Fn(Message<In>) -> BoxFuture<'static, Result<Next<Out>, Failure>> + Send + Sync>;
pub(crate) type BatchHandler<Out> =
    Arc<dyn Fn(Batch<Out>) -> BoxFuture<'static, Result<BatchOutcome, Failure>> + Send + Sync>;
pub(crate) type FailedHandler = Arc<dyn Fn(FailedJob) -> BoxFuture<'static, ()> + Send + Sync>;
pub(crate) type PartitionBy<In> = Arc<dyn Fn(&Message<In>) -> u64 + Send + Sync>;

/// The handlers of a pipeline, whichever way they were given.
pub(crate) struct Handlers<In, Out> {
    pub message: Option<MessageHandler<In, Out>>,
    pub batch: Option<BatchHandler<Out>>,
    pub failed: Option<FailedHandler>,
    pub partition_by: Option<PartitionBy<In>>,
    /// They are of one type, which has each of them whether it is needed or not.
    pub is_whole: bool,
}

impl<In, Out> Default for Handlers<In, Out> {
    fn default() -> Self {
        Handlers { message: None, batch: None, failed: None, partition_by: None, is_whole: false }
    }
}

impl<In: Send + 'static, Out: Send + 'static> Handlers<In, Out> {
    pub(crate) fn set<H: Handler<Input = In, Output = Out>>(&mut self, handler: H) {
        self.is_whole = true;
        let handler = Arc::new(handler);
        let (for_batch, for_failed) = (handler.clone(), handler.clone());
        self.message = Some(Arc::new(move |message| {
            let handler = handler.clone();
            Box::pin(async move { handler.handle_message(message).await })
        }));
        self.batch = Some(Arc::new(move |batch| {
            let handler = for_batch.clone();
            Box::pin(async move { handler.handle_batch(batch).await })
        }));
        self.failed = Some(Arc::new(move |failed| {
            let handler = for_failed.clone();
            Box::pin(async move { handler.handle_failed(failed).await })
        }));
    }
}
