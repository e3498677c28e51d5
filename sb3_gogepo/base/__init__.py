"""The loop of `learn` and what acts on commands: what the algorithms are built on."""
