"""Which nuisance changes move the decisions."""
