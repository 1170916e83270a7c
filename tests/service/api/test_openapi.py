"""openapi.yaml is what the code says."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from service.api.openapi import FILE, document, render
from service.api.openapi_examples import EXAMPLES
from service.problems import PROBLEMS
from tests.support.gateway import Gateway


def test_the_file_is_the_code() -> None:
    assert FILE.read_text() == render(), "run `python -m service.api.openapi`"


def test_every_reference_leads_somewhere() -> None:
    described = document()
    text = render()
    names = {part.split("'")[0].strip() for part in text.split("#/components/schemas/")[1:]}
    names = {name.split("\n")[0].strip("'\" ") for name in names}
    assert names <= set(described["components"]["schemas"])


def test_errors_are_declared_where_they_happen() -> None:
    paths = document()["paths"]
    for path in ("/v1/predict", "/v1/generate", "/v1/explain"):
        assert {"200", "400", "413", "415", "422", "503", "504"} <= set(
            paths[path]["post"]["responses"]
        )


def test_it_is_valid_openapi() -> None:
    validate(document())


def test_the_running_server_serves_the_same_document(gateway: Gateway) -> None:
    assert gateway.get("/openapi.json").json == document()


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_every_example_is_what_its_schema_says(name: str) -> None:
    described = document()
    schema = {"$ref": f"#/components/schemas/{name}", "components": described["components"]}
    assert not [error.message for error in Draft202012Validator(schema).iter_errors(EXAMPLES[name])]


def test_every_error_that_clients_see_has_an_example() -> None:
    documented = {
        code
        for _, _, answer in _answers()
        for code in answer.get("content", {})
        .get("application/problem+json", {})
        .get("examples", {})
    }
    assert set(PROBLEMS) - documented == {
        "client_gone",
        "method_not_allowed",
    }  # nobody is there to see the one; the other is on no operation


def test_every_operation_says_its_errors_and_has_a_name() -> None:
    for path, operation, _ in _answers():
        assert operation["summary"] and operation["tags"] and operation["operationId"], path


def test_every_field_and_parameter_is_described() -> None:
    described = document()
    fields = {
        f"{name}.{field}": facts
        for name, schema in described["components"]["schemas"].items()
        for field, facts in schema.get("properties", {}).items()
    }
    parameters = {
        f"{operation['operationId']} {parameter['name']}": parameter
        for _, operation, _ in _answers()
        for parameter in operation.get("parameters", [])
    }
    assert len(fields) > 200 and parameters
    every = (fields | parameters).items()
    assert not [name for name, facts in every if not facts.get("description")]


def test_operations_have_names_that_a_client_can_call() -> None:
    names = [op["operationId"] for ms in document()["paths"].values() for op in ms.values()]
    assert {"predict", "generate", "explain", "list_models", "get_job"} <= set(names)
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)


def _answers() -> list[tuple[str, Any, Any]]:
    paths = document()["paths"]
    return [
        (path, operation, answer)
        for path, methods in paths.items()
        for operation in methods.values()
        for answer in operation["responses"].values()
    ]
