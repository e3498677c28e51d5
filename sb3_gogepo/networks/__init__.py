"""Generator, evaluator, and the policies whose weights are generated."""
