//! How fast a pipeline is that does nothing: jobs a second, and transactions of the server for 1,000 jobs.
//!
//! `DATABASE_URL=… cargo run --release --example throughput [-- JOBS]`; `make bench-client` runs it.

use std::time::{Duration, Instant};

use qflow_client::{
    BatchOutcome, Batcher, Client, ClientOptions, EnqueueOptions, Message, Next, Pipeline, QueueSettings,
};

/// One line of the table: `size` is the batcher's, and how many jobs each of two producers takes.
async fn measure(url: &str, jobs: u32, size: usize) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let admin = Client::open(url, ClientOptions::default())?;
    let queue = format!("throughput_{size}");
    admin.create_queue(&queue, &QueueSettings::default(), false, None).await?;
    for start in (0..jobs).step_by(10_000) {
        let data: Vec<u32> = (start..jobs.min(start + 10_000)).collect();
        admin.enqueue_batch(&queue, &data, EnqueueOptions::default()).await?;
    }
    let before = transactions(&admin).await?;
    let client = Client::open(url, ClientOptions::default())?;
    let start = Instant::now();
    let running = Pipeline::builder(&queue)
        .source(&client)
        .producers(4)
        .processors(qflow_client::Processors::new(2).max_demand(size))
        .batcher(Batcher::new("nothing").size(size).timeout(Duration::from_millis(20)).concurrency(2))
        .handle_message(|message: Message<u32>| async move { Ok(Next::batch(*message.payload())) })
        .handle_batch(|_| async { Ok(BatchOutcome::Done) })
        .build()?
        .start()
        .await?;
    while running.report().completed < u64::from(jobs) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    running.drain().await;
    client.pool().close();
    tokio::time::sleep(Duration::from_secs(2)).await; // sessions tell their numbers when they end
    let used = transactions(&admin).await? - before;
    Ok((f64::from(jobs) / seconds, used as f64 * 1_000.0 / f64::from(jobs)))
}

async fn transactions(client: &Client) -> Result<i64, Box<dyn std::error::Error>> {
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    Ok(client.pool().get().await?.query_one(sql, &[]).await?.get(0))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL")?;
    let jobs = std::env::args().nth(1).map_or(Ok(20_000), |jobs| jobs.parse())?;
    println!("{:>10} {:>12} {:>26}", "batch size", "jobs/s", "transactions / 1,000 jobs");
    for size in [1, 16, 100] {
        let (rate, used) = measure(&url, jobs, size).await?;
        println!("{size:>10} {rate:>12.0} {used:>26.1}");
    }
    Ok(())
}
