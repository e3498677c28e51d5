"""Replay buffers: what is kept of finished episodes."""
