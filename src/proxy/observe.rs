//! What is counted, under names after OpenTelemetry and Prometheus habits.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::{Gate, Outcome};

/// Durations in seconds; from a replay's microseconds to a slow backend's minute.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0,
];

/// A place for the metrics of one gate. Several gates of a process do not mix.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let all = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(all, &BUCKETS)
            .expect("the list of buckets is not empty");
        Self { recorder: builder.build_recorder() }
    }

    /// Makes metrics that are registered meanwhile belong here.
    pub(crate) fn collect<T>(&self, register: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, register)
    }

    pub(crate) fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}

/// The counters of one route, registered once.
pub(crate) struct RouteMetrics {
    outcomes: [Counter; Outcome::ALL.len()],
    durations: Histogram,
}

impl RouteMetrics {
    pub(crate) fn new(route: &str) -> Self {
        let route = route.to_owned();
        let outcomes = Outcome::ALL.map(|outcome| {
            counter!("oncegate_requests_total", "route" => route.clone(), "outcome" => outcome.as_str())
        });
        let durations = histogram!("http_server_request_duration_seconds", "route" => route);
        Self { outcomes, durations }
    }

    pub(crate) fn count(&self, outcome: Outcome) {
        if let Some(index) = Outcome::ALL.iter().position(|known| *known == outcome) {
            self.outcomes[index].increment(1);
        }
    }

    pub(crate) fn durations(&self) -> &Histogram {
        &self.durations
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RouteMetrics")
    }
}

/// What a gate knows by itself, read when somebody looks.
pub(crate) struct GateMetrics {
    pending: Gauge,
    buffered: Gauge,
    cache_bytes: Gauge,
    amnesia: Counter,
}

impl GateMetrics {
    pub(crate) fn new() -> Self {
        Self {
            pending: gauge!("oncegate_pending"),
            buffered: gauge!("oncegate_buffered_bytes"),
            cache_bytes: gauge!("oncegate_cache_bytes"),
            amnesia: counter!("oncegate_amnesia_total"),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is read by people")]
    pub(crate) fn read(&self, gate: &Gate) {
        self.pending.set(gate.pending() as f64);
        self.buffered.set(gate.buffered() as f64);
        self.cache_bytes.set(gate.cached() as f64);
        self.amnesia.absolute(gate.store().losses());
    }
}
