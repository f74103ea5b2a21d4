"""What `/metrics` tells Prometheus: requests, candidates, routing, batches and queues; no text and no key."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Telemetry:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.responses = Counter(
            "satjax_responses", "Responses, by route and status.", ["route", "status"], registry=registry
        )
        self.attempts = Counter(
            "satjax_attempts",
            "Requests to backends, by candidate and how they ended; a stream that began is ok, and interrupted as well where it broke off.",
            ["candidate", "end"],
            registry=registry,
        )
        self.first_byte = Histogram(
            "satjax_first_byte_seconds",
            "Until a candidate's answer, or the first byte of its stream.",
            ["candidate"],
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "satjax_tokens",
            "Tokens that backends reported in answers that were not streamed.",
            ["candidate", "kind"],
            registry=registry,
        )
        self.routing = Histogram(
            "satjax_routing_seconds", "Until a request was routed, queue and all.", buckets=SECONDS, registry=registry
        )
        self.batch_size = Histogram(
            "satjax_batch_size", "Requests that were scored in one pass.", buckets=SIZES, registry=registry
        )
        self.batch = Histogram(
            "satjax_batch_seconds", "How long the router scored a batch.", buckets=SECONDS, registry=registry
        )
        self.running = Gauge(
            "satjax_requests_running", "Requests that are neither answered nor given up.", registry=registry
        )
        self.queue = Gauge("satjax_queue_length", "Requests that wait for the router.", registry=registry)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)
