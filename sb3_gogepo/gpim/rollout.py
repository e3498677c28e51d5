"""Episodes of a goal env: one in each env of a VecEnv, all begun at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.checks import as_observations
from sb3_gogepo.rollouts.faults import only_finite
from sb3_gogepo.rollouts.make_turns import make_turns
from sb3_gogepo.rollouts.rollout import OnStep, VecStep

#: ({key: (n_envs, ...)} observations, number of the step) -> (n_envs, \*action_shape) actions
Act = Callable[[dict[str, np.ndarray], int], np.ndarray]


class GoalEpisode(NamedTuple):
    """What one policy did in one episode; all numbers are as the env gave them, finite or not.

    :param observations: (length + 1, ...) observations; the last one is that with which the episode ended.
    :param achieved: (length + 1, ...) achieved goals.
    :param actions: (length, \\*action_shape) actions in env units.
    :param terminated: False if a time limit ended the episode.
    """

    observations: np.ndarray
    achieved: np.ndarray
    actions: np.ndarray
    terminated: bool

    @property
    def length(self) -> int:
        """Number of env steps."""
        return len(self.actions)

    def is_finite(self) -> bool:
        """Are all numbers of the episode finite?"""
        return all(bool(np.isfinite(part).all()) for part in (self.observations, self.achieved, self.actions))


class LatentSchedule:
    """Which latent each env has at each step: drawn uniformly at the start and again every ``segment_length`` steps.

    :param rng: seeds the schedule's own random generator.
    :param n_envs: number of envs.
    :param n_latents: number of latents to draw from.
    :param segment_length: number of steps after which new latents are drawn; None: never.
    """

    def __init__(self, rng: np.random.Generator, n_envs: int, n_latents: int, segment_length: int | None) -> None:
        self._rng = np.random.default_rng(rng.integers(2**63))
        self.n_envs, self.n_latents, self.segment_length = n_envs, n_latents, segment_length
        self._of_segments: list[np.ndarray] = []

    def __call__(self, step: int) -> np.ndarray:
        """(n_envs,) latents for this step."""
        segment = 0 if self.segment_length is None else step // self.segment_length
        while len(self._of_segments) <= segment:
            self._of_segments.append(self._rng.integers(self.n_latents, size=self.n_envs))
        return self._of_segments[segment]

    def of_steps(self, env_index: int, length: int) -> np.ndarray:
        """(length,) latents of one env from the first step on."""
        return np.array([self(step)[env_index] for step in range(length)])


def run_goal_episodes(env: VecEnv, act: Act, seeds: Sequence[int], on_step: OnStep | None = None) -> list[GoalEpisode] | None:
    """Run one episode in each env. An env whose episode ends first waits for the others.

    :param env: a VecEnv of goal envs.
    :param act: what acts: observations and the number of the step -> actions in env units.
    :param seeds: (n_envs,) reset seeds, which are not used where the VecEnv's envs cannot be reset one by one.
    :param on_step: called after each step; all episodes are abandoned if it returns False. None: nothing is called.
    :return: one episode an env, in the order of the envs; None if ``on_step`` returned False.
    """
    n_envs = env.num_envs
    terminated = [False] * n_envs
    active = list(range(n_envs))
    step = 0
    with make_turns(env, catches_faults=False) as turns:
        turns.begin(seeds)
        observations = _observations(turns.first_observations(), env)
        seen: list[list[np.ndarray]] = [[observations["observation"][i]] for i in range(n_envs)]
        achieved: list[list[np.ndarray]] = [[observations["achieved_goal"][i]] for i in range(n_envs)]
        actions: list[list[np.ndarray]] = [[] for _ in range(n_envs)]
        while active:
            chosen = act({key: only_finite(values) for key, values in observations.items()}, step)
            stepped, rewards, ended, given = turns.step(chosen)
            observations, dones, infos = _observations(stepped, env), np.array(ended), list(given)
            turns.see(dones)
            for i in range(n_envs):
                if i not in active:  # it waits, or its steps do not count
                    dones[i], infos[i] = False, {}
                    continue
                last = {key: values[i] for key, values in observations.items()}
                if dones[i]:
                    terminal = {key: [value] for key, value in infos[i]["terminal_observation"].items()}
                    last = {key: values[0] for key, values in _observations(terminal, env).items()}
                seen[i].append(np.array(last["observation"]))
                achieved[i].append(np.array(last["achieved_goal"]))
                actions[i].append(chosen[i])
                terminated[i] = bool(dones[i]) and not infos[i].get("TimeLimit.truncated", False)
            new_obs: Any = observations
            if on_step is not None and not on_step(VecStep(len(active), dones, infos, new_obs, chosen, rewards)):
                return None
            active = [i for i in active if not dones[i]]
            step += 1
    return [GoalEpisode(np.stack(seen[i]), np.stack(achieved[i]), np.stack(actions[i]), terminated[i]) for i in range(n_envs)]


def _observations(observations: Any, env: VecEnv) -> dict[str, np.ndarray]:
    """A copy, as a VecEnv may reuse its own: {key: (n, \\*shape of the key's space)}."""
    space: Any = env.observation_space
    return {key: as_observations(values, space[key]) for key, values in observations.items()}
