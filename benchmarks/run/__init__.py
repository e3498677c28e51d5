"""The comparison: trains cells (track, algorithm, env, seed) and records what they measure."""
