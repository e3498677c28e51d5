"""``rl_zoo3 train -i model.zip``: go on exactly where the run stopped, if its replay buffer is there.

RL Zoo loads the buffer from ``replay_buffer.pkl`` only, knows no random generators, and counts the env steps from zero.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sb3_gogepo.common.checkpoints import BUFFER_FILE, RUN_STATE_FILE
from sb3_gogepo.common.picklefree_algorithm import PicklefreeAlgorithm

#: how SB3's CheckpointCallback names a model
CHECKPOINT = re.compile(r"(.+)_(\d+)_steps\.zip")


class ContinuedModel:
    """A model whose ``learn`` makes the rest of its run, or, if that was finished, as many env steps again."""

    def __init__(self, model: PicklefreeAlgorithm) -> None:
        self.model = model

    def learn(self, total_timesteps: int, **kwargs: Any) -> Any:
        """``total_timesteps`` is the total of the run, as in the command that began it."""
        done = self.model.num_timesteps
        rest = total_timesteps - done if done < total_timesteps else total_timesteps
        print(f"Going on after {done} env steps, for {rest} more")
        return self.model.learn(rest, reset_num_timesteps=False, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def load_all(original: Callable[..., Any]) -> Callable[..., Any]:
    """``ExperimentManager._load_pretrained_agent``, which also finds what else belongs to a model of ours."""

    @functools.wraps(original)
    def load_pretrained_agent(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = original(self, *args, **kwargs)
        if isinstance(model, PicklefreeAlgorithm):
            path = Path(self.trained_agent)
            checkpoint = CHECKPOINT.fullmatch(path.name)
            if checkpoint and not path.with_name(BUFFER_FILE).exists():
                buffer = path.with_name(f"{checkpoint[1]}_replay_buffer_{checkpoint[2]}_steps.pkl")
                if buffer.exists():
                    print("Loading replay buffer")
                    model.load_replay_buffer(buffer)
            if path.with_name(RUN_STATE_FILE).exists():
                model.load_run_state(path.with_name(RUN_STATE_FILE))
        return model

    return load_pretrained_agent


def learn_on(original: Callable[..., None]) -> Callable[..., None]:
    """``ExperimentManager.learn``, which goes on with a run of ours whose replay buffer was loaded."""

    @functools.wraps(original)
    def learn(self: Any, model: Any) -> None:
        is_continued = self.continue_training and isinstance(model, PicklefreeAlgorithm) and len(model.replay_buffer) > 0
        original(self, ContinuedModel(model) if is_continued else model)

    return learn
