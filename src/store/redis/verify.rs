//! What a server must be like for a gate to rely on it.

use std::collections::HashMap;

use redis::{InfoDict, RedisError, ServerErrorKind};

use super::RedisOptions;
use crate::{
    mutants::{Mutant, is_active},
    store::{Durability, StoreErrorKind},
};

/// `SET` with both `NX` and `GET` came with this version.
const OLDEST: u64 = 7;

/// Why a server will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) kind: StoreErrorKind,
    /// Goes on from "Redis at HOST:PORT".
    pub(super) why: String,
    /// It is no primary, or not yet: somebody else may be.
    pub(super) is_no_primary: bool,
}

impl Unfit {
    /// Trouble that passes.
    pub(super) const fn for_now(why: String) -> Self {
        Self { kind: StoreErrorKind::Unavailable, why, is_no_primary: false }
    }
}

/// What tells how a server writes.
pub(super) const WRITING: [&str; 2] = ["appendfsync", "no-appendfsync-on-rewrite"];

/// Whether the server has every write on its disk before it acknowledges it, by its
/// settings of [`WRITING`]. One that does not let itself be asked has not; neither has one
/// that forces nothing while it rewrites its file.
pub(super) fn forces_writes(info: &InfoDict, settings: &HashMap<String, String>) -> bool {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    info.get::<String>("aof_enabled").as_deref() == Some("1")
        && is(WRITING[0], "always")
        && (is(WRITING[1], "no") || is_active(Mutant::TrustRewrites))
}

/// The history of writes that the server went on with when it was promoted, if it was.
pub(super) fn promoted(info: &InfoDict) -> Option<String> {
    let end: i64 = info.get("second_repl_offset").unwrap_or(-1);
    info.get("master_replid2").filter(|_| end >= 0)
}

/// Up to where a server has written, in its history of writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) history: String,
    pub(super) offset: u64,
}

impl Written {
    pub(super) fn so_far(info: &InfoDict) -> Self {
        Self {
            history: info.get("master_replid").unwrap_or_default(),
            offset: info.get("master_repl_offset").unwrap_or(0),
        }
    }
}

/// Judges the reply to `INFO`. Replicas count that have all up to `least`.
pub(super) fn judge(
    info: &InfoDict,
    forces_writes: bool,
    least: u64,
    options: &RedisOptions,
) -> Result<(), Unfit> {
    let text = |name: &str| info.get::<String>(name).unwrap_or_default();
    let refuse = |kind, why: String| Err(Unfit { kind, why, is_no_primary: false });

    let version = text("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return refuse(
            StoreErrorKind::Misconfigured,
            format!("has version {version:?}; oncegate needs Redis 7 or Valkey, or later"),
        );
    }
    if text("loading") == "1" {
        let why = "is still loading its data set; wait until it has finished".to_owned();
        return Err(Unfit { kind: StoreErrorKind::Unavailable, why, is_no_primary: true });
    }
    if matches!(&*text("role"), "slave" | "replica") {
        let primary = format!("{}:{}", text("master_host"), text("master_port"));
        let why = format!("is a replica and takes no writes; name its primary, {primary}");
        return Err(Unfit { kind: StoreErrorKind::Misconfigured, why, is_no_primary: true });
    }
    if text("cluster_enabled") == "1" {
        return refuse(
            StoreErrorKind::Misconfigured,
            "is a node of a cluster, which is not supported yet; use a server by itself".to_owned(),
        );
    }
    let policy = text("maxmemory_policy");
    let evicts = policy != "noeviction" && !is_active(Mutant::AcceptEviction);
    if evicts && !options.allow_eviction {
        let policy = if policy.is_empty() { "unknown" } else { &policy };
        return refuse(
            StoreErrorKind::Misconfigured,
            format!(
                "may throw records away when its memory is full (maxmemory-policy is {policy}), \
                 and a request could then run twice; set maxmemory-policy noeviction there, \
                 or accept it with store.allow_eviction = true here"
            ),
        );
    }
    match options.durability {
        Durability::Acknowledged => Ok(()),
        Durability::Fsync if forces_writes => Ok(()),
        Durability::Fsync => refuse(
            StoreErrorKind::Misconfigured,
            "does not say that it forces every write to its disk; set appendonly yes, \
             appendfsync always and no-appendfsync-on-rewrite no there, or choose another \
             store.durability here"
                .to_owned(),
        ),
        Durability::Replicated(_) if is_active(Mutant::IgnoreReplicas) => Ok(()),
        Durability::Replicated(wanted) => {
            let replicas = replicas(info, least);
            if replicas >= usize::from(wanted) {
                return Ok(());
            }
            refuse(
                StoreErrorKind::Unavailable,
                format!(
                    "has {replicas} replicas in step, and store.durability asks for {wanted}; \
                     nothing is sent that is not on all of them"
                ),
            )
        }
    }
}

