"""What the generator makes at several stages of the training, and a callback that records it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_gogepo.checks import check_number
from sb3_gogepo.saving import archive
from sb3_gogepo.saving.untrusted import InvalidFileError


class Stage(NamedTuple):
    """A stage of the training: the policies that the generator made at that time.

    :param timesteps: env steps of the training up to then.
    :param commands: (n_commands,) commands, in return units.
    :param policy_weights: (n_commands, n_weights) weights generated for them, without noise.
    """

    timesteps: int
    commands: np.ndarray
    policy_weights: th.Tensor


class StageCallback(BaseCallback):
    """Records policies for evenly spaced commands, from the worst to the best return so far, every ``every`` env steps.

    A stage is recorded when an iteration begins, so it may come up to an iteration late. The first one is recorded before
    any training, for a command of 0 alone, and the last one at the end.

    :param every: number of env steps between two stages.
    :param n_commands: number of policies in a stage.
    :param path: file to which all stages so far are written, for :func:`load_stages`; None: stages are only kept in
        :attr:`stages`.
    :raises ValueError: if ``every`` or ``n_commands`` is not a positive number.
    """

    def __init__(self, every: int, n_commands: int = 21, path: str | Path | None = None) -> None:
        check_number("every", every, minimum=1)
        check_number("n_commands", n_commands, minimum=2, integer=True)
        super().__init__()
        self.every, self.n_commands, self.path = every, n_commands, path
        self.stages: list[Stage] = []

    def _on_training_start(self) -> None:
        if not hasattr(self.model, "generate_policy"):
            raise ValueError(f"StageCallback needs an algorithm that generates policies, got {type(self.model).__name__}")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if not self.stages or self.num_timesteps >= self.stages[-1].timesteps + self.every:
            self.record()

    def _on_training_end(self) -> None:
        if not self.stages or self.model.num_timesteps > self.stages[-1].timesteps:
            self.record()

    def record(self) -> None:
        """Add the present stage, and write the file if there is a path."""
        model: Any = self.model
        if model.best_return is None:
            commands = np.zeros(1)
        else:
            commands = np.linspace(model.worst_return, model.best_return, self.n_commands)
        self.stages.append(Stage(model.num_timesteps, commands, model.policy.generate_weights(commands).cpu()))
        if self.path is not None:
            save_stages(self.path, self.stages)


def save_stages(path: str | Path, stages: list[Stage]) -> None:
    """Write stages to a file of tensors, atomically. ``.pt`` is added to a path without suffix."""
    content = {
        "timesteps": [stage.timesteps for stage in stages],
        "commands": [th.from_numpy(stage.commands) for stage in stages],
        "policy_weights": [stage.policy_weights for stage in stages],
    }
    archive.write_tensors(path, content, suffix=".pt")


def load_stages(path: str | Path) -> list[Stage]:
    """Read what :func:`save_stages` wrote.

    :raises InvalidFileError: if the file is damaged or holds something else.
    """
    content = archive.read_tensors(path, suffix=".pt")
    if not (isinstance(content, dict) and {"timesteps", "commands", "policy_weights"} <= content.keys()):
        raise InvalidFileError(f"'{path}' holds no stages")
    try:
        parts = zip(content["timesteps"], content["commands"], content["policy_weights"], strict=True)
        return [Stage(int(timesteps), commands.numpy(), weights) for timesteps, commands, weights in parts]
    except Exception as error:  # whatever wrong values cause
        raise InvalidFileError(f"'{path}' holds no stages: {error}") from error
