"""Traces and metrics by OpenTelemetry. The only importer of it.

- Off unless the standard variables name an OTLP endpoint (`settings.otlp`); then nothing is built.
- Measured where the process meets the world: calls, statements, requests to services, log events.
- A span is made only where the trace is sampled; what happens under a call that is not makes none.
- Attributes are names from the code (a method, a query, a connector's key, a reason), never values
  of a request. Services are not told of our traces.
"""

import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcMetricExporter,
)
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpMetricExporter,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flero_vault import __version__
from flero_vault.core.log import Log
from flero_vault.core.model import Account, ServiceRevocation
from flero_vault.core.ports import AuthorizationServer, Client, Consent, Failure, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.settings import Otlp

_Answer = TypeVar("_Answer")
_SCOPE = "flero_vault"
_LAST_WORDS_MS = 3_000
"""How long a server that stops waits for a collector."""
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_TRACE_HEADERS = frozenset(_TRACE_CONTEXT.fields)
_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


class Observed:
    """Something under way, with its span if there is one."""

    __slots__ = ("outcome",)

    def __init__(self) -> None:
        self.outcome = ""


class Telemetry:
    """Measures the edges. Made only when it is switched on."""

    def __init__(self, traces: TracerProvider | None, metrics: MeterProvider | None) -> None:
        self._traces = traces
        self._metrics = metrics
        self._tracer = traces.get_tracer(_SCOPE, __version__) if traces else None
        meter = (metrics or MeterProvider()).get_meter(_SCOPE, __version__)

        def seconds(name: str, description: str) -> Histogram:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=_BUCKETS_S
            )

        self._calls = seconds("rpc.server.call.duration", "Calls served, by method and reason")
        self._statements = seconds("db.client.operation.duration", "Statements, by name")
        self._services = seconds(
            "flero.vault.service.call.duration", "Requests to services, by connector and verdict"
        )
        self._events = meter.create_counter(
            "flero.vault.log.events", "{event}", "Log events, by name and level"
        )

    @contextmanager
    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[Observed]:
        """Observe a call, as part of the caller's trace if it brought one."""
        parent = None
        if self._tracer is not None:
            carrier = {k: v for k, v in metadata if k in _TRACE_HEADERS and isinstance(v, str)}
            parent = _TRACE_CONTEXT.extract(carrier)
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        with self._observed(self._calls, method, attributes, SpanKind.SERVER, parent) as observed:
            yield observed

    @contextmanager
    def statement(self, query: str) -> Iterator[Observed]:
        """Observe a statement or transaction."""
        attributes = {"db.system.name": "postgresql", "db.operation.name": query}
        with self._observed(self._statements, query, attributes, SpanKind.CLIENT) as observed:
            yield observed

    async def service_call(
        self, connector: str, operation: str, answer: Awaitable[_Answer]
    ) -> _Answer:
        """Observe a request to a service."""
        attributes = {"flero.connector": connector, "flero.operation": operation}
        with self._observed(self._services, operation, attributes, SpanKind.CLIENT) as observed:
            answered = await answer
            if isinstance(answered, Failure):
                observed.outcome = answered.verdict
            return answered

    def counted(self, log: Log) -> "CountedLog":
        """Return the log, its events counted."""
        return CountedLog(log, self)

    def observed(self, servers: AuthorizationServer) -> "ObservedServers":
        """Return the services, requests to them observed."""
        return ObservedServers(servers, self)

    def event(self, name: str, level: str) -> None:
        """Count a log event."""
        self._events.add(1, {"flero.event": name, "flero.level": level})

    @contextmanager
    def _observed(
        self,
        histogram: Histogram,
        name: str,
        attributes: dict[str, str],
        kind: SpanKind,
        parent: context.Context | None = None,
    ) -> Iterator[Observed]:
        span = self._span(name, attributes, kind, parent)
        attached = context.attach(trace.set_span_in_context(span)) if span else None
        observed = Observed()
        began = time.perf_counter()
        try:
            yield observed
        except BaseException as error:
            observed.outcome = observed.outcome or type(error).__qualname__
            raise
        finally:
            if observed.outcome:
                attributes["error.type"] = observed.outcome
            histogram.record(time.perf_counter() - began, attributes)
            if span is not None:
                if observed.outcome:
                    span.set_attribute("error.type", observed.outcome)
                    span.set_status(Status(StatusCode.ERROR))
                span.end()
            if attached is not None:
                context.detach(attached)

    def _span(
        self,
        name: str,
        attributes: Mapping[str, str],
        kind: SpanKind,
        parent: context.Context | None,
    ) -> Span | None:
        """Return a span, unless nobody would ever see it."""
        if self._tracer is None:
            return None
        if parent is None and not trace.get_current_span().is_recording():
            return None
        span = self._tracer.start_span(name, parent, kind, attributes)
        return span if span.is_recording() else None

    def close(self) -> None:
        """Send what is left. Blocks for a few seconds at most."""
        if self._traces is not None:
            self._traces.shutdown()
        if self._metrics is not None:
            self._metrics.shutdown(_LAST_WORDS_MS)


