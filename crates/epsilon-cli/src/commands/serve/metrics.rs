//! Metrics of the server in Prometheus' text format.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of a request: route and status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ended {
    pub route: String,
    pub status: u16,
}

/// Label of a refusal: its code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Refused {
    pub code: &'static str,
}

/// The metrics; clones share their counters.
#[derive(Clone)]
pub(super) struct Metrics {
    registry: Arc<Registry>,
    pub requests: Family<Ended, Counter>,
    refused: Family<Refused, Counter>,
    pub photos: Counter,
    pub in_work: Gauge<i64>,
    pub connections: Gauge<i64>,
    /// Connections that came while as many as may be were open.
    pub crowded: Counter,
    pub seconds: Histogram,
    pub batch: Histogram,
    /// Seconds spent in the backbone and the method.
    pub computing: Counter<f64, AtomicU64>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("epsilon");
        let requests = Family::default();
        let refused = Family::default();
        let photos = Counter::default();
        let in_work = Gauge::default();
        let connections = Gauge::default();
        let crowded = Counter::default();
        let seconds = Histogram::new(exponential_buckets(0.002, 2.0, 15));
        let batch = Histogram::new(exponential_buckets(1.0, 2.0, 6));
        let computing = Counter::default();
        registry.register("requests", "Requests", requests.clone());
        registry.register(
            "refusals",
            "Refused requests and photographs",
            refused.clone(),
        );
        registry.register("photos", "Photographs that were ranked", photos.clone());
        registry.register(
            "requests_in_work",
            "Requests worked on or waiting",
            in_work.clone(),
        );
        registry.register("connections", "Open connections", connections.clone());
        registry.register(
            "connections_crowded",
            "Connections that came while as many as may be were open",
            crowded.clone(),
        );
        registry.register("request_seconds", "Seconds a request took", seconds.clone());
        registry.register(
            "batch_photos",
            "Photographs computed at once",
            batch.clone(),
        );
        registry.register(
            "computing_seconds",
            "Seconds of computing",
            computing.clone(),
        );
        Self {
            registry: Arc::new(registry),
            requests,
            refused,
            photos,
            in_work,
            connections,
            crowded,
            seconds,
            batch,
            computing,
        }
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, code: &'static str) {
        self.refused.get_or_create(&Refused { code }).inc();
    }

    /// All metrics as text.
    pub(super) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
