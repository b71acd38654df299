//! Histograms of durations.
//!
//! Every request is timed at several places. The exporter's own histograms keep each
//! duration, and the time at which it came, until somebody sums them up. These count at
//! once, and each thread counts in a place of its own.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use metrics::{HistogramFn, Key};
use metrics_exporter_prometheus::{
    LabelSet,
    formatting::{write_metric_line, write_type_line},
};

/// The upper ends of buckets in seconds; from a replay's microseconds to a slow backend's
/// minute.
const BOUNDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0,
];

/// So many threads count without meeting; beyond that they share places.
const PLACES: usize = 8;

/// All histograms of one gate.
#[derive(Default)]
pub(super) struct Histograms(Mutex<Vec<(Key, Arc<Buckets>)>>);

/// One histogram.
#[derive(Default)]
pub(super) struct Buckets([Place; PLACES]);

/// What some threads have counted. Processors take lines of memory from each other two at
/// a time, and this fills two.
#[derive(Default)]
#[repr(align(128))]
struct Place {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histograms {
    /// The histogram of a name and its labels.
    pub(super) fn register(&self, key: &Key) -> Arc<Buckets> {
        let mut all = self.all();
        if let Some((_, known)) = all.iter().find(|(known, _)| known == key) {
            return Arc::clone(known);
        }
        let buckets = Arc::<Buckets>::default();
        all.push((key.clone(), Arc::clone(&buckets)));
        buckets
    }

    /// Adds them to a page in the text format of Prometheus.
    pub(super) fn render(&self, page: &mut String) {
        let mut all = self.all().clone();
        // What has one name stands together.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (index, (key, buckets)) in all.iter().enumerate() {
            let name = key.name();
            if index == 0 || all[index - 1].0.name() != name {
                write_type_line(page, name, None, None, "histogram");
            }
            let labels = LabelSet::from_key_and_global(key, &Default::default());
            let ends = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            let mut below = 0;
            for (end, count) in ends.zip(buckets.counts()) {
                below += count;
                let end = Some(("le", end));
                write_metric_line(page, name, Some("bucket"), &labels, end, below, None);
            }
            let none = None::<(_, &str)>;
            write_metric_line(page, name, Some("sum"), &labels, none, buckets.seconds(), None);
            write_metric_line(page, name, Some("count"), &labels, none, below, None);
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Key, Arc<Buckets>)>> {
        // A panic between two operations on the list leaves a list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn counts(&self) -> [u64; BOUNDS.len() + 1] {
        std::array::from_fn(|at| self.0.iter().map(|place| place.counts[at].load(Relaxed)).sum())
    }

    fn seconds(&self) -> f64 {
        let nanoseconds = self.0.iter().map(|place| place.nanoseconds.load(Relaxed));
        nanoseconds.sum::<u64>() as f64 / 1e9
    }
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        let place = &self.0[place()];
        let bucket = BOUNDS.iter().take_while(|end| seconds > **end).count();
        place.counts[bucket].fetch_add(1, Relaxed);
        place.nanoseconds.fetch_add((seconds * 1e9) as u64, Relaxed);
    }
}

/// Where this thread counts.
fn place() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static PLACE: usize = THREADS.fetch_add(1, Relaxed) % PLACES);
    PLACE.with(|place| *place)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use metrics::Label;

    use super::*;

    #[test]
    fn what_all_threads_have_counted_is_on_the_page() {
        let histograms = Histograms::default();
        let key = |route| Key::from_parts("took_seconds", vec![Label::new("route", route)]);
        let count = |key: &Key, seconds| histograms.register(key).record(seconds);
        thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| [0.000_1, 0.000_2, 99.5].map(|some| count(&key("/pay"), some)));
            }
        });
        count(&key("/a\"b"), 0.75);
        histograms.register(&Key::from_name("others_seconds"));
        let mut page = String::from("# before\n");
        histograms.render(&mut page);
        assert!(page.starts_with("# before\n# TYPE others_seconds histogram\n"), "{page}");
        assert_eq!(page.matches("# TYPE took_seconds histogram\n").count(), 1, "{page}");
        for line in [
            "others_seconds_bucket{le=\"+Inf\"} 0",
            "others_seconds_sum 0",
            "took_seconds_bucket{route=\"/a\\\"b\",le=\"0.5\"} 0",
            "took_seconds_bucket{route=\"/a\\\"b\",le=\"1\"} 1",
            "took_seconds_sum{route=\"/a\\\"b\"} 0.75",
            "took_seconds_bucket{route=\"/pay\",le=\"0.0001\"} 16",
            "took_seconds_bucket{route=\"/pay\",le=\"0.00025\"} 32",
            "took_seconds_bucket{route=\"/pay\",le=\"60\"} 32",
            "took_seconds_bucket{route=\"/pay\",le=\"+Inf\"} 48",
            "took_seconds_sum{route=\"/pay\"} 1592.0048",
            "took_seconds_count{route=\"/pay\"} 48",
        ] {
            assert!(page.lines().any(|some| some == line), "{line} is missing in\n{page}");
        }
    }
}
