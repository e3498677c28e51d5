"""From a VecEnv to the turns in its envs: in this process, in processes of their own, or unseeded."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_gogepo.errors import EnvFailedError
from sb3_gogepo.rollouts.turns import ENV_FAULT, TAKEN_OVER, SeededTurns, Step, Turns


class DummyTurns(SeededTurns):
    """In the envs of a DummyVecEnv.

    :param catches_faults: an env that raises ends its episode: ``info[ENV_FAULT]`` holds the traceback, the reward is 0.
        If its reset raises, the first step afterwards is such a step.
    """

    vec_env: DummyVecEnv

    def __init__(self, env: VecEnv, catches_faults: bool = True) -> None:
        super().__init__(env)
        self.catches_faults = catches_faults
        self.faults: list[str | None] = [None] * self.vec_env.num_envs

    @property
    def envs(self) -> list[gym.Env]:
        """The envs, also where they are locked because workers run the episodes."""
        return getattr(self.vec_env.envs, "real", self.vec_env.envs)

    def _reset_envs(self, indices: list[int], options: list[dict[str, Any]]) -> None:
        for i, option in zip(indices, options, strict=True):
            self.faults[i] = None
            try:
                observation, info = self.envs[i].reset(seed=self._begun[i], **({"options": option} if option else {}))
            except Exception:
                if not self.catches_faults:
                    raise
                self.faults[i], observation, info = traceback.format_exc(), self._zeros(), {}
            self._rows[i], self.vec_env.reset_infos[i] = observation, info

    def _step_envs(self, indices: list[int]) -> Iterator[Step]:
        for i in indices:
            if self.faults[i] is None:
                try:
                    step = Step(*self.envs[i].step(self.actions[i]))
                except Exception:
                    if not (self.catches_faults and self._run_candidates):
                        raise
                    self.faults[i] = traceback.format_exc()
            yield step if self.faults[i] is None else Step(self._zeros(), 0.0, False, True, {ENV_FAULT: self.faults[i]})


class SubprocTurns(SeededTurns):
    """In the envs of a SubprocVecEnv, each in its process.

    :raises EnvFailedError: if a process ends; such an env cannot be started again.
    """

    vec_env: SubprocVecEnv

    def _reset_envs(self, indices: list[int], options: list[dict[str, Any]]) -> None:
        messages: list[tuple[str, Any]] = [
            ("reset", (self._begun[i], option)) for i, option in zip(indices, options, strict=True)
        ]
        self.vec_env.reset_infos = list(self.vec_env.reset_infos)  # SB3 may have made it a tuple
        for i, (observation, info) in zip(indices, self._ask(indices, messages), strict=True):
            self._rows[i], self.vec_env.reset_infos[i] = observation, info

    def _step_envs(self, indices: list[int]) -> Iterator[Step]:
        # as a method call: the worker's own command "step" would also reset an env that is done, without a seed
        messages: list[tuple[str, Any]] = [("env_method", ("step", (self.actions[i],), {})) for i in indices]
        yield from (Step(*answer) for answer in self._ask(indices, messages))

    def _ask(self, indices: list[int], messages: list[tuple[str, Any]]) -> list[Any]:
        try:
            for i, message in zip(indices, messages, strict=True):
                self.vec_env.remotes[i].send(message)
            return [self.vec_env.remotes[i].recv() for i in indices]
        except (EOFError, ConnectionError) as error:
            dead = [i for i, process in enumerate(self.vec_env.processes) if not process.is_alive()]
            raise EnvFailedError(
                f"the process of env {', '.join(map(str, dead)) or '?'} of the SubprocVecEnv has ended, and SubprocVecEnv "
                'cannot start it again; if it raised, its traceback was printed before. rollout_backend="subprocess" '
                "restarts envs"
            ) from error


def can_seed_resets(env: VecEnv) -> bool:
    """Can the single envs behind ``env`` be reached? Not those of other VecEnvs, or of subclasses with own steps."""
    inner = env.unwrapped
    return any(
        isinstance(inner, kind) and all(getattr(type(inner), name) is getattr(kind, name) for name in TAKEN_OVER)
        for kind in (DummyVecEnv, SubprocVecEnv)
    )


def make_turns(env: VecEnv, catches_faults: bool = True) -> Turns:
    """The context in which ``env.reset()`` and ``env.step(actions)`` run candidates, with their reset seeds if possible.

    An env that is done takes the next candidate inside the same step. Wrappers see what the envs do as they would in SB3.

    :param env: a VecEnv, wrapped or not.
    :param catches_faults: an env of a DummyVecEnv that raises ends its episode, see :class:`DummyTurns`.
    """
    if not can_seed_resets(env):
        return Turns(env)
    return DummyTurns(env, catches_faults) if isinstance(env.unwrapped, DummyVecEnv) else SubprocTurns(env)
