//! What a leader's task says to the client that it leads for, once.

use http::Response;
use tokio::sync::{oneshot, watch};

use super::{body::ResponseBody, exchange::Exchange, waiters::View};

/// What a leader's task has to say.
pub(super) enum Led<S, R> {
    /// The answer.
    Answer(Response<ResponseBody<R>>),
    /// The key is busy elsewhere: wait with the others.
    Follow(Box<Exchange<S>>, watch::Receiver<View>),
}

/// The way back to the client, who may be gone.
pub(super) struct Reply<S, R>(Option<oneshot::Sender<Led<S, R>>>);

impl<S, R> Reply<S, R> {
    pub(super) fn new() -> (Self, oneshot::Receiver<Led<S, R>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    /// The answer. Only the first one is heard.
    pub(super) fn answer(&mut self, answer: Response<ResponseBody<R>>) {
        self.send(Led::Answer(answer));
    }

    /// Nothing to answer yet: the exchange waits with the others.
    pub(super) fn follow(&mut self, exchange: Box<Exchange<S>>, view: watch::Receiver<View>) {
        self.send(Led::Follow(exchange, view));
    }

    fn send(&mut self, led: Led<S, R>) {
        if let Some(sender) = self.0.take() {
            // A client that is gone hears nothing, and nothing else changes.
            drop(sender.send(led));
        }
    }
}
