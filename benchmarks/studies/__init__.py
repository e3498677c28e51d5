"""Single questions, each with a script of its own."""
