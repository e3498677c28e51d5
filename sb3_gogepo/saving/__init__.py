"""Files: complete or not at all, without pickles, and safe to load."""
