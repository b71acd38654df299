//! Writes that replicas have to have taken ([`Durability::Replicated`](crate::store::Durability)).

use redis::{Cmd, Pipeline, Value};

use super::{
    RedisStore,
    request::{Commands, Request},
    scripts,
    wire::{milliseconds, pipeline, replies},
    written,
};
use crate::{
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind, Write},
};

impl RedisStore {
    /// Calls the script that swaps, and waits for as many replicas as are asked for.
    pub(super) async fn swapped(&self, call: Cmd) -> Result<Write, StoreError> {
        if self.replicas() == 0 {
            return self.compare("swap", &scripts::SWAP, call).await;
        }
        let mut call = pipeline([call]);
        let waits = self.wait_for_replicas(&mut call);
        let call = Request::Script(&scripts::SWAP, Commands::Many(&call));
        let mut replies = replies(self.link.run("swap", call).await?, "swap")?;
        let is_replicated = self.is_replicated(waits, &mut replies);
        match written("swap", replies.pop().unwrap_or(Value::Nil))? {
            Write::Applied if !is_replicated => Err(self.too_few_replicas("swap", waits)),
            write => Ok(write),
        }
    }

    /// How many replicas a write waits for.
    pub(super) fn replicas(&self) -> u8 {
        if is_active(Mutant::IgnoreReplicas) { 0 } else { self.options.durability.replicas() }
    }

    /// Lets an operation wait for the replicas of its write, unless that is known to be in
    /// vain.
    pub(super) fn wait_for_replicas(&self, pipeline: &mut Pipeline) -> bool {
        let replicas = self.replicas();
        let waits = replicas > 0 && !self.link.guard().replicas_are_behind();
        if waits {
            pipeline.cmd("WAIT").arg(replicas).arg(milliseconds(self.options.reply_timeout / 2));
        }
        waits
    }

    /// Takes the last reply of an operation that waited, and judges it.
    pub(super) fn is_replicated(&self, waits: bool, reply: &mut Vec<Value>) -> bool {
        let wanted = i64::from(self.replicas());
        match waits {
            true => matches!(reply.pop(), Some(Value::Int(have)) if have >= wanted),
            false => wanted == 0,
        }
    }

    /// Only who waited in vain has learnt something of them.
    pub(super) fn too_few_replicas(&self, operation: &str, waited: bool) -> StoreError {
        if waited {
            self.link.guard().replicas_fell_behind();
        }
        let wanted = self.options.durability.replicas();
        let peer = self.link.peer();
        let what = format!(
            "{operation} at Redis {peer}: fewer than {wanted} replicas have it (store.durability)"
        );
        StoreError::new(StoreErrorKind::Unavailable, what)
    }
}
