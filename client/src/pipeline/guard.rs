//! Runs a handler so that nothing it does takes the pipeline with it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

/// How a handler's call ended.
pub(crate) enum Ended<T> {
    Returned(T),
    Panicked(String),
    TimedOut,
    Lost,
    Interrupted,
}

impl<T> Ended<T> {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Ended::Returned(_) => "returned",
            Ended::Panicked(_) => "panic",
            Ended::TimedOut => "timeout",
            Ended::Lost => "lost",
            Ended::Interrupted => "interrupted",
        }
    }
}

/// Runs a call until it returns, panics, takes too long, has lost what it works for, or is interrupted. In the last
/// three cases it is dropped where it stands.
pub(crate) async fn guarded<T, F: Future<Output = T>>(
    call: impl FnOnce() -> F,
    timeout: Option<Duration>,
    lost: impl Future<Output = ()>,
    interrupt: &CancellationToken,
) -> Ended<T> {
    // The handlers' state is the user's: what a panic leaves behind there is seen by the next call as after an error.
    let handler = AssertUnwindSafe(async { call().await }).catch_unwind();
    let too_long = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = handler => match result {
            Ok(value) => Ended::Returned(value),
            Err(panic) => Ended::Panicked(text(&*panic)),
        },
        () = lost => Ended::Lost,
        () = interrupt.cancelled() => Ended::Interrupted,
        () = too_long => Ended::TimedOut,
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panic: {}", text.unwrap_or_else(|| "without a text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(start_paused = true)]
    async fn each_end_is_told_apart() {
        let token = CancellationToken::new();
        let second = Some(Duration::from_secs(1));
        assert!(matches!(guarded(|| async { 1 }, second, pending(), &token).await, Ended::Returned(1)));
        let panics = guarded(
            || async {
                if second.is_some() {
                    panic!("at the {}", "disco")
                }
            },
            second,
            pending(),
            &token,
        );
        assert!(matches!(panics.await, Ended::Panicked(text) if text == "panic: at the disco"));
        assert!(matches!(guarded(pending::<()>, second, pending(), &token).await, Ended::TimedOut));
        assert!(matches!(guarded(pending::<()>, second, async {}, &token).await, Ended::Lost));
        token.cancel();
        assert!(matches!(guarded(pending::<()>, second, pending(), &token).await, Ended::Interrupted));
    }
}
