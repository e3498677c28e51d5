"""Workers: processes, here or on other machines, that run episodes in envs of their own."""
