"""What a cell measures: its clock, the evaluation curve, the training episodes, and how far it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.run.layout import (
    ACTOR_COLUMNS,
    CURVE_COLUMNS,
    EVAL_SEED,
    N_EVAL_EPISODES,
    TRAINING_COLUMNS,
    read_rows,
    write_rows,
)
from sb3_gogepo import GoGePo
from sb3_gogepo.gogepo.critic_learner import CriticLearner


class Clock:
    """Wall and CPU seconds of training, without the time spent in :meth:`paused` blocks.

    :param wall: seconds on the clock at first, e.g. of the part of the run before an interruption.
    """

    def __init__(self, wall: float = 0.0, cpu: float = 0.0) -> None:
        self._before = np.array([wall, cpu])
        self._started: np.ndarray | None = None

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time()])

    def read(self) -> tuple[float, float]:
        """(wall, CPU) seconds."""
        running = 0.0 if self._started is None else self._now() - self._started
        wall, cpu = self._before + running
        return round(float(wall), 2), round(float(cpu), 2)

    def start(self) -> None:
        """Go."""
        self._started = self._now()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        assert self._started is not None
        self._before = self._before + self._now() - self._started
        self._started = None
        try:
            yield
        finally:
            self._started = self._now()


class Record:
    """What a cell has measured so far; :meth:`dump` and :meth:`restore` carry it over an interruption.

    :param folder: where curve and training table go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.eval_seconds = 0.0
        self.env_steps_before = 0  # by processes that were interrupted
        self.curve: list[list[float]] = []
        self.actor: list[list[float]] = []
        self.training: list[list[float]] = []
        self.unreported: list[tuple[float, int]] = []  # (return, length) of episodes since the last row of `training`

    def dump(self, env_steps: int) -> dict[str, Any]:
        """All but the tables, which are on the disk already."""
        return dict(clock=self.clock.read(), eval_seconds=self.eval_seconds, env_steps=env_steps, unreported=self.unreported)

    def restore(self, state: dict[str, Any], num_timesteps: int) -> None:
        """Go on from a dump; rows that were written after it are dropped, since they will be measured again."""
        self.clock = Clock(*state["clock"])
        self.eval_seconds, self.env_steps_before = state["eval_seconds"], state["env_steps"]
        self.unreported = [(r, n) for r, n in state["unreported"]]
        self.curve = [row for row in read_rows(self.folder / "curve.csv") if row[0] <= num_timesteps]
        self.actor = [row for row in read_rows(self.folder / "actor.csv") if row[0] <= num_timesteps]
        self.training = [row for row in read_rows(self.folder / "training.csv") if row[0] <= num_timesteps]

    def add_evaluation(self, timesteps: int, env_steps: int, returns: list[float], lengths: list[int]) -> None:
        """One more row of the curve, on the disk at once."""
        self.curve.append([timesteps, env_steps, *self.clock.read(), float(np.mean(lengths)), *map(float, returns)])
        write_rows(self.folder / "curve.csv", CURVE_COLUMNS, self.curve)

    def add_actor(self, timesteps: int, returns: list[float]) -> None:
        """One more row of the curve of a state critic's actor, on the disk at once."""
        self.actor.append([timesteps, *returns])
        write_rows(self.folder / "actor.csv", ACTOR_COLUMNS, self.actor)

    def add_training(self, timesteps: int) -> None:
        """One more row that sums up the episodes since the last one, if there are any."""
        if not self.unreported:
            return
        returns, lengths = np.array(self.unreported, dtype=float).T
        spread = [returns.mean(), returns.std(), returns.min(), returns.max(), lengths.mean()]
        self.training.append([timesteps, len(returns), *map(float, spread)])
        self.unreported = []
        write_rows(self.folder / "training.csv", TRAINING_COLUMNS, self.training)


def count_env_steps(env: VecEnv) -> int:
    """Steps that the Monitors around the single envs have seen."""
    return int(sum(env.get_attr("total_steps")))


class CurveCallback(EvalCallback):
    """SB3's evaluation, every ``every`` env steps, with the same start states each time and off the clock.

    :param eval_env: ``N_EVAL_EPISODES`` envs, which run one episode each.
    :param n_timesteps: nothing is evaluated after that many env steps.
    :param report: called after each evaluation.
    """

    def __init__(
        self,
        eval_env: VecEnv,
        record: Record,
        every: int,
        n_timesteps: int,
        log_path: str,
        report: Callable[[], None],
    ) -> None:
        assert eval_env.num_envs == N_EVAL_EPISODES
        super().__init__(eval_env, n_eval_episodes=N_EVAL_EPISODES, eval_freq=1, log_path=log_path, verbose=0)
        self.record, self.every, self.n_timesteps, self.report = record, every, n_timesteps, report
        self.n_seen: list[int] = []  # of each env, episodes of its Monitor's list that are in the record

    def _on_training_start(self) -> None:
        self.next_evaluation = (self.num_timesteps // self.every + 1) * self.every
        self.record.clock.start()

    def collect_episodes(self) -> None:
        """Take the finished training episodes over into the record."""
        assert self.training_env is not None
        returns = self.training_env.env_method("get_episode_rewards")
        lengths = self.training_env.env_method("get_episode_lengths")
        for k, seen in enumerate(self.n_seen or [0] * len(returns)):
            self.record.unreported += [(float(r), int(n)) for r, n in zip(returns[k][seen:], lengths[k][seen:], strict=True)]
        self.n_seen = [len(of_env) for of_env in returns]

    @property
    def env_steps(self) -> int:
        """Training steps that were made in the envs, since the very start."""
        return self.record.env_steps_before + count_env_steps(self.training_env)

    def _on_step(self) -> bool:
        if not self.next_evaluation <= self.num_timesteps <= self.n_timesteps:
            return True
        self.next_evaluation += self.every
        with self.record.clock.paused():
            started = time.perf_counter()
            self.eval_env.seed(EVAL_SEED)  # env k resets with EVAL_SEED + k
            goes_on = super()._on_step()
            if isinstance(self.model, GoGePo) and self.model.critic_learner is not None:
                self.evaluate_actor(self.model, self.model.critic_learner)
            self.record.eval_seconds = round(self.record.eval_seconds + time.perf_counter() - started, 2)
            self.collect_episodes()
            self.record.add_training(self.num_timesteps)
            self.record.add_evaluation(
                self.num_timesteps, self.env_steps, self.evaluations_results[-1], self.evaluations_length[-1]
            )
            self.report()
        return goes_on

    def evaluate_actor(self, model: GoGePo, learner: CriticLearner) -> None:
        """The state critic's actor, without noise, from the start states of the evaluation."""
        seeds = [EVAL_SEED + k for k in range(N_EVAL_EPISODES)]
        episodes = model.run_policies(self.eval_env, learner.critic.actor.detach()[None], seeds)
        self.record.add_actor(self.num_timesteps, [episode.episode_return for episode in episodes])


class ProgressCallback(BaseCallback):
    """Calls ``report`` about every two seconds."""

    def __init__(self, report: Callable[[], None], every_seconds: float = 2.0) -> None:
        super().__init__()
        self.report, self.every_seconds, self.next_report = report, every_seconds, 0.0

    def _on_step(self) -> bool:
        if self.n_calls % 100 == 0 and time.monotonic() >= self.next_report:
            self.report()
            self.next_report = time.monotonic() + self.every_seconds
        return True
