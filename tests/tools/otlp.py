"""A collector for tests: it reads what is sent to it over OTLP/HTTP with the official protobuf classes.

It takes what is well formed and nothing else, as a real one does: a field that those classes do not know is a failure.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def attributes(message: Any) -> dict[str, Any]:
    """The attributes of a span, a log record or a resource; none may stand there twice."""
    found: dict[str, Any] = {}
    for one in message.attributes:
        assert one.key not in found, f"{one.key} twice"
        found[one.key] = getattr(one.value, one.value.WhichOneof("value"))
    return found


def _known(message: Any) -> Any:
    """The message itself, which has no field that the official classes do not know."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    assert copy.ByteSize() == message.ByteSize(), "fields that nobody knows"
    return message


def read_spans(request: bytes) -> tuple[dict[str, Any], list[Span]]:
    """The resource's attributes and the spans of a request."""
    (of_service,) = _known(ExportTraceServiceRequest.FromString(request)).resource_spans
    (scope,) = of_service.scope_spans
    assert scope.scope.name == "slmgate"
    return attributes(of_service.resource), list(scope.spans)


def read_logs(request: bytes) -> tuple[dict[str, Any], list[LogRecord]]:
    """The resource's attributes and the log records of a request."""
    (of_service,) = _known(ExportLogsServiceRequest.FromString(request)).resource_logs
    (scope,) = of_service.scope_logs
    assert scope.scope.name == "slmgate"
    return attributes(of_service.resource), list(scope.log_records)


def by_name(spans: list[Span]) -> dict[str, Span]:
    """Spans by their names, each of which comes once."""
    found = {span.name: span for span in spans}
    assert len(found) == len(spans)
    return found


class Collector:
    """Listens on a free port of this machine. While `status` is not 200, it takes nothing and answers that; `hold` is set while
    it answers at all: cleared, it takes connections and says nothing.
    """

    def __init__(self, port: int = 0) -> None:
        self.status = 200
        self.hold = threading.Event()
        self.hold.set()
        self.requests = 0
        self.headers: list[Mapping[str, str]] = []
        self.spans: list[Span] = []
        self.logs: list[LogRecord] = []
        self.resource: dict[str, Any] = {}
        self.failures: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        self.requests += 1
        self.headers.append(dict(request.headers))
        self.hold.wait()
        status = self.status
        if status == 200:
            try:
                assert request.headers["content-type"] == "application/x-protobuf"
                if request.path == "/v1/traces":
                    self.resource, spans = read_spans(body)
                    self.spans += spans
                elif request.path == "/v1/logs":
                    self.resource, logs = read_logs(body)
                    self.logs += logs
                else:
                    status = 404
            except Exception as error:  # noqa: BLE001  # whatever is wrong with it is told by the test
                self.failures.append(repr(error))
                status = 400
        request.send_response(status)
        request.send_header("content-length", "0")
        request.end_headers()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
