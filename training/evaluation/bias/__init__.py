"""Which changes that should not matter move the decisions."""
