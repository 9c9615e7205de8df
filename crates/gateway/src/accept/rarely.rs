//! Waits for what hardly ever happens, beside what goes on all the time. Each such wait is kept in buffers of its own, for a
//! connection some 0.5 to 1 kB.

use std::future::pending;

use futures_util::stream::{FuturesUnordered, StreamExt};

/// `wait`, asked only when it has been woken itself. A connection goes on with each packet: to ask each time whether it has
/// grown old as well costs as much as going on.
pub async fn rarely<F: Future>(wait: F) -> F::Output {
    match FuturesUnordered::from_iter([wait]).next().await {
        Some(output) => output,
        // It ends once, and is not asked again.
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn who_is_not_woken_is_not_asked() {
        let (asked, happened) = (Cell::new(0), Notify::new());
        let mut notified = std::pin::pin!(happened.notified());
        let wait = poll_fn(|context| {
            asked.set(asked.get() + 1);
            notified.as_mut().poll(context)
        });
        let busy = async {
            for _ in 0..10 {
                yield_now().await;
            }
            happened.notify_waiters();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = rarely(wait) => {}
            () = busy => {}
        }
        assert_eq!(asked.get(), 2, "at the beginning and at the end");
    }
}
