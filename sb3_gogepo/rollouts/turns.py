"""Turns: candidates take turns in the envs of a VecEnv, one reset an episode, and envs that wait are not stepped."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Self, SupportsFloat

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecNormalize,
    unwrap_vec_normalize,
)

from sb3_gogepo.checks import as_observations

#: Key of ``info`` that holds the traceback of an env that raised
ENV_FAULT = "env_fault"
#: Why episodes are discarded, and what to do
BREAKING, BREAKING_REMEDY = "a callback resets the training env in the midst of its episodes", "give it an env of its own"
#: Methods of a VecEnv that :class:`SeededTurns` takes over
TAKEN_OVER = ("reset", "step_async", "step_wait")
#: Types of values that cannot change, so that they need not be copied
UNCHANGING = {bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int64}


class Step(NamedTuple):
    """What ``env.step`` gives; the episode of an env that raised is truncated."""

    observation: Any
    reward: SupportsFloat
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Turns:
    """Who runs in which env. This class leaves a VecEnv as it is: it resets unseeded, and steps envs that wait.

    A batched simulator, or any VecEnv whose single envs cannot be reached, is of this kind.

    :param env: wrapped or not.
    """

    #: Do seeds reach the resets? Then one env can also be reset in the midst of its episode.
    are_seeded = False

    def __init__(self, env: VecEnv) -> None:
        self.env, self.vec_env = env, env.unwrapped
        #: (n_envs, ...) the last observations that the wrapped env gave
        self.observations: Any = None
        self.begin([])

    def begin(self, seeds: Sequence[int], next_seeds: Sequence[int] = ()) -> None:
        """Let new candidates wait. Env i begins with candidate i.

        :param seeds: (n_candidates,) reset seeds.
        :param next_seeds: (n_envs or fewer,) those with which the candidates after these will begin.
        """
        self.seeds, self.next_seeds = [int(seed) for seed in seeds], [int(seed) for seed in next_seeds]
        self.waiting = deque(range(len(self.seeds)))
        #: Candidates into whose episode a callback broke by resetting the env
        self.broken: set[int] = set()
        self._is_broken = False  # has it done so since the last step of the candidates?
        #: (n_envs,) candidate in each env; None: the env waits for the others
        self.running = [self._next() for _ in range(self.vec_env.num_envs)]

    def _next(self) -> int | None:
        return self.waiting.popleft() if self.waiting else None

    @property
    def is_ready(self) -> bool:
        """Does each env stand where its candidate's episode begins?"""
        return False

    def first_observations(self) -> Any:
        """(n_envs, ...) the observations that the candidates' episodes begin with.

        Where this takes a reset, a VecNormalize learns nothing from it: it has seen the ends of the episodes before.
        """
        if self.is_ready and self.observations is not None and not follows_episodes(self.env):
            return self.observations
        vec_normalize = unwrap_vec_normalize(self.env)
        if vec_normalize is None:
            return self.env.reset()
        was_training, vec_normalize.training = vec_normalize.training, False
        try:
            return self.env.reset()
        finally:
            vec_normalize.training = was_training

    def step(self, actions: np.ndarray) -> Any:
        """One step of the candidates: ``env.step``. Called by somebody else, a callback, that is a step of all envs."""
        return self.env.step(actions)

    def see(self, dones: np.ndarray) -> None:
        """Hand the envs whose episode has just ended to the next candidates."""
        for i in np.flatnonzero(dones):
            self.running[i] = self._next()

    def cut(self, index: int) -> np.ndarray:
        """End the episode in one env at once; returns what it observes then."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the VecEnv as it was."""


