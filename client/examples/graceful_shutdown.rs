//! How a program ends: what it has not started goes back, what it works on is finished, and the exit code says whether
//! all of that came in time.
//!
//! `DATABASE_URL=… cargo run --example graceful_shutdown -- WORKFLOW`, then Ctrl-C or SIGTERM.

use std::process::ExitCode;
use std::time::Duration;

use qflow_client::{Message, Next, Pipeline};
use tokio::signal::unix::{signal, SignalKind};

/// Less than what an orchestrator waits before it kills.
const GRACE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let workflow = std::env::args().nth(1).ok_or("which workflow?")?;
    // Before anything else: a signal that comes during the start counts as well.
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = Pipeline::builder::<serde_json::Value, ()>(&workflow)
        .producers(4)
        .handle_message(|message: Message<_>| async move {
            tokio::time::sleep(Duration::from_millis(5)).await; // the work
            drop(message);
            Ok(Next::Done)
        })
        .build()?
        .start()
        .await?;
    println!("working");
    let told = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    let report = running.run_until(told, GRACE).await;
    println!("{report}");
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
