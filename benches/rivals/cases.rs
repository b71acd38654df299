//! The cases, and how each is put to somebody.

use std::{
    fmt,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    Result,
    backend::Mode,
    client::{Answer, Ask},
    subjects::{Subject, Target},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Duplicates,
    OtherBody,
    OtherCaller,
    HangUp,
    Slow,
    Broken,
    Cookies,
}

pub(crate) const CASES: [Case; 7] = [
    Case::Duplicates,
    Case::OtherBody,
    Case::OtherCaller,
    Case::HangUp,
    Case::Slow,
    Case::Broken,
    Case::Cookies,
];

/// What was seen: a cell for each of the case's columns, or why there is none.
pub(crate) struct Finding {
    pub(crate) case: Case,
    pub(crate) subject: Subject,
    pub(crate) cells: Result<Vec<String>, String>,
}

/// How many duplicates there are.
const AT_ONCE: usize = 50;
/// How long the first of them is held, if the others are not answered before.
const HELD: Duration = Duration::from_secs(2);
/// How long a proxy waits for the slow service.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What passes between a client's hang-up and the service's answer: time to notice it.
const NOTICE: Duration = Duration::from_millis(500);
/// A client tries again after so long, so often, until it hears of a success.
const PAUSE: Duration = Duration::from_secs(1);
const RETRIES: usize = 3;

impl Case {
    /// The cells for one of them, from a service and a store of its own.
    pub(crate) async fn put_to(self, subject: Subject) -> Result<Vec<String>> {
        if self == Self::Slow && !subject.has_timeout() {
            return Ok(vec!["no time-out".to_owned()]);
        }
        let timeout = (self == Self::Slow).then_some(TIMEOUT);
        let target = subject.start(self.mode(), timeout).await?;
        let mut cells = match self {
            Self::Duplicates => duplicates(&target).await?,
            Self::OtherBody => {
                let other = Ask { body: r#"{"amount":2999}"#, ..target.ask() };
                reused(&target, other).await
            }
            Self::OtherCaller => reused(&target, target.ask_of_another().await?).await,
            Self::HangUp => hang_up(&target).await?,
            Self::Slow => slow(&target).await?,
            Self::Broken => broken(&target).await,
            Self::Cookies => cookies(&target).await,
        };
        cells.push(target.executions().await?.to_string());
        Ok(cells)
    }

    fn mode(self) -> Mode {
        match self {
            Self::OtherBody | Self::OtherCaller => Mode::Answer,
            Self::Duplicates | Self::HangUp | Self::Slow => Mode::Hold,
            Self::Broken => Mode::Break,
            Self::Cookies => Mode::Cookies,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Duplicates => "Fifty duplicates at once",
            Self::OtherBody => "The same key with another body",
            Self::OtherCaller => "The same key from another caller",
            Self::HangUp => "The client hangs up",
            Self::Slow => "The service is slower than the time-out",
            Self::Broken => "The service breaks off",
            Self::Cookies => "Three cookies",
        }
    }

    /// What is done, for the page.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Duplicates => {
                "Fifty requests with one key, each on a connection of its own. The service holds \
                 what reaches it until all others were answered, or for two seconds, and then \
                 answers. One more request follows when all have their answers."
            }
            Self::OtherBody => {
                "A request and its answer; then another amount with the same key. *Old answer* is \
                 whether the second one got the first one's."
            }
            Self::OtherCaller => {
                "A request and its answer; then the same with another `Authorization` (and with \
                 another session, where callers are told apart by that)."
            }
            Self::HangUp => {
                "The client resets its connection once the service has begun; the service finishes \
                 half a second later. Then the client tries again."
            }
            Self::Slow => {
                "The proxy waits for the service for one second, which takes longer. When the \
                 service has finished, the client tries again."
            }
            Self::Broken => {
                "The service executes the first request and resets the connection (as middleware \
                 has none, it raises an error, or panics). The client tries again, the first time \
                 at once; the service would answer."
            }
            Self::Cookies => {
                "The service's answer has `Set-Cookie` three times; the client asks once more. A \
                 session's own cookie is not counted."
            }
        }
    }

    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Duplicates => &["while the first ran", "all fifty", "one more", "executions"],
            Self::OtherBody | Self::OtherCaller => &["first", "second", "old answer", "executions"],
            Self::HangUp => &["retries", "executions"],
            Self::Slow | Self::Broken => &["first", "retries", "executions"],
            Self::Cookies => {
                &["statuses", "cookies in the first answer", "in the second", "executions"]
            }
        }
    }
}

