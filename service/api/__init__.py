"""HTTP: routes, parsing, the pipeline of a request, and what openapi.yaml says."""
