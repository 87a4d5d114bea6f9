//! The third layer: handlers, and everything around them.

mod batcher;
mod builder;
mod failure;
mod guard;
mod handler;
mod message;
mod processors;
mod registration;
mod report;
mod running;
mod settings;
mod stages;

pub use batcher::Batcher;
pub use builder::Builder;
pub use failure::{Cause, FailedJob, Failure, OnFailure};
pub use handler::{BatchOutcome, Handler, Next};
pub use message::{Batch, Message};
pub use processors::Processors;
pub use report::Report;
pub use running::Running;

use std::sync::Arc;

use crate::error::Result;
use crate::source::Source;

use settings::Settings;
use stages::Work;

/// A program that works on a queue: handlers, and everything around them.
///
/// One says what is to be done with a job, and the pipeline does the rest: it fetches as many jobs as can be started,
/// runs handlers beside each other, gathers their results into batches, keeps leases, settles, tries again, comes back
/// when the server was away, and ends without losing or burning anything.
///
/// ```no_run
/// # #[derive(serde::Deserialize)] struct Document { text: String }
/// # async fn embed(_: &str) -> Result<Vec<f32>, std::io::Error> { Ok(vec![]) }
/// # async fn store(_: Vec<(i64, &Vec<f32>)>) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn example() -> qflow_client::Result<()> {
/// use std::time::Duration;
/// use qflow_client::{Batch, BatchOutcome, Batcher, Client, Message, Next, Pipeline};
///
/// let pipeline = Pipeline::builder("embedding_producer")
///     .source(Client::from_env()?)
///     .batcher(Batcher::new("store").size(16).timeout(Duration::from_millis(200)))
///     .handle_message(|message: Message<Document>| async move {
///         Ok(Next::batch(embed(&message.payload().text).await?))
///     })
///     .handle_batch(|batch: Batch<Vec<f32>>| async move {
///         store(batch.messages().iter().map(|m| (m.job().id, m.payload())).collect()).await?;
///         Ok(BatchOutcome::Done)
///     })
///     .build()?;
/// let report = pipeline.start().await?.run_until(std::future::pending::<()>(), Duration::from_secs(30)).await;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// # What happens to a job
///
/// | the handler | the job is |
/// |---|---|
/// | returns `Ok` ([`Next::Done`], or its batch does) | completed |
/// | returns a [`Failure`], or any error | as the failure says, else as [`Builder::on_failure`] says: by default tried again after the workflow's back-off |
/// | panics | the same, with the panic's text as the reason |
/// | takes longer than [`Builder::handler_timeout`] | the same; the handler is dropped |
/// | gets a payload that does not fit its type | failed: trying again would not mend it |
/// | loses its lease | somebody else's; the handler is dropped, and nothing is said about the job |
/// | is still running when a shutdown's time is over | tried again at once (given back with its attempt if that was the last one) |
/// | was never called before a shutdown | given back with its attempt |
///
/// A handler that computes for long without an `.await` cannot be dropped: put such work into
/// `tokio::task::spawn_blocking`.
pub struct Pipeline {
    pub(crate) source: Source,
    pub(crate) settings: Settings,
    pub(crate) work: Arc<dyn Work>,
}

impl Pipeline {
    /// Begins a pipeline for a workflow.
    pub fn builder<In, Out>(workflow: &str) -> Builder<In, Out> {
        Builder::new(workflow)
    }

    /// Registers the queue and the workflow where the builder names a queue, and starts to work. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the database cannot be asked, or says that the workflow or a right is missing; a
    /// [configuration](crate::Error::problems) error when what the workflow says does not fit the builder's settings.
    pub async fn start(self) -> Result<Running> {
        let settings = registration::prepare(&self.source, self.settings).await?;
        Running::start(&self.source, settings, self.work)
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("workflow", &self.settings.workflow).finish_non_exhaustive()
    }
}
