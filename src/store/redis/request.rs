//! What is sent to Redis.

use redis::{
    Cmd, ErrorKind, Pipeline, RedisResult, Script, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};

use super::guard::Guard;
use crate::mutants::{Mutant, is_active};

/// What is done in one round trip.
pub(super) enum Request<'a> {
    Send(Commands<'a>),
    /// Commands of which the first is an `EVALSHA` of the script, which is loaded when
    /// the server does not know it.
    Script(&'a Script, Commands<'a>),
    /// The guard's look.
    Look,
    /// The operator's word about a loss.
    Acknowledge,
}

/// What is sent as one piece.
#[derive(Clone, Copy)]
pub(super) enum Commands<'a> {
    One(&'a Cmd),
    /// Several commands, whose replies are an array.
    Many(&'a Pipeline),
}

impl Request<'_> {
    /// What seldom happens is boxed, so that the usual way needs little room.
    pub(super) async fn send(
        &self,
        guard: &Guard,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Value> {
        match self {
            Self::Send(commands) => commands.send(connection).await,
            Self::Script(script, commands) => match commands.send(connection).await {
                Err(error)
                    if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
                        && !is_active(Mutant::ForgetScripts) =>
                {
                    Box::pin(script.load_async(connection)).await?;
                    Box::pin(commands.send(connection)).await
                }
                result => result,
            },
            Self::Look => Box::pin(guard.look(connection)).await.map(|()| Value::Nil),
            Self::Acknowledge => Box::pin(guard.acknowledge(connection)).await.map(|()| Value::Nil),
        }
    }
}

impl Commands<'_> {
    /// By the connection's own methods: those of `redis::Cmd` and `redis::Pipeline` take a box
    /// for each call, and copy the replies.
    async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        let reply = match self {
            Self::One(command) => connection.send_packed_command(command).await?,
            Self::Many(commands) => {
                let replies = connection.send_packed_commands(commands, 0, commands.len()).await?;
                Value::Array(replies)
            }
        };
        reply.extract_error()
    }
}
