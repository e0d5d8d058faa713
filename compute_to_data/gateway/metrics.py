"""What ``/metrics`` tells Prometheus. No names of users, tasks or paths."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector
from starlette.types import Scope

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The figures of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "c2d_gateway_requests", "Answered requests.", ["route", "method", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "c2d_gateway_request_seconds", "Time to the end of an answer.", ["route"], registry=self._registry
        )
        self.sign_ins = Counter(
            "c2d_gateway_sign_ins", "Attempts to sign in, by their result.", ["result"], registry=self._registry
        )
        self.tokens = Gauge("c2d_gateway_tokens", "Tokens that are good.", registry=self._registry)
        self.submitted = Counter(
            "c2d_gateway_submitted_tasks", "Tasks submitted through this gateway.", registry=self._registry
        )
        self.followers = Gauge("c2d_gateway_log_followers", "Clients that follow a log.", registry=self._registry)

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answer under its endpoint, never under the path, which strangers choose."""
        endpoint = scope.get("endpoint")
        route = f"{endpoint.__module__.rpartition('.')[2]}.{endpoint.__name__}" if endpoint else "none"
        self._answers.labels(route, scope["method"] if endpoint else "any", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def include(self, figures: Collector) -> None:
        """Tell these figures as well."""
        self._registry.register(figures)

    def text(self) -> bytes:
        """All figures in Prometheus's text format."""
        return generate_latest(self._registry)
