"""openapi.yaml is what the code says."""

from service.openapi import FILE, document, render


def test_the_file_is_the_code() -> None:
    assert FILE.read_text() == render(), "run `python -m service.openapi`"


def test_every_reference_leads_somewhere() -> None:
    described = document()
    text = render()
    names = {part.split("'")[0].strip() for part in text.split("#/components/schemas/")[1:]}
    names = {name.split("\n")[0].strip("'\" ") for name in names}
    assert names <= set(described["components"]["schemas"])


def test_errors_are_declared_where_they_happen() -> None:
    paths = document()["paths"]
    for path in ("/v1/predict", "/v1/generate", "/v1/explain"):
        assert {"200", "400", "413", "415", "422", "503", "504"} <= set(paths[path]["post"]["responses"])
