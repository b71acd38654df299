//! What is counted, under names after OpenTelemetry and Prometheus habits.

use std::sync::Arc;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, counter,
    gauge, histogram,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::buckets::Histograms;
use crate::{Gate, Outcome, engine::record::Reason};

/// A place for the metrics of one gate. Several gates of a process do not mix.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

/// What has been counted, as a page.
#[derive(Clone)]
pub(crate) struct MetricsPage {
    counted: PrometheusHandle,
    histograms: Arc<Histograms>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        Self { recorder, histograms: Arc::default() }
    }

    /// Makes metrics that are registered meanwhile belong here.
    pub(crate) fn collect<T>(&self, register: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self, register)
    }

    pub(crate) fn page(&self) -> MetricsPage {
        MetricsPage { counted: self.recorder.handle(), histograms: Arc::clone(&self.histograms) }
    }
}

impl MetricsPage {
    /// In the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        let mut page = self.counted.render();
        self.histograms.render(&mut page);
        page
    }
}

/// All is the exporter's but the histograms.
impl Recorder for Metrics {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.recorder.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histograms.register(key))
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
    unknown: [Counter; Reason::ALL.len()],
}

impl GateMetrics {
    pub(crate) fn new() -> Self {
        Self {
            pending: gauge!("oncegate_pending"),
            buffered: gauge!("oncegate_buffered_bytes"),
            cache_bytes: gauge!("oncegate_cache_bytes"),
            amnesia: counter!("oncegate_amnesia_total"),
            unknown: Reason::ALL
                .map(|reason| counter!("oncegate_unknown_total", "reason" => reason.as_str())),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is read by people")]
    pub(crate) fn read(&self, gate: &Gate) {
        self.pending.set(gate.pending() as f64);
        self.buffered.set(gate.buffered() as f64);
        self.cache_bytes.set(gate.cached() as f64);
        self.amnesia.absolute(gate.store().losses());
        for (counter, reason) in self.unknown.iter().zip(Reason::ALL) {
            counter.absolute(gate.unknown(reason));
        }
    }
}
