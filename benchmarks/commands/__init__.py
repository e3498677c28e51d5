"""How closely commands are met: trains cells (algo, env, seed), asks for returns over the range, and reports."""
