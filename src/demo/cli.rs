//! What `oncegate demo` can be told.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand, value_parser};

/// The whole story in one command, or one of its parts as a process of its own.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DemoArgs {
    #[command(subcommand)]
    pub(crate) process: Option<Process>,
    #[command(flatten)]
    pub(crate) story: StoryArgs,
}

/// The parts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Process {
    /// The naive payment service
    Payments(PaymentsArgs),
    /// The link that resets connections
    Link(LinkArgs),
    /// The clients: rounds 1 to 3 across the network, then the table
    Storm(StormArgs),
}

/// `oncegate demo`.
///
/// # Defaults
/// 1000 payments, 32 at once, resets at 30 % and 30 %, a random seed.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoryArgs {
    /// Payments per round, one euro each
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = value_parser!(u64).range(10..=1_000_000))]
    pub(crate) payments: u64,
    /// How many clients pay at once
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    /// Share of connections that are reset before the request arrives
    #[arg(long, value_name = "SHARE", default_value_t = Share(0.3), value_parser = breaking_share)]
    pub(crate) before: Share,
    /// Share of the others that are reset when the response leaves the service
    #[arg(long, value_name = "SHARE", default_value_t = Share(0.3), value_parser = breaking_share)]
    pub(crate) after: Share,
    /// Repeats the link's decisions of an earlier run [default: random]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Keep everything running until Ctrl-C
    #[arg(long)]
    pub(crate) stay: bool,
}

/// `oncegate demo payments`.
///
/// # Defaults
/// `127.0.0.1:9000`, `./oncegate-demo`, naive.
#[derive(Clone, Debug, Args)]
pub(crate) struct PaymentsArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// The folder of the ledger
    #[arg(long, value_name = "DIR", default_value = "./oncegate-demo")]
    pub(crate) data: PathBuf,
    /// Answer 208 and the first result to a key that was seen
    #[arg(long)]
    pub(crate) deduplicate: bool,
}

/// `oncegate demo link`.
///
/// # Defaults
/// Resets at 30 % and 30 %, a random seed.
#[derive(Clone, Debug, Args)]
pub(crate) struct LinkArgs {
    /// Where to listen and where to forward to; may be repeated
    #[arg(long = "map", value_name = "LISTEN=HOST:PORT", required = true)]
    pub(crate) maps: Vec<Map>,
    /// Share of connections that are reset before the request arrives
    #[arg(long, value_name = "SHARE", default_value_t = Share(0.3))]
    pub(crate) before: Share,
    /// Share of the others that are reset when the response leaves the service
    #[arg(long, value_name = "SHARE", default_value_t = Share(0.3))]
    pub(crate) after: Share,
    /// Repeats the decisions of an earlier run [default: random]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// `oncegate demo storm`.
///
/// # Defaults
/// 1000 payments, 32 at once, 60 attempts, a minute for everything to come up.
#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    /// The link's way to the payment service
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) direct: HostPort,
    /// The link's way to the gate
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) gate: HostPort,
    /// The payment service itself, where its ledger is read
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) ledger: HostPort,
    /// Payments per round, one euro each
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = value_parser!(u64).range(10..=1_000_000))]
    pub(crate) payments: u64,
    /// How many clients pay at once
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    /// After so many attempts a client gives up
    #[arg(long, value_name = "N", default_value_t = 60,
        value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) attempts: u32,
    /// How many seconds to wait for everything to come up
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) wait: Duration,
}

/// A probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share(pub(crate) f64);

/// A peer that is resolved whenever it is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort(pub(crate) String);

/// One way through the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    /// Where it begins.
    pub(crate) listen: SocketAddr,
    /// Where it ends.
    pub(crate) target: HostPort,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("a share is a number from 0 to 1, 0.3 for 30 %".to_owned()),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err("a peer is HOST:PORT, without http://".to_owned()),
        }
    }
}

impl FromStr for Map {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (listen, target) = text
            .split_once('=')
            .ok_or("a mapping is LISTEN=HOST:PORT, say 0.0.0.0:7000=payments:9000")?;
        let listen = listen
            .parse()
            .map_err(|_| format!("{listen:?} is not an address to listen on, say 0.0.0.0:7000"))?;
        Ok(Self { listen, target: target.parse()? })
    }
}

/// The story needs a link that breaks things and lets some through.
fn breaking_share(text: &str) -> Result<Share, String> {
    match text.parse()? {
        Share(share) if (0.01..=0.9).contains(&share) => Ok(Share(share)),
        _ => Err("the story needs a share from 0.01 to 0.9".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>().map_err(|_| "whole seconds, say 60".to_owned())?;
    Ok(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        demo: DemoArgs,
    }

    fn parse(line: &str) -> Result<DemoArgs, clap::Error> {
        Command::try_parse_from(line.split_whitespace()).map(|command| command.demo)
    }

    #[test]
    fn the_story_has_the_defaults_of_its_page() {
        let DemoArgs { process, story } = parse("demo").unwrap();
        assert!(process.is_none());
        assert_eq!((story.payments, story.concurrency), (1000, 32));
        assert_eq!((story.before, story.after), (Share(0.3), Share(0.3)));
        assert_eq!((story.seed, story.stay), (None, false));
    }

    #[test]
    fn the_parts_are_told_where_to_listen_and_where_to_go() {
        let line = "demo link --map 0.0.0.0:7000=payments:9000 --map [::]:7001=gate:8080 --seed 7";
        let Some(Process::Link(link)) = parse(line).unwrap().process else { panic!("no link") };
        assert_eq!(link.maps.len(), 2);
        assert_eq!(link.maps[1].target.0, "gate:8080");
        let line = "demo storm --direct link:7000 --gate link:7001 --ledger payments:9000";
        assert!(matches!(parse(line).unwrap().process, Some(Process::Storm(_))));
        let line = "demo payments --listen 0.0.0.0:9000 --data /data --deduplicate";
        assert!(matches!(parse(line).unwrap().process, Some(Process::Payments(_))));
    }

    #[test]
    fn what_makes_no_sense_is_a_usage_error() {
        for line in [
            "demo --before 0",
            "demo storm --direct l:1 --gate l:2 --ledger p:3 --wait 18446744073709551615",
            "demo --after 1",
            "demo --before much",
            "demo --payments 3",
            "demo link",
            "demo link --map 7000",
            "demo link --map here=payments:9000",
            "demo link --map 0.0.0.0:7000=http://payments",
            "demo link --map 0.0.0.0:7000=payments:9000 --before 1.5",
            "demo storm --direct link:7000",
            "demo payments --listen somewhere",
            "demo --seed 1 payments",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
