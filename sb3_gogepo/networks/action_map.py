"""ActionMap: from a policy's last layer to the env's actions."""

from __future__ import annotations

import numpy as np
import torch as th
from gymnasium import spaces


class ActionMap:
    """Last-layer outputs -> actions of the env: tanh, scaled to a Box's bounds, or argmax for Discrete.

    :class:`~sb3_gogepo.GoGePo` takes the tanh output, in [-1, 1], or the logits as probing actions.
    """

    def __init__(self, action_space: spaces.Box | spaces.Discrete) -> None:
        self.action_space = action_space
        self.is_discrete = isinstance(action_space, spaces.Discrete)
        self.n_outputs = int(action_space.n) if isinstance(action_space, spaces.Discrete) else int(np.prod(action_space.shape))
        if isinstance(action_space, spaces.Box):
            # float64: high - low of a float32 space must not overflow
            low, high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
            self.center, self.half_range = (high + low) / 2, (high - low) / 2

    def squash(self, outputs: th.Tensor) -> th.Tensor:
        """What the evaluator sees of the last-layer outputs: tanh (Box) or the logits themselves (Discrete)."""
        return outputs if self.is_discrete else th.tanh(outputs)

    def squash_to_env_units(self, outputs: th.Tensor) -> th.Tensor:
        """:meth:`squash`, with a Box's actions in the env's own units."""
        if self.is_discrete:
            return outputs
        center, half_range = (
            th.as_tensor(part.ravel(), dtype=outputs.dtype, device=outputs.device) for part in (self.center, self.half_range)
        )
        return center + half_range * th.tanh(outputs)

    def choose(self, outputs: th.Tensor) -> th.Tensor:
        """What SB3's ``BasePolicy._predict`` returns: actions in [-1, 1] (Box), or the chosen ones (Discrete)."""
        if isinstance(self.action_space, spaces.Discrete):
            return outputs.argmax(dim=-1) + int(self.action_space.start)
        return th.tanh(outputs)

    def to_env(self, outputs: np.ndarray) -> np.ndarray:
        """(n, n_outputs) last-layer outputs -> (n, \\*action_shape) actions within the bounds."""
        return self.unscale(outputs.argmax(axis=1)[:, None] if self.is_discrete else np.tanh(outputs, dtype=np.float64))

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """(n, n_outputs) in [-1, 1] (Box) or (n, 1) choices from 0 (Discrete) -> (n, \\*action_shape) within the bounds."""
        if isinstance(self.action_space, spaces.Discrete):
            return scaled[:, 0].astype(np.int64) + int(self.action_space.start)
        unit = scaled.astype(np.float64).reshape(len(scaled), *self.action_space.shape)
        actions = (self.center + self.half_range * unit).astype(self.action_space.dtype)
        return np.minimum(np.maximum(actions, self.action_space.low), self.action_space.high)

    def scale(self, actions: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`unscale`, in float32; 0 where a Box has no range."""
        if isinstance(self.action_space, spaces.Discrete):
            return (actions.reshape(-1, 1) - int(self.action_space.start)).astype(np.float32)
        half_range = np.where(self.half_range > 0, self.half_range, 1.0)
        return ((actions - self.center) / half_range).reshape(len(actions), -1).astype(np.float32)
