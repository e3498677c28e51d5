"""Goals reached by GPIM and its rivals."""
