"""From a checked request to its result: preprocessing, model versions, admission, cache."""