async fn duplicates(target: &Target) -> Result<Vec<String>> {
    let mut waiting = JoinSet::new();
    for _ in 0..AT_ONCE {
        let ask = target.ask();
        waiting.spawn(async move { ask.exchange().await });
    }
    let mut answers = Vec::new();
    let begun = Instant::now();
    while answers.len() < AT_ONCE - 1 {
        let left = HELD.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, waiting.join_next()).await {
            Ok(Some(answer)) => answers.push(answer?),
            Ok(None) | Err(_) => break,
        }
    }
    let meanwhile = Statuses(&answers).counted();
    target.release().await?;
    while let Some(answer) = waiting.join_next().await {
        answers.push(answer?);
    }
    let more = target.ask().exchange().await;
    Ok(vec![meanwhile, Statuses(&answers).counted(), Statuses(&[more]).to_string()])
}

async fn reused(target: &Target, other: Ask) -> Vec<String> {
    let (first, second) = (target.ask().exchange().await, other.exchange().await);
    let bodies = first.as_ref().map(|a| &a.body).zip(second.as_ref().map(|a| &a.body));
    let old = bodies.is_some_and(|(first, second)| first == second);
    let [first, second] = [first, second].map(|answer| Statuses(&[answer]).to_string());
    vec![first, second, if old { "yes" } else { "no" }.to_owned()]
}

async fn hang_up(target: &Target) -> Result<Vec<String>> {
    let stream = target.ask().send().await?;
    target.reached().await?;
    stream.set_zero_linger()?;
    drop(stream);
    tokio::time::sleep(NOTICE).await;
    target.finish().await?;
    let retries = retry(target, PAUSE).await;
    Ok(vec![Statuses(&retries).to_string()])
}

async fn slow(target: &Target) -> Result<Vec<String>> {
    let first = target.ask().exchange().await;
    target.finish().await?;
    let retries = retry(target, PAUSE).await;
    Ok(vec![Statuses(&[first]).to_string(), Statuses(&retries).to_string()])
}

async fn broken(target: &Target) -> Vec<String> {
    let first = target.ask().exchange().await;
    let retries = retry(target, Duration::ZERO).await;
    vec![Statuses(&[first]).to_string(), Statuses(&retries).to_string()]
}

async fn cookies(target: &Target) -> Vec<String> {
    let answers = [target.ask().exchange().await, target.ask().exchange().await];
    let [first, second] = answers.each_ref().map(|answer| {
        let cookies = answer.iter().flat_map(|answer| &answer.cookies);
        // The service's are named c0, c1 and c2.
        cookies.filter(|cookie| cookie.starts_with('c')).count().to_string()
    });
    vec![Statuses(&answers).to_string(), first, second]
}

/// What a client does that has got no success: it tries again, now and then.
async fn retry(target: &Target, mut pause: Duration) -> Vec<Option<Answer>> {
    let mut answers: Vec<Option<Answer>> = Vec::new();
    while answers.len() < RETRIES && !answers.iter().flatten().any(Answer::is_success) {
        tokio::time::sleep(pause).await;
        answers.push(target.ask().exchange().await);
        pause = PAUSE;
    }
    answers
}

impl Answer {
    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Statuses in the order of their answers.
struct Statuses<'a>(&'a [Option<Answer>]);

impl Statuses<'_> {
    /// How many there were of each, in the order of the statuses.
    fn counted(&self) -> String {
        let mut statuses: Vec<String> = self.0.iter().map(status).collect();
        statuses.sort_unstable();
        let groups = statuses.chunk_by(|one, other| one == other);
        let groups: Vec<String> =
            groups.map(|group| format!("{} x {}", group.len(), group[0])).collect();
        if groups.is_empty() { "none".to_owned() } else { groups.join(", ") }
    }
}

impl fmt::Display for Statuses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> = self.0.iter().map(status).collect();
        f.write_str(&statuses.join(", "))
    }
}

fn status(answer: &Option<Answer>) -> String {
    answer.as_ref().map_or_else(|| "no answer".to_owned(), |answer| answer.status.to_string())
}
