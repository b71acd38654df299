//! The beginning of a shutdown, as connections see it.
//!
//! Each of them asks at every request and waits all its life. A token that can be waited
//! for takes a lock that all connections share, so what is asked is a flag, and who waits
//! queues once.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A shutdown that may begin. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Set before the token is cancelled: who is woken finds it.
    has_begun: AtomicBool,
    token: CancellationToken,
}

impl Closing {
    /// Begins it.
    pub(crate) fn begin(&self) {
        self.0.has_begun.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Acquire)
    }

    /// Waits until it begins.
    pub(crate) async fn begun(&self) {
        self.0.token.cancelled().await;
    }

    /// A task's place in the queue of those who are woken.
    pub(crate) fn watch(&self) -> Watch {
        let token = Box::pin(self.0.token.clone().cancelled_owned());
        Watch { closing: self.clone(), token, waker: None }
    }
}

/// Tells one task.
#[derive(Debug)]
pub(crate) struct Watch {
    closing: Closing,
    token: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom the token wakes.
    waker: Option<Waker>,
}

impl Watch {
    /// Whether it has begun; if not, the task is woken when it does.
    pub(crate) fn has_begun(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.has_begun() {
            return true;
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return false;
        }
        self.waker = Some(cx.waker().clone());
        self.token.as_mut().poll(cx).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn who_has_asked_often_is_woken_once_it_begins() {
        let closing = Closing::default();
        let mut watch = closing.watch();
        let waits = tokio::spawn(async move {
            let mut asked = 0;
            poll_fn(|cx| {
                asked += 1;
                if watch.has_begun(cx) {
                    return std::task::Poll::Ready(asked);
                }
                assert!(!watch.has_begun(cx));
                std::task::Poll::Pending
            })
            .await
        });
        tokio::task::yield_now().await;
        assert!(!closing.has_begun());
        closing.begin();
        closing.begun().await;
        assert_eq!(waits.await.unwrap(), 2);
        assert!(closing.has_begun());
    }
}
