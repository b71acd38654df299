//! Whether the backend has executed what the answers speak of, each request once.

/// What the answers of a measurement say of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Each stands for one execution.
    Once,
    /// None stands for any.
    Never,
}

/// How many requests were executed that should not have been, or were not, and in words
/// which of these it is.
///
/// More executions than answers are no error up to two for each of the `connections`: a
/// load that ends leaves a request on each of them, whose answer nobody counts any more.
/// Those of the load that came before may reach the backend after it was first asked, and
/// those of this one before it is asked again.
pub(crate) fn astray(
    promise: Promise,
    executed: u64,
    answers: u64,
    connections: u64,
) -> Option<(u64, String)> {
    let unanswered = 2 * connections;
    let (count, what) = match promise {
        Promise::Never => (executed, "replays were executed"),
        Promise::Once if executed < answers => {
            (answers - executed, "answers did not come from the backend")
        }
        Promise::Once => (
            executed.saturating_sub(answers + unanswered),
            "executions without an answer of their own: requests were executed twice",
        ),
    };
    (count > 0).then(|| (count, what.to_owned()))
}
