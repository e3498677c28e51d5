"""Running episodes: in the env, or in workers."""
