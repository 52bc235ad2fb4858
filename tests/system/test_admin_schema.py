"""The admin API of a real gate against its own description: schemathesis makes requests from it, good and bad ones.

No answer is a fault of the gate's, none is good without a credential, each is as the description says. Every operation has its
examples: a few in CI, many with SLMGATE_LONG=1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import AcceptedNegativeData, FailureGroup

from slmgate.control.admin.routes import ROUTES
from slmgate.control.operators import Permission
from tests.tools.gate import Gate, model
from tests.tools.load import LONG
from tests.tools.upstream import MockUpstream

EXAMPLES = 150 if LONG else 4
"""For each operation and each kind of request."""
CHECKED = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "negative_data_rejection"),
)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    upstream = MockUpstream()
    made = Gate(tmp_path_factory.mktemp("schema"), {"tiny": model(upstream.url)}, workers=1)
    yield made
    made.stop()
    upstream.close()


@pytest.fixture(scope="module")
def schema(gate: Gate) -> Any:
    load_all_checks()
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{gate.admin}/api/openapi.json")


@pytest.fixture(scope="module")
def asked(gate: Gate) -> Iterator[requests.Session]:
    made = requests.Session()
    made.trust_env = False
    yield made
    made.close()


OPERATIONS = [row for row in ROUTES if not row.page]
# what takes nothing and asks for nothing cannot be asked wrongly
CASES = [(row, mode) for row in OPERATIONS for mode in GenerationMode if row.permission or mode is GenerationMode.POSITIVE]


def test_every_row_is_described(schema: Any) -> None:
    described = {(found.ok().method.upper(), found.ok().path) for found in schema.get_all_operations()}
    assert described == {(row.method, row.path.replace(":str", "")) for row in OPERATIONS}


def is_text_again(failure: Exception, operation: Any) -> bool:
    """Whether all that is wrong is another type in place of a text in a query, where everything is text."""
    wrong = re.findall(r"- query: violates `(\w+)` at /properties/(\w+)", str(failure))
    texts = {each["name"] for each in operation.definition.raw.get("parameters", ()) if "'string'" in repr(each["schema"])}
    return (
        isinstance(failure, AcceptedNegativeData)
        and bool(wrong)
        and all(kind == "type" and name in texts for kind, name in wrong)
    )


@pytest.mark.parametrize(("row", "mode"), CASES, ids=lambda each: each.value if isinstance(each, GenerationMode) else each.path)
def test_answers_are_as_described(gate: Gate, schema: Any, asked: requests.Session, row: Any, mode: GenerationMode) -> None:
    operation = schema[row.path.replace(":str", "")][row.method]
    secret = (gate.state / "admin.key").read_text().strip()
    checks = CHECKS.get_by_names(list(CHECKED))
    cases = operation.as_strategy(generation_mode=mode)

    @seed(6)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def run(case: Any) -> None:
        try:
            case.call_and_validate(session=asked, headers={"authorization": f"Bearer {secret}"}, checks=checks, timeout=30)
        except FailureGroup as found:
            if not all(is_text_again(each, operation) for each in found.exceptions):
                raise
        bare = case.call(session=asked, timeout=30)
        if row.permission is not Permission.PUBLIC:
            assert 400 <= bare.status_code < 500

    run()
