//! The beginning of a shutdown, for a connection: it asks at every read, and queues for the
//! answer once in its life.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use crate::closing::Closing;

/// Tells one task of a shutdown.
pub(crate) struct Watch {
    closing: Closing,
    begun: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Who is woken.
    waker: Option<Waker>,
}

impl Watch {
    pub(crate) fn new(closing: &Closing) -> Self {
        Self { closing: closing.clone(), begun: Box::pin(closing.begun()), waker: None }
    }

    /// Whether it has begun; if not, the task is woken when it does.
    pub(crate) fn has_begun(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.has_begun() {
            return true;
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return false;
        }
        self.waker = Some(cx.waker().clone());
        self.begun.as_mut().poll(cx).is_ready()
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("closing", &self.closing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn who_has_asked_often_is_woken_once_it_begins() {
        let closing = Closing::default();
        let mut watch = Watch::new(&closing);
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
