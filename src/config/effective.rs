//! The settings in force, written as a file that would give the same.

use super::{
    Config, Route, Upstream,
    raw::{
        Amnesia, Body, Conflict, DialectName, LateRetry, Raw, RawAdmin, RawFingerprint,
        RawIdempotency, RawMatcher, RawReconcile, RawRoute, RawServer, RawStore, RawTelemetry,
        RawUpstream, StoreDown, Unknown,
    },
    values::{Size, Span, Status, Text},
};
use crate::engine::policy::{
    BodyMatch, Dialect, OnConflict, OnLateRetry, OnStoreDown, OnUnknown, Policy,
};
use crate::engine::reconcile::{Matcher, Reconcile};

impl Config {
    /// The configuration in force as TOML, without secrets.
    ///
    /// # Panics
    /// Never: every value has a TOML form, which the tests check.
    #[must_use]
    pub fn effective(&self) -> String {
        let server = &self.server;
        let raw = Raw {
            server: RawServer {
                listen: Some(Text(server.listen)),
                threads: server.threads,
                http2: Some(server.http2),
                head_timeout: Some(Span(server.head_timeout)),
                body_timeout: Some(Span(server.body_timeout)),
                idle_timeout: Some(Span(server.idle_timeout)),
                max_connections: Some(server.max_connections),
                trusted_proxies: Some(server.trusted_proxies.iter().copied().map(Text).collect()),
                drain: Some(Span(server.drain)),
            },
            upstream: RawUpstream::default(),
            store: RawStore {
                url: Some(self.store.url.to_string()),
                timeout: Some(Span(self.store.timeout)),
                cache: Some(Size(self.store.cache)),
                page_cache: self.store.page_cache.map(Size),
                allow_eviction: Some(self.store.allow_eviction),
                durability: Some(self.store.durability),
                on_amnesia: Some(if self.store.refuse_after_loss {
                    Amnesia::Refuse
                } else {
                    Amnesia::Alarm
                }),
                hash_secret: None,
            },
            idempotency: RawIdempotency {
                max_buffered: Some(Size(self.max_buffered)),
                ..RawIdempotency::default()
            },
            admin: RawAdmin {
                listen: Some(Text(self.admin.listen)),
                token_file: self.admin.token_file.clone(),
            },
            telemetry: RawTelemetry {
                log: Some(self.telemetry.log.clone()),
                format: Some(self.telemetry.format),
            },
            route: self.routes.iter().map(route).collect(),
        };
        toml::to_string(&raw).expect("every value has a TOML form, which the tests check")
    }
}

fn route(route: &Route) -> RawRoute {
    RawRoute {
        path: Some(route.path.clone()),
        host: route.host.clone(),
        upstream: upstream(&route.upstream),
        idempotency: match &route.policy {
            None => RawIdempotency { enabled: Some(false), ..RawIdempotency::default() },
            Some(policy) => idempotency(policy),
        },
    }
}

fn upstream(upstream: &Upstream) -> RawUpstream {
    RawUpstream {
        url: None,
        urls: Some(upstream.urls.iter().cloned().map(Text).collect()),
        connect_timeout: Some(Span(upstream.connect_timeout)),
        response_timeout: Some(Span(upstream.response_timeout)),
        total_timeout: upstream.total_timeout.map(Span),
        pool_idle: Some(Span(upstream.pool_idle)),
    }
}

