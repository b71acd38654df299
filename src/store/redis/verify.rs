//! What a server must be like before a gate relies on it.

use redis::InfoDict;

use super::RedisOptions;
use crate::{
    mutants::{Mutant, is_active},
    store::{StoreError, StoreErrorKind},
};

/// `SET` with both `NX` and `GET` came with this version.
const OLDEST: u64 = 7;

/// Judges the reply to `INFO`.
pub(super) fn judge(peer: &str, info: &InfoDict, options: &RedisOptions) -> Result<(), StoreError> {
    let text = |name: &str| info.get::<String>(name).unwrap_or_default();
    let refuse =
        |kind, why: String| Err(StoreError::new(kind, format!("store.url: Redis at {peer} {why}")));

    let version = text("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return refuse(
            StoreErrorKind::Misconfigured,
            format!("has version {version:?}; oncegate needs Redis 7 or Valkey, or later"),
        );
    }
    if text("loading") == "1" {
        return refuse(
            StoreErrorKind::Unavailable,
            "is still loading its data set; wait until it has finished".to_owned(),
        );
    }
    if matches!(&*text("role"), "slave" | "replica") {
        let primary = format!("{}:{}", text("master_host"), text("master_port"));
        return refuse(
            StoreErrorKind::Misconfigured,
            format!("is a replica and takes no writes; name its primary, {primary}"),
        );
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nloading:0\r\n\
                        cluster_enabled:0\r\nmaxmemory_policy:noeviction\r\n";

    fn verdict(change: (&str, &str), allow_eviction: bool) -> Result<(), String> {
        let info = InfoDict::new(&GOOD.replace(change.0, change.1));
        let options = RedisOptions { allow_eviction, ..RedisOptions::default() };
        judge("redis.example:6379", &info, &options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_sound_server_is_accepted() {
        assert_eq!(verdict(("", ""), false), Ok(()));
        assert_eq!(verdict(("7.0.15", "255.255.255"), false), Ok(()));
        assert_eq!(verdict(("noeviction", "volatile-ttl"), true), Ok(()));
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
            let why = verdict(change, false).unwrap_err();
            assert!(why.contains("redis.example:6379") && why.contains(words), "{why}");
        }
    }
}
