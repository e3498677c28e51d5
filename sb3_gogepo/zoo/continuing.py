"""``rl_zoo3 train -i model.zip``: resume a run exactly, if its replay buffer is there.

RL Zoo by itself loads the buffer from ``replay_buffer.pkl`` only, restores no random generators, and counts env steps from
zero.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from stable_baselines3.common.callbacks import CheckpointCallback

from sb3_gogepo.saving.checkpoints import RUN_STATE_FILE
from sb3_gogepo.saving.picklefree_algorithm import PicklefreeAlgorithm

#: how SB3's CheckpointCallback names a model
CHECKPOINT = re.compile(r"(.+)_(\d+)_steps\.zip")


def load_all(original: Callable[..., Any]) -> Callable[..., Any]:
    """``ExperimentManager._load_pretrained_agent``, which also loads buffer and run state of this package's models."""

    @functools.wraps(original)
    def load_pretrained_agent(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = original(self, *args, **kwargs)
        if isinstance(model, PicklefreeAlgorithm):
            path = Path(self.trained_agent)
            checkpoint = CHECKPOINT.fullmatch(path.name)
            if checkpoint:
                buffer = path.with_name(f"{checkpoint[1]}_replay_buffer_{checkpoint[2]}_steps.pkl")
                if buffer.exists():  # replay_buffer.pkl, if there is one, is of the end of the run
                    print("Loading replay buffer")
                    model.load_replay_buffer(buffer)
            if path.with_name(RUN_STATE_FILE).exists():
                model.load_run_state(path.with_name(RUN_STATE_FILE))
        return model

    return load_pretrained_agent


def learn_on(original: Callable[..., None]) -> Callable[..., None]:
    """``ExperimentManager.learn``, which resumes a run of this package's algorithms whose replay buffer was loaded.

    With ``--save-replay-buffer``, the checkpoints of ``--save-freq`` get buffers, too; RL Zoo saves one at the end only.
    ``n_timesteps`` is the total of the run, as in the command that began it. A run that was finished makes as many again.
    """

    @functools.wraps(original)
    def learn(self: Any, model: Any) -> None:
        is_ours = isinstance(model, PicklefreeAlgorithm)
        for callback in self.callbacks:
            if is_ours and isinstance(callback, CheckpointCallback):
                callback.save_replay_buffer = self.save_replay_buffer
        if not (is_ours and self.continue_training and len(model.replay_buffer) > 0):
            original(self, model)
            return
        done = model.num_timesteps
        if done < self.n_timesteps:
            self.n_timesteps -= done
        print(f"Going on after {done} env steps, for {self.n_timesteps} more")
        original(self, SimpleNamespace(learn=functools.partial(model.learn, reset_num_timesteps=False), env=model.env))

    return learn
