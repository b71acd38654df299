//! Bodies that are read whole.

use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

use super::{
    body::Trailers,
    budget::{Budget, Permit},
};
use crate::{
    BoxError,
    engine::problem::Problem,
    mutants::{Mutant, is_active},
};

/// A request body that was read whole.
#[derive(Debug)]
pub(crate) struct Buffered {
    pub(crate) bytes: Bytes,
    pub(super) trailers: Trailers,
    pub(super) permit: Permit,
}

impl Buffered {
    /// No body.
    pub(crate) fn empty(budget: &Budget) -> Self {
        Self { bytes: Bytes::new(), trailers: None, permit: budget.permit() }
    }
}

/// Reads a request body whole, within the route's limit and the process's budget.
/// A single frame is kept as it came.
pub(crate) async fn read<B>(
    mut body: Pin<&mut B>,
    limit: usize,
    budget: &Budget,
) -> Result<Buffered, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let announced = body.size_hint();
    if announced.lower() > limit as u64 {
        return Err(Problem::BodyTooLarge { limit });
    }
    let mut permit = budget.permit();
    let mut gathered = Gathered::default();
    let mut trailers = None;
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        if frame.is_err() && is_active(Mutant::AcceptHalfBody) {
            break;
        }
        match frame.map_err(|error| fault(&*error.into()))?.into_data() {
            Ok(data) => {
                if gathered.len() + data.len() > limit {
                    return Err(Problem::BodyTooLarge { limit });
                }
                permit.grow(data.len()).map_err(|_| Problem::Overloaded)?;
                gathered.push(data);
            }
            Err(frame) => trailers = frame.into_trailers().ok().map(Box::new).or(trailers),
        }
    }
    if announced.exact().is_some_and(|length| length != gathered.len() as u64)
        && !is_active(Mutant::TakeResetForEnd)
        && !is_active(Mutant::AcceptHalfBody)
    {
        return Err(Problem::BodyIncomplete);
    }
    Ok(Buffered { bytes: gathered.into_bytes(), trailers, permit })
}

fn fault(error: &(dyn std::error::Error + 'static)) -> Problem {
    if is_timeout(error) { Problem::BodyTimeout } else { Problem::BodyIncomplete }
}

/// Time-outs of a body arrive as [`std::io::ErrorKind::TimedOut`].
pub(crate) fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    crate::chain(error)
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// Frames put together; one frame is not copied.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    first: Option<Bytes>,
    rest: BytesMut,
}

impl Gathered {
    pub(crate) fn len(&self) -> usize {
        self.first.as_ref().map_or(self.rest.len(), Bytes::len)
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = Some(data);
            return;
        }
        if let Some(first) = self.first.take() {
            self.rest.extend_from_slice(&first);
        }
        self.rest.extend_from_slice(&data);
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.first.unwrap_or_else(|| self.rest.freeze())
    }
}