class SeededTurns(Turns):
    """Takes over ``reset``, ``step_async`` and ``step_wait`` of a VecEnv whose single envs can be reached.

    The envs themselves stay as they are, so that callbacks see and change those that run. When an episode ends, the
    VecEnv's own reset is seeded for the next candidate of that env. If there is none, the env waits.

    That is so while candidates run. A callback that resets and steps the VecEnv finds it as SB3 has made it.
    """

    are_seeded = True
    _run_candidates = False  # is it the candidates' step, or somebody else's?

    def __init__(self, env: VecEnv) -> None:
        super().__init__(env)
        self._rows: list[Any] = [self._zeros() for _ in range(self.vec_env.num_envs)]
        self.forget()

    def forget(self) -> None:
        """Somebody else has used the envs: where they stand is not known."""
        self._begun: list[int | None] = [None] * self.vec_env.num_envs  # seed of an episode that has made no step

    def __enter__(self) -> Self:
        own = vars(self.vec_env)
        self._before = {name: own[name] for name in TAKEN_OVER if name in own}
        own.update({name: getattr(self, name) for name in TAKEN_OVER})
        return self

    def __exit__(self, *_: object) -> None:
        for name in TAKEN_OVER:
            delattr(self.vec_env, name)
        vars(self.vec_env).update(self._before)
        if self._before:  # these turns took place within others
            self._before["reset"].__self__.forget()

    @property
    def is_ready(self) -> bool:
        """Does each env stand where its candidate's episode begins?"""
        return all(self._begun[i] == self.seeds[k] for i, k in enumerate(self.running) if k is not None)

    def _wanted(self, index: int) -> int | None:
        """The seed of the env's next episode; None: it has none yet."""
        candidate = self.running[index]
        if candidate is not None:
            return self.seeds[candidate]
        return self.next_seeds[index] if index < len(self.next_seeds) else None

    def first_observations(self) -> Any:
        """See :class:`Turns`."""
        return self._for_candidates(super().first_observations)

    def step(self, actions: np.ndarray) -> Any:
        """See :class:`Turns`."""
        return self._for_candidates(super().step, actions)

    def _for_candidates(self, act: Callable[..., Any], *arguments: Any) -> Any:
        self._run_candidates = True
        try:
            return act(*arguments)
        finally:
            self._run_candidates = False

    def see(self, dones: np.ndarray) -> None:
        """Nothing is left to do: :meth:`step_wait` has handed them over."""

    def reset(self) -> Any:
        """Reset the envs that do not stand where their next episode begins, with its seed."""
        if not self._run_candidates and not self._is_broken:
            self._break_into_episodes()
        wanted = {i: self._wanted(i) for i in range(self.vec_env.num_envs)}
        stale = {i: seed for i, seed in wanted.items() if seed != self._begun[i]}
        if not self._run_candidates:  # those that have no candidate, too
            stale |= {i: seed for i, seed in wanted.items() if seed is None}
        self._begin_episodes(stale, self.vec_env._options)
        self.vec_env._reset_seeds()
        self.vec_env._reset_options()
        return self._stack()

    def _break_into_episodes(self) -> None:
        running = {candidate for candidate in self.running if candidate is not None}
        if self.broken & running:
            raise RuntimeError(f"{BREAKING} once more before these have ended, and they never would: {BREAKING_REMEDY}")
        self.broken, self._is_broken = self.broken | running, True

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the (n_envs, \\*action_shape) actions for :meth:`step_wait`."""
        self.actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step the envs that have a candidate. Others give their last observation, reward 0 and an empty info."""
        n_envs = self.vec_env.num_envs
        rewards, dones = np.zeros(n_envs, dtype=np.float32), np.zeros(n_envs, dtype=bool)
        infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        active = [i for i in range(n_envs) if self.running[i] is not None or not self._run_candidates]
        ended = []
        for i, (observation, reward, terminated, truncated, info) in zip(active, self._step_envs(active), strict=True):
            self._rows[i], rewards[i] = observation, float(reward)
            infos[i] = _copy_info(info)
            infos[i]["TimeLimit.truncated"] = truncated and not terminated
            self._begun[i] = None
            if terminated or truncated:
                dones[i] = True
                infos[i]["terminal_observation"] = observation
                ended.append(i)
        if self._run_candidates:
            self._is_broken = False
            self._hand_over(ended)
        else:
            self._begin_episodes(dict.fromkeys(ended))
        return self._stack(), rewards, dones, infos

    def cut(self, index: int) -> np.ndarray:
        """End the episode in one env at once; returns what it observes then."""
        self._hand_over([index])
        return np.asarray(self._rows[index])

    def _hand_over(self, ended: list[int]) -> None:
        for i in ended:
            self.running[i] = self._next()
        self._begin_episodes({i: seed for i in ended if (seed := self._wanted(i)) is not None})

    def _begin_episodes(self, seeds: dict[int, Any], options: Sequence[dict[str, Any]] | None = None) -> None:
        """Reset these envs: {env: seed of its next episode, or None}."""
        for i, seed in seeds.items():
            self._begun[i] = seed
        self._reset_envs(list(seeds), [{} if options is None else options[i] for i in seeds])

    def _zeros(self) -> Any:
        space = self.vec_env.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
        zeros = {key: np.zeros(part.shape or (), part.dtype) for key, part in parts.items()}
        return zeros if isinstance(space, spaces.Dict) else zeros[None]

    def _stack(self) -> Any:
        """(n_envs, ...) observations in the space's dtype; of a Dict space, one array a key."""
        space: Any = self.vec_env.observation_space
        if isinstance(space, spaces.Dict):
            return {key: _stack([row[key] for row in self._rows], part) for key, part in space.spaces.items()}
        return _stack(self._rows, space)

    def _reset_envs(self, indices: list[int], options: list[dict[str, Any]]) -> None:
        """Reset these envs with the seeds of ``_begun``, and keep their observations and ``reset_infos``."""
        raise NotImplementedError

    def _step_envs(self, indices: list[int]) -> Iterator[Step]:
        """Step these envs with their actions."""
        raise NotImplementedError


def _copy_info(info: dict[str, Any]) -> dict[str, Any]:
    """A copy that shares nothing that can change with ``info``, five times as fast as ``copy.deepcopy``."""
    return {key: value if type(value) in UNCHANGING else copy.deepcopy(value) for key, value in info.items()}


def _stack(rows: list[Any], space: Any) -> np.ndarray:
    """Rows -> (n_rows, \\*space.shape)."""
    try:
        return as_observations(rows, space, space.dtype)
    except ValueError:  # their shapes may differ by axes of size 1
        return np.concatenate([as_observations([row], space, space.dtype) for row in rows])


def follows_episodes(env: VecEnv) -> bool:
    """Has it wrappers that follow episodes, such as VecMonitor and VecFrameStack? They must see resets, and episodes out."""
    while isinstance(env, VecEnvWrapper):
        if not isinstance(env, (VecNormalize, VecCheckNan)):
            return True
        env = env.venv
    return False
