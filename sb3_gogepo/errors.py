"""What this package raises and warns of, besides ValueError for wrong arguments."""

from __future__ import annotations


class NonFiniteError(ValueError):
    """NaN or infinity in an observation, an action, a reward, generated weights or a loss; with ``on_non_finite="raise"``."""


class EnvFailedError(RuntimeError):
    """The env, or the process that runs it, keeps failing."""


class DiscardedEpisodeWarning(UserWarning):
    """An episode was discarded, or a gradient step skipped."""


class FilmError(RuntimeError):
    """An env cannot be filmed: it cannot be made anew, or nothing here draws it."""
