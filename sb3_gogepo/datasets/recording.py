"""Episodes of one policy, recorded in parts that are whole files, so that a recording goes on after a kill."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from minari.data_collector import EpisodeBuffer

from sb3_gogepo.checks import as_observations
from sb3_gogepo.errors import NonFiniteError
from sb3_gogepo.saving.atomic_files import write_atomically

#: env steps after which a part is written; a kill loses no more than these
PART_STEPS = 10_000

#: (1, n_obs) raw observations -> one action of the env, in a sequence or array
Act = Callable[[np.ndarray], Any]


class Steps(NamedTuple):
    """One episode.

    :param seed: with which the env was reset.
    :param observations: (length + 1, n_obs) from the first to the last.
    :param actions: (length, \\*action_shape)
    :param rewards: (length,)
    :param ends: (2,) was it terminated, was it truncated?
    """

    seed: int
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ends: np.ndarray

    def to_buffer(self) -> EpisodeBuffer:
        """As Minari takes it."""
        ends = np.zeros((2, len(self.rewards)), bool)
        ends[:, -1] = self.ends
        return EpisodeBuffer(
            seed=self.seed,
            observations=self.observations,
            actions=self.actions,
            rewards=self.rewards,
            terminations=ends[0],
            truncations=ends[1],
            infos={},
        )


def seed_of(seed: int, name: str, number: int) -> int:
    """The reset seed of an episode. It depends on nothing but the run's seed, the name of its level and its own number."""
    key = (zlib.crc32(name.encode()), number)
    return int(np.random.SeedSequence(entropy=seed, spawn_key=key).generate_state(1)[0])


def run_episode(env: gym.Env, act: Act, seed: int) -> Steps:
    """One episode, reset with ``seed``.

    :raises NonFiniteError: if an observation or reward is not finite.
    """
    space = env.observation_space
    observation, _ = env.reset(seed=seed)
    observations = [as_observations([observation], space, dtype=space.dtype)]
    actions, rewards = [], []
    terminated = truncated = False
    while not (terminated or truncated):
        actions.append(act(observations[-1])[0])
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        observations.append(as_observations([observation], space, dtype=space.dtype))
        rewards.append(float(reward))
    ends = np.array([terminated, truncated], bool)
    steps = Steps(seed, np.concatenate(observations), np.stack(actions), np.array(rewards), ends)
    for name in ("observations", "rewards"):
        if not np.isfinite(getattr(steps, name)).all():
            raise NonFiniteError(f"env must have finite {name}, got NaN or infinity in the episode of seed {seed}")
    return steps


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Whatever Minari or the disk raises says where it happened, and how to go on.

    :param folder: of the run that writes.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises either where a disk is full
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else " ".join(str(error).split())
        raise OSError(
            f"dataset_id cannot be written: '{folder}': {reason}. The episodes that are there are kept, and the same call "
            "goes on from them"
        ) from error


class Recording:
    """The parts of one level.

    :param stem: path of the parts without number and suffix. Parts that are there are gone on from.
    """

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        rewards = [part.rewards for part in self.episodes()]
        self.n_episodes, self.n_steps = len(rewards), sum(map(len, rewards))

    def _path(self, number: int) -> Path:
        return self.stem.with_name(f"{self.stem.name}-{number:06d}.npz")

    def record(self, run: Callable[[int], Steps], n_steps: int, on_episode: Callable[[int], Any]) -> None:
        """Go on until there are ``n_steps`` env steps; the last episode is finished.

        :param run: number of an episode -> the episode. It must not depend on those before.
        :param n_steps: of all parts together.
        :param on_episode: is told the number of steps of each new episode.
        """
        n_parts = sum(1 for _ in self._paths())
        while self.n_steps < n_steps:
            part: list[Steps] = []
            part_steps = 0
            while part_steps < min(PART_STEPS, n_steps - self.n_steps):
                part.append(run(self.n_episodes + len(part)))
                part_steps += len(part[-1].rewards)
                on_episode(len(part[-1].rewards))
            with writing_into(self.stem.parent):
                write_part(self._path(n_parts), part)
            n_parts += 1
            self.n_episodes += len(part)
            self.n_steps += part_steps

    def _paths(self) -> Iterator[Path]:
        """The parts, first to last."""
        number = 0
        while (path := self._path(number)).is_file():
            yield path
            number += 1

    def episodes(self) -> Iterator[Steps]:
        """All episodes."""
        for path in self._paths():
            yield from read_part(path)


def write_part(path: Path, part: list[Steps]) -> None:
    """Write episodes to a file, all of them or none."""
    file = io.BytesIO()
    np.savez(
        file,
        lengths=[len(episode.rewards) for episode in part],
        seeds=[episode.seed for episode in part],
        observations=np.concatenate([episode.observations for episode in part]),
        actions=np.concatenate([episode.actions for episode in part]),
        rewards=np.concatenate([episode.rewards for episode in part]),
        ends=np.stack([episode.ends for episode in part]),
    )
    write_atomically(path, file.getvalue(), path.suffix)


def read_part(path: Path) -> Iterator[Steps]:
    """What :func:`write_part` wrote."""
    with np.load(path) as content:
        columns = dict(content)
    lengths = columns["lengths"]
    cuts = np.cumsum(lengths)[:-1]
    parts = [
        np.split(columns["observations"], np.cumsum(lengths + 1)[:-1]),  # one more than steps
        np.split(columns["actions"], cuts),
        np.split(columns["rewards"], cuts),
    ]
    for seed, observations, actions, rewards, ends in zip(columns["seeds"], *parts, columns["ends"], strict=True):
        yield Steps(int(seed), observations, actions, rewards, ends)
