//! What a pipeline asks the database before it starts.

use crate::calls::{QueueSettings, WorkflowSettings, WorkflowStatus};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::source::Source;

use super::settings::Settings;

/// SQLSTATEs of a queue that does not exist, and of one that does.
const NOT_THERE: &str = "42704";
const EXISTS: &str = "42710";

/// Registers what the builder names, and fills in what the workflow says.
pub(crate) async fn prepare(source: &Source, mut settings: Settings) -> Result<Settings> {
    if settings.warns_about_gpu_lock_table {
        tracing::warn!("GPU_LOCK_TABLE is not used: who holds a GPU is shown by qflow.resource_status");
    }
    let backend = source.0.connect(&settings.workflow);
    if let Some(client) = backend.client() {
        register(client, &settings).await?;
        let workflows = client.workflow_status().await?;
        if let Some(workflow) = workflows.into_iter().find(|workflow| workflow.workflow == settings.workflow) {
            tell_differences(&settings, &workflow);
            settings.lay_under_workflow(usize::try_from(workflow.concurrency).ok());
        } else {
            tracing::warn!(workflow = settings.workflow, "no such workflow, or its queue may not be seen by this role");
        }
    }
    let problems = settings.problems(source.0.connections());
    match problems.is_empty() {
        true => Ok(settings),
        false => Err(Error::configuration(problems)),
    }
}

/// Makes what does not exist. Many programs may do this at one moment: one of them makes the queue, with its workflow's
/// settings in the same transaction, and the others find both.
async fn register(client: &Client, settings: &Settings) -> Result<()> {
    let Some(queue) = &settings.queue else { return Ok(()) };
    let asked = asked_for(settings);
    match client.create_workflow(&settings.workflow, queue, &asked, true).await {
        Err(error) if error.code() == Some(NOT_THERE) => {}
        found => return found.map(drop),
    }
    match create(client, queue, &settings.workflow, &asked).await {
        Err(error) if error.code() == Some(EXISTS) => {}
        created => return created,
    }
    client.create_workflow(&settings.workflow, queue, &asked, true).await.map(drop)
}

async fn create(client: &Client, queue: &str, workflow: &str, asked: &WorkflowSettings) -> Result<()> {
    let mut connection = client.pool().get().await?;
    let transaction = connection.transaction().await?;
    let on = Client::on(&transaction);
    on.create_queue(queue, &QueueSettings::default(), false, Some(workflow)).await?;
    on.alter_workflow(workflow, asked).await?;
    Ok(transaction.commit().await?)
}

fn asked_for(settings: &Settings) -> WorkflowSettings {
    let small = |number: usize| u32::try_from(number).ok();
    WorkflowSettings {
        timeout: settings.timeout,
        retries: settings.retries,
        concurrency: settings.producers.and_then(small),
        batch_size: settings.batchers.first().map(|batcher| batcher.batch_size()).and_then(small),
        resource_hints: (!settings.hints.is_empty()).then(|| settings.hints.clone()),
        ..WorkflowSettings::default()
    }
}

/// Retries count as they were registered, whatever the program says.
fn tell_differences(settings: &Settings, workflow: &WorkflowStatus) {
    if let Some(retries) = settings.retries.filter(|retries| i64::from(*retries) != workflow.retries) {
        tracing::warn!(
            workflow = settings.workflow,
            asked = retries,
            registered = workflow.retries,
            "the workflow keeps the retries that it was registered with: use alter_workflow"
        );
    }
}