/// How many replicas are connected and have said that they have all up to `least`:
/// `slave0:ip=...,state=online,offset=...`.
fn replicas(info: &InfoDict, least: u64) -> usize {
    let connected: usize = info.get("connected_slaves").unwrap_or(0);
    let is_in_step = |number: &usize| {
        let replica: String = info.get(&format!("slave{number}")).unwrap_or_default();
        let offset = replica.split(',').find_map(|field| field.strip_prefix("offset="));
        replica.split(',').any(|field| field == "state=online")
            && offset.and_then(|offset| offset.parse().ok()).is_some_and(|has: u64| has >= least)
    };
    (0..connected).filter(is_in_step).count()
}

/// Whether an error says that the server can be read from, and takes no writes for now.
pub(super) fn takes_no_writes(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "NOREPLICAS" | "MISCONF"))
}

/// Whether an error says that the server is no primary any more.
pub(super) fn is_read_only(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nloading:0\r\n\
                        cluster_enabled:0\r\nmaxmemory_policy:noeviction\r\nconnected_slaves:2\r\n\
                        slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n\
                        slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\r\n";

    fn verdict(change: (&str, &str), options: &RedisOptions) -> Result<(), String> {
        let info = InfoDict::new(&GOOD.replace(change.0, change.1));
        judge(&info, false, 0, options).map_err(|unfit| unfit.why)
    }

    #[test]
    fn a_sound_server_is_accepted() {
        let usual = RedisOptions::default();
        assert_eq!(verdict(("", ""), &usual), Ok(()));
        assert_eq!(verdict(("7.0.15", "255.255.255"), &usual), Ok(()));
        let evicting = RedisOptions { allow_eviction: true, ..usual.clone() };
        assert_eq!(verdict(("noeviction", "volatile-ttl"), &evicting), Ok(()));
        let one = RedisOptions { durability: Durability::Replicated(1), ..usual.clone() };
        assert_eq!(verdict(("", ""), &one), Ok(()));
        let forced = RedisOptions { durability: Durability::Fsync, ..usual };
        assert_eq!(judge(&InfoDict::new(GOOD), true, 0, &forced), Ok(()));
    }

    #[test]
    fn replicas_that_were_behind_have_to_catch_up() {
        let options =
            RedisOptions { durability: Durability::Replicated(1), ..RedisOptions::default() };
        let info = InfoDict::new(&GOOD.replace("offset=1,", "offset=70,"));
        assert_eq!(judge(&info, false, 70, &options), Ok(()));
        assert!(judge(&info, false, 71, &options).unwrap_err().why.contains("0 replicas"));
    }

    #[test]
    fn a_write_is_forced_when_nothing_postpones_it() {
        let settings = |fsync: &str, on_rewrite: &str| {
            let pairs = WRITING.into_iter().zip([fsync, on_rewrite]);
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let appends = InfoDict::new("aof_enabled:1\r\n");
        assert!(forces_writes(&appends, &settings("always", "no")));
        assert!(!forces_writes(&appends, &settings("always", "yes")));
        assert!(!forces_writes(&appends, &settings("everysec", "no")));
        assert!(!forces_writes(&appends, &HashMap::new()), "it did not say");
        assert!(!forces_writes(&InfoDict::new(""), &settings("always", "no")));
    }

    #[test]
    fn a_promoted_server_names_the_history_that_it_went_on_with() {
        let info = |end: i64| {
            InfoDict::new(&format!("master_replid2:abc\r\nsecond_repl_offset:{end}\r\n"))
        };
        assert_eq!(promoted(&info(7)), Some("abc".to_owned()));
        assert_eq!(promoted(&info(-1)), None);
        assert_eq!(promoted(&InfoDict::new("")), None);
    }

    #[test]
    fn every_refusal_says_what_to_change() {
        for (change, words) in [
            (("7.0.15", "6.2.14"), "needs Redis 7"),
            (("redis_version:7.0.15", ""), "needs Redis 7"),
            (("loading:0", "loading:1"), "still loading"),
            (("role:master", "role:slave\r\nmaster_host:a\r\nmaster_port:1"), "primary, a:1"),
            (("cluster_enabled:0", "cluster_enabled:1"), "not supported yet"),
            (("noeviction", "allkeys-lru"), "store.allow_eviction"),
            (("maxmemory_policy:noeviction", ""), "maxmemory-policy noeviction"),
        ] {
            let why = verdict(change, &RedisOptions::default()).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        for (durability, words) in [
            (Durability::Fsync, "appendfsync always"),
            (Durability::Replicated(2), "has 1 replicas in step"),
        ] {
            let options = RedisOptions { durability, ..RedisOptions::default() };
            let why = verdict(("", ""), &options).unwrap_err();
            assert!(why.contains(words) && why.contains("store.durability"), "{why}");
        }
    }
}
