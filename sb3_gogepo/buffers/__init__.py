"""What is kept of finished episodes."""
