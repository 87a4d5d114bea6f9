//! Three pipelines as one would run them: embedding documents, training on their complexity, learning an architecture.
//!
//! `DATABASE_URL=… cargo run --example pipelines -- embedding`
//!
//! Each makes its queue and its workflow at the first start, works until Ctrl-C or SIGTERM, and says what it has done.
//! They ask for the GPUs, cores and memory that such jobs need: on one GPU the first two take turns.

use std::time::Duration;

use qflow_client::{Batch, BatchOutcome, Batcher, Failure, Hints, Message, Next, Pipeline, Processors, Running};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Document {
    text: String,
}

/// What stands in for the model: as many numbers as the document has words.
#[derive(Serialize)]
struct Embedding(Vec<usize>);

fn embed(document: &Document) -> Embedding {
    Embedding(document.text.split_whitespace().map(str::len).collect())
}

/// Ten producers, batches of 16, leases of five minutes, three retries, a GPU for each fetch.
async fn embedding() -> qflow_client::Result<Running> {
    Pipeline::builder("embedding_producer")
        .queue("embedding_jobs")
        .producers(10)
        .timeout(Duration::from_secs(300))
        .retries(3)
        .hints(Hints::default().amount("gpu", 1))
        .processors(Processors::new(10).max_demand(2))
        .batcher(Batcher::new("store").size(16).timeout(Duration::from_millis(200)))
        .handle_message(|message: Message<Document>| async move { Ok(Next::batch(embed(message.payload()))) })
        .handle_batch(|batch: Batch<Embedding>| async move {
            let numbers: usize = batch.messages().iter().map(|message| message.payload().0.len()).sum();
            println!("stored {} embeddings of {numbers} numbers", batch.messages().len());
            Ok(BatchOutcome::Done)
        })
        .build()?
        .start()
        .await
}

/// Five producers, leases of ten minutes, five retries, a GPU and eight cores.
async fn complexity_training() -> qflow_client::Result<Running> {
    Pipeline::builder("complexity_training")
        .queue("complexity_jobs")
        .producers(5)
        .timeout(Duration::from_secs(600))
        .retries(5)
        .hints(Hints::default().amount("gpu", 1).amount("cpu_cores", 8))
        .batcher(Batcher::new("train").size(8).timeout(Duration::from_secs(1)))
        .handle_message(|message: Message<Document>| async move {
            let sentences = message.payload().text.split('.').filter(|sentence| !sentence.trim().is_empty()).count();
            match sentences {
                0 => Err(Failure::permanent("a document without a sentence")),
                _ => Ok(Next::batch(sentences)),
            }
        })
        .handle_batch(|batch: Batch<usize>| async move {
            println!("trained on {} documents", batch.messages().len());
            Ok(BatchOutcome::Done)
        })
        .build()?
        .start()
        .await
}

/// Three producers, leases of a quarter of an hour, no GPU whatever the workflow says, 16 GB of memory.
async fn architecture_learning() -> qflow_client::Result<Running> {
    Pipeline::builder("architecture_learning")
        .queue("architecture_jobs")
        .producers(3)
        .timeout(Duration::from_secs(900))
        .retries(3)
        .hints(Hints::default().without("gpu").amount("memory_gb", 16))
        .batcher(Batcher::new("learn").size(4).timeout(Duration::from_secs(2)))
        .handle_message(|message: Message<Document>| async move { Ok(Next::batch(message.payload().text.len())) })
        .handle_batch(|batch: Batch<usize>| async move {
            println!("learned from {} documents", batch.messages().len());
            Ok(BatchOutcome::Done)
        })
        .build()?
        .start()
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let running = match std::env::args().nth(1).as_deref() {
        Some("embedding") => embedding().await?,
        Some("complexity") => complexity_training().await?,
        Some("architecture") => architecture_learning().await?,
        _ => return Err("which one: embedding, complexity or architecture?".into()),
    };
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let told = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated.recv() => {}
        }
    };
    println!("{}", running.run_until(told, Duration::from_secs(30)).await);
    Ok(())
}
