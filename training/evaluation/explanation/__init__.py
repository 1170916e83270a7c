"""How good counterfactual explanations are."""
