"""/metrics: what the server counts, in Prometheus' text format.

Requests are counted as they end; jobs, workers and the disk are looked up when somebody scrapes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from journeyman.workspace import Workspace

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Up to what the SDKs wait for a long answer."""

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

log = logging.getLogger("journeyman.api")


class Metrics:
    """The numbers of one server."""

    def __init__(self, workspace: Workspace) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "journeyman_http_requests", "Requests that have ended.", ("method", "route", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "journeyman_http_request_seconds", "From a request's first byte to its answer's last.", ("route",),
            buckets=BUCKETS_S, registry=self._registry,
        )  # fmt: skip
        self.under_way = Gauge(
            "journeyman_http_requests_under_way", "Requests being answered.", registry=self._registry
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(_Engines(workspace))
        self._registry.register(_Standing(workspace))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request has ended. `route` is its pattern, never its path: ids would make numbers without end."""
        self._requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All numbers as Prometheus reads them."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """What the engines are at and have done, a base each."""

    GAUGES: ClassVar = {"running": "Requests in the passes of the model.", "waiting": "Requests that wait for a row."}
    COUNTERS: ClassVar = {
        "requests": "Requests taken in.",
        "refused": "Requests refused because the queue was full.",
        "prompt_tokens": "Tokens of prompts that were computed.",
        "cached_tokens": "Tokens of prompts that were in the cache.",
        "generated_tokens": "Tokens generated.",
        "passes": "Passes of the model.",
        "preempted": "Answers that had to make room, and began again.",
    }

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def collect(self) -> Iterator[Metric]:
        loads = {folder.rpartition("/")[2]: load for folder, load in self._workspace.loads().items()}
        for kind, numbers in ((GaugeMetricFamily, self.GAUGES), (CounterMetricFamily, self.COUNTERS)):
            for name, told in numbers.items():
                family = kind(f"journeyman_engine_{name}", told, labels=("base",))
                for base, load in loads.items():
                    family.add_metric((base,), getattr(load, name))
                yield family
        processes = GaugeMetricFamily("journeyman_answering_processes", "Processes that answer with small models.", labels=("state",))
        for state, count in self._workspace.answering_processes().items():
            processes.add_metric((state,), count)
        yield processes

    def describe(self) -> Iterator[Metric]:
        """Nothing, as below."""
        return iter(())


class _Standing(Collector):
    """The numbers that all servers of one database share."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("journeyman_database_up", "Whether the database answers.")
        try:
            standing = self._workspace.standing()
        except Exception:  # the other numbers are worth having all the more
            log.exception("the database can't be reached")
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        jobs = GaugeMetricFamily("journeyman_jobs", "Jobs by status.", labels=("status",))
        for status, count in standing.jobs.items():
            jobs.add_metric((str(status),), count)
        yield jobs
        workers = GaugeMetricFamily("journeyman_workers", "Workers that live.", labels=("state",))
        busy = sum(worker.job is not None for worker in standing.workers)
        workers.add_metric(("busy",), busy)
        workers.add_metric(("idle",), len(standing.workers) - busy)
        yield workers
        yield _gauge("journeyman_jobs_waiting", "Jobs that any worker could take up.", standing.waiting)
        yield _gauge(
            "journeyman_jobs_oldest_waiting_seconds", "The age of the oldest of them.", standing.oldest_waiting_s
        )
        yield _gauge("journeyman_disk_free_bytes", "Room left below the home.", standing.free_disk_bytes)

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering asks nothing of the database."""
        return iter(())


def _gauge(name: str, help: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, help)
    family.add_metric((), value)
    return family