fn idempotency(policy: &Policy) -> RawIdempotency {
    let texts =
        |statuses: &[http::StatusCode]| Some(statuses.iter().copied().map(Status).collect());
    RawIdempotency {
        enabled: Some(true),
        keys: Some(policy.keys.iter().cloned().map(Text).collect()),
        methods: Some(policy.methods.iter().cloned().map(Text).collect()),
        require_key: Some(policy.require_key),
        scope: Some(policy.scope.iter().cloned().map(Text).collect()),
        principal: Some(policy.principal.iter().cloned().map(Text).collect()),
        fingerprint: Some(RawFingerprint {
            body: Some(match policy.fingerprint_body {
                BodyMatch::Exact => Body::Exact,
                BodyMatch::Json => Body::Json,
                BodyMatch::Ignore => Body::Ignore,
            }),
            ignore: Some(policy.fingerprint_ignore.clone()),
        }),
        on_conflict: Some(match policy.on_conflict {
            OnConflict::Reject => Conflict::Reject,
            OnConflict::Wait(_) => Conflict::Wait,
        }),
        conflict_wait: match policy.on_conflict {
            OnConflict::Reject => None,
            OnConflict::Wait(limit) => Some(Span(limit)),
        },
        on_unknown: Some(match policy.on_unknown {
            OnUnknown::Hold => Unknown::Hold,
            OnUnknown::Retry => Unknown::Retry,
            OnUnknown::Reconcile(_) => Unknown::Reconcile,
        }),
        reconcile: match &policy.on_unknown {
            OnUnknown::Hold | OnUnknown::Retry => None,
            OnUnknown::Reconcile(reconcile) => Some(self::reconcile(reconcile)),
        },
        release: texts(&policy.release),
        unknown: texts(&policy.unknown),
        retention: Some(Span(policy.retention)),
        tombstone: Some(Span(policy.tombstone)),
        unknown_retention: Some(Span(policy.unknown_retention)),
        lease: Some(Span(policy.lease)),
        max_request_body: Some(Size(policy.max_request_body)),
        max_response_body: Some(Size(policy.max_response_body)),
        max_buffered: None,
        on_store_down: Some(match policy.on_store_down {
            OnStoreDown::Refuse => StoreDown::Refuse,
            OnStoreDown::Pass => StoreDown::Pass,
        }),
        on_late_retry: Some(match policy.on_late_retry {
            OnLateRetry::Refuse => LateRetry::Refuse,
            OnLateRetry::Execute => LateRetry::Execute,
        }),
        dialect: Some(match policy.dialect {
            Dialect::Ietf => DialectName::Ietf,
            Dialect::Stripe => DialectName::Stripe,
        }),
        replay_status: policy.replay_status.map(Status),
        problem_base: Some(policy.problem_base.clone()),
        opt_out_header: Some(Text(policy.opt_out_header.clone())),
    }
}

fn reconcile(reconcile: &Reconcile) -> RawReconcile {
    let matcher = |matcher: &Matcher| RawMatcher {
        status: matcher.status.iter().copied().map(Status).collect(),
        json: matcher.json.clone(),
        equals: matcher.equals.clone(),
    };
    RawReconcile {
        request: Some(Text(reconcile.request.clone())),
        executed: Some(matcher(&reconcile.executed)),
        not_executed: Some(matcher(&reconcile.not_executed)),
        quiescence: Some(Span(reconcile.quiescence)),
        timeout: Some(Span(reconcile.timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Sources, *};

    #[test]
    fn what_is_printed_loads_to_the_same() {
        let text = r#"
            [idempotency]
            keys = ["header:Idempotency-Key", "body:<Id>([^<]+)</Id>", "content"]
            scope = ["host", "jwt:sub"]
            on_conflict = "wait"
            on_unknown = "reconcile"
            reconcile.request = "GET /payments?reference={json:/reference}"
            reconcile.executed = { status = [200], json = "/0/state", equals = "paid" }
            reconcile.not_executed = { status = [404] }
            fingerprint = { body = "json", ignore = ["/a"] }
            replay_status = 208
            [server]
            trusted_proxies = ["10.0.0.0/8"]
            http2 = false
            [[route]]
            path = "/hooks"
            idempotency.enabled = false
        "#;
        for text in ["", text] {
            let first = Config::load(&Sources::text(text)).unwrap().effective();
            let second = Config::load(&Sources::text(&first)).unwrap().effective();
            assert_eq!(first, second);
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = "[store]\nurl = \"redis://:geheim@h:1\"\nhash_secret = \"geheim\"";
        let printed = Config::load(&Sources::text(text)).unwrap().effective();
        assert!(!printed.contains("geheim"), "{printed}");
    }
}
