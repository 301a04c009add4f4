"""What the server counts, in the text form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from folio.infer.worker import Worker
from folio.serve.models import Catalog

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
ENGINE = {
    "pages": "pages of keys and values that there are",
    "pages_free": "pages that hold nothing",
    "pages_used": "pages that requests are using",
    "pages_remembered": "pages of prompts kept in case they come again",
    "running": "samples being written",
    "waiting": "samples waiting for a place",
    "preemptions": "samples put back for want of pages, since the start",
}


class Metrics:
    """One server's numbers; nothing in them tells what anybody wrote."""

    def __init__(self, catalog: Catalog, worker: Worker):
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter(
            "folio_requests", "requests by route and status", ["route", "status"], **own
        )
        self.seconds = Histogram(
            "folio_request_seconds",
            "from the head of a request to the last byte of its answer",
            ["route"],
            buckets=SECONDS,
            **own,
        )
        self.first_token = Histogram(
            "folio_first_token_seconds",
            "from admission to the first token",
            buckets=SECONDS,
            **own,
        )
        self.tokens = Counter(
            "folio_tokens", "tokens read (prompt) and written", ["model", "kind"], **own
        )
        self.registry.register(_Engines(catalog, worker))

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One request is done."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def count_tokens(self, model: str, usage: Mapping[str, Any]) -> None:
        """What one request read and wrote."""
        self.tokens.labels(model, "prompt").inc(usage["prompt_tokens"])
        self.tokens.labels(model, "completion").inc(usage["completion_tokens"])

    def text(self) -> bytes:
        """All of it as /metrics shows it."""
        return generate_latest(self.registry)


class _Engines(Collector):
    """How full the engines are, asked when somebody looks."""

    def __init__(self, catalog: Catalog, worker: Worker):
        self.catalog, self.worker = catalog, worker

    def collect(self) -> Iterator[GaugeMetricFamily]:
        status = {served.name: served.engine.status() for served in self.catalog}
        for key, text in ENGINE.items():
            gauge = GaugeMetricFamily(f"folio_engine_{key}", text, labels=["model"])
            for name, numbers in status.items():
                gauge.add_metric([name], numbers[key])
            yield gauge
        alive = GaugeMetricFamily("folio_engine_alive", "1 while it works")
        alive.add_metric([], int(self.worker.alive))
        faults = GaugeMetricFamily("folio_engine_faults", "steps that went wrong")
        faults.add_metric([], self.worker.faults)
        yield from (alive, faults)
