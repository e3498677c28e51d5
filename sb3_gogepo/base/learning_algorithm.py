"""LearningAlgorithm: how a model is made and how ``learn`` begins, for all algorithms of this package."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_gogepo.base.progress_bar import CountedStepsProgressBarCallback
from sb3_gogepo.checks import as_python, check_number
from sb3_gogepo.envs import check_early_resets
from sb3_gogepo.rollouts.make_turns import can_seed_resets
from sb3_gogepo.saving.archive import UnsavedValue
from sb3_gogepo.saving.picklefree_algorithm import PicklefreeAlgorithm


class LearningAlgorithm(PicklefreeAlgorithm):
    """Makes policy and buffer, and starts ``learn``. A subclass brings the constructor and the loop."""

    def _require_env(self) -> None:
        if self.env is None:
            raise ValueError("env must be a Gymnasium env or a registered id, got None")

    def _setup_model(self) -> None:
        vars(self).update(as_python(vars(self)))  # the user, or load, may have put NumPy's numbers there
        self._setup_lr_schedule()
        self._seed_globals(self.seed)  # `run_seed` and the buffer have theirs already
        policy: Any = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        self.policy = policy.to(self.device)
        self.replay_buffer = self._make_replay_buffer()

    def _check_learn(self, total_timesteps: float, log_interval: int | None) -> None:
        """Check the arguments of ``learn``, and that there is all it needs.

        :raises ValueError: if ``total_timesteps`` is no number >= 1, ``log_interval`` < 1, or there is no env.
        """
        check_number("total_timesteps", total_timesteps, minimum=1)
        if log_interval is not None:
            check_number("log_interval", log_interval, minimum=1, integer=True)
        if self.env is None:
            raise ValueError("there is no env to learn in: use set_env or load(path, env=env)")
        check_early_resets(self.env)
        unsaved = [name for name, value in vars(self).items() if isinstance(value, UnsavedValue)]
        if unsaved:
            raise ValueError(f"{unsaved[0]} did not come with the file: pass {unsaved[0]}= to load")

    def _start_learning(
        self,
        total_timesteps: float,
        callback: MaybeCallback,
        reset_num_timesteps: bool,
        tb_log_name: str,
        progress_bar: bool,
    ) -> tuple[int, BaseCallback]:
        """SB3's ``_setup_learn``, and the callback's start.

        :return: the env steps to reach, and the callback.
        """
        total_steps, started = self._setup_learn(
            int(total_timesteps), callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        assert self.env is not None
        if self.verbose >= 1 and not can_seed_resets(self.env):
            name = type(self.env.unwrapped).__name__
            print(f"The envs behind {name} cannot be reset one by one with seeds: results depend on the env's own seeds, too.")
        started.on_training_start({"total_timesteps": total_steps, "self": self}, globals())
        return total_steps, started

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        """As SB3's, but for the progress bar."""
        if not progress_bar:
            return super()._init_callback(callback)
        callbacks = callback if isinstance(callback, list) else [callback]
        converted = [each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in callbacks]
        return super()._init_callback([*converted, CountedStepsProgressBarCallback()])

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """As SB3's, but not below 0, where a schedule may become negative: the last episodes run over the total."""
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)
