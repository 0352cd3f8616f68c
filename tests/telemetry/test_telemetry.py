"""What a collector of OpenTelemetry hears, over both of OTLP's protocols."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.refresh.helpers import just_expired
from tests.stack import USER, Emulator, fresh_name, running_vault, serving_http

from flero_vault import settings
from flero_vault_client.v1 import credential_vault_pb2

Spans = trace_service_pb2.ExportTraceServiceRequest
Metrics = metrics_service_pb2.ExportMetricsServiceRequest
TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
NOT_SAMPLED = f"00-{TRACE}-b7ad6b7169203331-00"


def attributes(of: Any) -> dict[str, Any]:
    return {pair.key: pair.value.string_value for pair in of.attributes}


@dataclass
class Collector:
    """Whatever a process has sent."""

    spans: Spans = field(default_factory=Spans)
    metrics: Metrics = field(default_factory=Metrics)

    def named(self) -> dict[str, Any]:
        return {
            span.name: span
            for resource in self.spans.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def points(self, metric: str) -> list[dict[str, Any]]:
        return [
            attributes(point)
            for resource in self.metrics.resource_metrics
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in (*each.histogram.data_points, *each.sum.data_points)
        ]


@asynccontextmanager
async def over_http(collector: Collector) -> AsyncIterator[str]:
    async def spans(request: Request) -> Response:
        collector.spans.MergeFromString(await request.body())
        return Response(Spans().SerializeToString(), media_type="application/x-protobuf")

    async def metrics(request: Request) -> Response:
        collector.metrics.MergeFromString(await request.body())
        return Response(Metrics().SerializeToString(), media_type="application/x-protobuf")

    app = Starlette(
        routes=[
            Route("/v1/traces", spans, methods=["POST"]),
            Route("/v1/metrics", metrics, methods=["POST"]),
        ]
    )
    async with serving_http(lambda _origin: app) as origin:
        yield origin


@asynccontextmanager
async def over_grpc(collector: Collector) -> AsyncIterator[str]:
    class Receiver(
        trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer
    ):
        async def Export(self, request: Any, _context: object) -> Any:  # noqa: N802
            if isinstance(request, Spans):
                collector.spans.MergeFrom(request)
                return trace_service_pb2.ExportTraceServiceResponse()
            collector.metrics.MergeFrom(request)
            return metrics_service_pb2.ExportMetricsServiceResponse()

    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        Receiver(), server
    )
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(  # type: ignore[no-untyped-call]
        Receiver(), server
    )
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(0)


PROTOCOLS: dict[str, Callable[[Collector], Any]] = {"http/protobuf": over_http, "grpc": over_grpc}


async def use(
    database_url: str, emulator: Emulator, collected_at: str, protocol: str, trace: str | None
) -> tuple[str, ...]:
    """Connect, refresh and fail once on a vault that sends telemetry; return what is secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected_at)
        patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        patch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        async with running_vault(database_url, emulator, otlp=settings.otlp()) as vault:
            credential, old = await just_expired(vault, "google")
            metadata = (("traceparent", trace),) if trace else ()
            request = credential_vault_pb2.GetAccessTokenRequest(name=credential.name, user=USER)
            token = await vault.rpc.GetAccessToken(request, metadata=metadata)
            unknown = credential_vault_pb2.GetAccessTokenRequest(name=fresh_name(), user=USER)
            with pytest.raises(grpc.aio.AioRpcError):
                await vault.rpc.GetAccessToken(unknown, metadata=metadata)
    return old, token.access_token, credential.name, credential.account.email, USER


@pytest.mark.usefixtures("reset")
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_sampled_call_is_one_trace_down_to_the_service(
    fresh_database_url: str, emulator: Emulator, protocol: str
) -> None:
    collector = Collector()
    async with PROTOCOLS[protocol](collector) as collected_at:
        await use(fresh_database_url, emulator, collected_at, protocol, SAMPLED)

    spans = collector.named()
    call = spans["flero.vault.v1.CredentialVault/GetAccessToken"]
    refresh = spans["refresh"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert call.parent_span_id.hex() == "b7ad6b7169203331"
    assert refresh.parent_span_id == spans["lease"].parent_span_id
    assert attributes(refresh) == {"flero.connector": "google", "flero.operation": "refresh"}
    assert {"read_token", "lease", "renew"} <= spans.keys()
    resource = attributes(collector.spans.resource_spans[0].resource)
    assert resource["service.name"] == "flero-vault"
    assert resource["deployment.environment"] == "test"


@pytest.mark.usefixtures("reset")
@pytest.mark.parametrize("trace", [NOT_SAMPLED, None])
async def test_metrics_come_without_a_trace_and_no_span_is_made_for_one_that_is_not_sampled(
    fresh_database_url: str, emulator: Emulator, trace: str | None
) -> None:
    collector = Collector()
    async with over_http(collector) as collected_at:
        await use(fresh_database_url, emulator, collected_at, "http/protobuf", trace)

    assert collector.named() == {}
    method = {
        "rpc.system.name": "grpc",
        "rpc.method": "flero.vault.v1.CredentialVault/GetAccessToken",
    }
    calls = collector.points("rpc.server.call.duration")
    assert method in calls
    assert method | {"error.type": "CREDENTIAL_NOT_FOUND"} in calls
    service = {"flero.connector": "google", "flero.operation": "refresh"}
    assert service in collector.points("flero.vault.service.call.duration")
    assert {"flero.event": "refresh.done", "flero.level": "info"} in collector.points(
        "flero.vault.log.events"
    )
    assert "read_token" in {
        point["db.operation.name"] for point in collector.points("db.client.operation.duration")
    }


@pytest.mark.usefixtures("reset")
async def test_nothing_secret_and_nobody_s_name_is_sent(
    fresh_database_url: str, emulator: Emulator
) -> None:
    collector = Collector()
    async with over_http(collector) as collected_at:
        secrets = await use(fresh_database_url, emulator, collected_at, "http/protobuf", SAMPLED)

    sent = str(collector.spans) + str(collector.metrics)
    assert "read_token" in sent
    assert [secret for secret in secrets if secret in sent] == []


async def test_a_collector_that_is_away_holds_nobody_up(
    fresh_database_url: str, emulator: Emulator
) -> None:
    async with asyncio.timeout(60):
        await use(fresh_database_url, emulator, "http://127.0.0.1:9", "http/protobuf", SAMPLED)


def test_without_an_endpoint_nothing_of_it_is_even_loaded() -> None:
    program = (
        "import sys, flero_vault.cli, flero_vault.server;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert ran.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, settings.Otlp()),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, settings.Otlp()),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"},
            settings.Otlp("http/protobuf", "http/protobuf"),
        ),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c"}, settings.Otlp("http/protobuf", "")),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_TRACES_EXPORTER": "none",
            },
            settings.Otlp("", "grpc"),
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"},
            settings.Otlp(),
        ),
    ],
)
def test_the_standard_variables_decide(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: settings.Otlp
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert settings.otlp() == expected


def test_a_protocol_that_is_not_spoken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json")

    with pytest.raises(settings.SettingsInvalid) as caught:
        settings.otlp()

    assert caught.value.problems == [
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL must be http/protobuf or grpc"
    ]
