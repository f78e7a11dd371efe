"""The OpenAPI document: the tasks' own schemas; and what is generated from it meets no failure of the server."""

import hypothesis
import jsonschema
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

import metatx
from metatx.serving.arrow import ARROW


def test_the_document_has_a_path_and_a_schema_for_each_task(serve):
    found = serve().get("/openapi.json").json()
    assert found["info"]["version"] == metatx.__version__
    row = found["components"]["schemas"]["input.kinds"]
    assert row["properties"]["a"]["type"] == ["number", "null"] and row["required"] == ["a", "c", "b"]
    for name, kinds in (
        ("kinds", ["application/json", ARROW]),
        ("light", ["application/json", "multipart/form-data", ARROW, "application/x-npy"]),
        ("ahead", ["application/json", ARROW, "application/x-npy"]),
    ):
        for action in ("predict", "embed"):
            operation = found["paths"][f"/v1/tasks/{name}/{action}"]["post"]
            assert list(operation["requestBody"]["content"]) == kinds and "parameters" not in operation
            assert {"200", "404", "413", "422", "429", "503"} <= set(operation["responses"])
    for name, schema in found["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        for example in schema.get("examples", []):
            jsonschema.validate(example, schema)
        assert not name.startswith("input.") or schema["examples"]


@pytest.mark.parametrize("folder", ["trained", "houses"])
def test_generated_requests_meet_no_failure(serve, request, folder):
    client = serve(request.getfixturevalue(folder))
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    statuses = set()

    def check(operation):
        @hypothesis.settings(
            max_examples=8, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.seed(0)
        @hypothesis.given(case=operation.as_strategy())
        def generated(case):
            response = case.call(session=None, app=client.app)
            statuses.add(response.status_code)
            case.validate_response(response, checks=[status_code_conformance, response_schema_conformance])
            assert response.status_code < 500, response.text

        generated()

    for found in schema.get_all_operations():
        check(found.ok())
    assert {404, 422} <= statuses and (200 in statuses or folder == "houses")