def start(otlp: Otlp, process_id: UUID) -> Telemetry:
    """Return telemetry as the standard variables ask for it."""
    own = {
        "service.name": "flero-vault",
        "service.version": __version__,
        "service.instance.id": str(process_id),
    }
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say wins; the SDK puts a word of its own
    # where they say nothing.
    asked = dict(Resource.create().attributes)
    if str(asked["service.name"]).startswith("unknown_service"):
        del asked["service.name"]
    resource = Resource(own).merge(Resource(asked))
    traces = metrics = None
    if otlp.traces:
        traces = TracerProvider(resource=resource)
        spans = GrpcSpanExporter() if otlp.traces == "grpc" else HttpSpanExporter()
        traces.add_span_processor(BatchSpanProcessor(spans))
    if otlp.metrics:
        exporter = GrpcMetricExporter() if otlp.metrics == "grpc" else HttpMetricExporter()
        metrics = MeterProvider([PeriodicExportingMetricReader(exporter)], resource)
    return Telemetry(traces, metrics)


def _trace() -> dict[str, str]:
    """Return the id of the sampled trace that this runs under, as a field of a log event."""
    span = trace.get_current_span()
    if not span.is_recording():
        return {}
    return {"trace": trace.format_trace_id(span.get_span_context().trace_id)}


class CountedLog:
    """A log whose events are counted too, so that an alert needs no log pipeline."""

    def __init__(self, log: Log, telemetry: Telemetry) -> None:
        self._log = log
        self._telemetry = telemetry

    def info(self, event: str, /, **fields: object) -> None:
        """Log what happened."""
        self._telemetry.event(event, "info")
        self._log.info(event, **fields, **_trace())

    def warning(self, event: str, /, **fields: object) -> None:
        """Log what somebody may have to look at."""
        self._telemetry.event(event, "warning")
        self._log.warning(event, **fields, **_trace())

    def exception(self, event: str, /, **fields: object) -> None:
        """Log a fault of ours, with where it happened, not with its message."""
        self._telemetry.event(event, "error")
        self._log.exception(event, **fields, **_trace())


class ObservedServers:
    """The services, each request to them observed."""

    def __init__(self, servers: AuthorizationServer, telemetry: Telemetry) -> None:
        self._servers = servers
        self._observe = telemetry.service_call

    async def authorize_url(self, client: Client, consent: Consent) -> Secret | Failure:
        """Return the URL of the consent page."""
        return await self._servers.authorize_url(client, consent)

    async def issuer(self, client: Client) -> str | Failure:
        """Return the issuer to compare `iss` with; empty if unknown."""
        return await self._servers.issuer(client)

    async def exchange(
        self, client: Client, consent: Consent, code: Secret, redirect_params: Mapping[str, str]
    ) -> TokenAnswer | Failure:
        """Exchange a code, once."""
        answer = self._servers.exchange(client, consent, code, redirect_params)
        return await self._observe(client.connector.key, "exchange", answer)

    async def refresh(
        self, client: Client, slot: str, refresh_token: Secret, deadline: float
    ) -> TokenAnswer | Failure:
        """Spend a refresh token, once, within `deadline` seconds altogether."""
        answer = self._servers.refresh(client, slot, refresh_token, deadline)
        return await self._observe(client.connector.key, "refresh", answer)

    async def identify(self, client: Client, answer: TokenAnswer) -> Account | Failure | None:
        """Return whose account a consent was for; None if the connector has no way to know."""
        account = self._servers.identify(client, answer)
        return await self._observe(client.connector.key, "identify", account)

    async def probe(self, client: Client, access_token: Secret) -> Account | Failure | None:
        """Ask the service now; None if it works, but does not say whose it is."""
        account = self._servers.probe(client, access_token)
        return await self._observe(client.connector.key, "probe", account)

    async def revoke(
        self, client: Client, access_token: Secret | None, refresh_token: Secret | None
    ) -> ServiceRevocation | Failure:
        """End the grant at the service."""
        outcome = self._servers.revoke(client, access_token, refresh_token)
        return await self._observe(client.connector.key, "revoke", outcome)
