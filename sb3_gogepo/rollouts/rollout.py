"""Candidates -> episodes in a VecEnv: each env runs a candidate of its own, one batched forward acts for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import nn

from sb3_gogepo.checks import as_observations
from sb3_gogepo.networks.action_map import ActionMap
from sb3_gogepo.networks.normalization import Moments, ObservationNormalizer
from sb3_gogepo.networks.policy_weights import BatchedActor, WeightLayout
from sb3_gogepo.rollouts.faults import DISCARDED, Discard, find_non_finite, only_finite
from sb3_gogepo.rollouts.make_turns import make_turns
from sb3_gogepo.rollouts.pruning import PRUNED, full_return, has_fallen_behind, monitor_record
from sb3_gogepo.rollouts.turns import BREAKING, BREAKING_REMEDY, ENV_FAULT, Turns, follows_episodes


class Episode(NamedTuple):
    """What one candidate did in one episode.

    :param episode_return: in the env's own reward units, without the alive bonus offset.
    :param length: env steps made.
    :param observations: (length, n_obs) the raw ones the policy acted on; None when not asked for, as the next five.
    :param actions: (length, \\*action_shape) in the env's units.
    :param rewards: (length,)
    :param last_observation: (n_obs,) after the last step.
    :param terminated: did it end in a terminal state, rather than by a time limit, or early?
    :param moments: of the observations, in their place.
    :param discarded: why nothing may be learned from the episode; None: it may.
    :param return_curve: (length,) the return after each step; None where no episode is pruned.
    :param full_length: env steps that an episode takes which is not pruned; None unless this one was.
    """

    episode_return: float
    length: int
    observations: np.ndarray | None
    actions: np.ndarray | None = None
    rewards: np.ndarray | None = None
    last_observation: np.ndarray | None = None
    terminated: bool | None = None
    moments: Moments | None = None
    discarded: Discard | None = None
    return_curve: np.ndarray | None = None
    full_length: int | None = None

    @property
    def pruned(self) -> bool:
        """Was it ended early?"""
        return self.full_length is not None

    def as_if_whole(self) -> tuple[float, int]:
        """(return, length) that it would have if it had gone on at its rate; its own unless it was pruned."""
        if self.full_length is None:
            return self.episode_return, self.length
        return full_return(self.episode_return, self.length, self.full_length), self.full_length

    def update_statistics(self, normalizer: ObservationNormalizer) -> None:
        """Let the normalizer's running statistics see what was observed, if that was kept."""
        if self.moments is not None:
            normalizer.merge(self.moments)
        elif self.observations is not None:
            normalizer.update(self.observations)


class VecStep(NamedTuple):
    """One step of a VecEnv, one row an env; rows of envs that wait hold reward 0, not done, an empty info.

    :param n_active: envs whose step counts.
    :param dones: (n_envs,)
    :param infos: one an env.
    :param observations: (n_envs, n_obs) after the step, as the VecEnv gave them; None, as the next two, of a worker's step.
    :param actions: (n_envs, \\*action_shape)
    :param rewards: (n_envs,) as the VecEnv gave them.
    """

    n_active: int
    dones: np.ndarray
    infos: list[dict[str, Any]]
    observations: np.ndarray | None = None
    actions: np.ndarray | None = None
    rewards: np.ndarray | None = None


#: Called after each step; returning False abandons all running episodes.
OnStep = Callable[[VecStep], bool]


class Actors(Protocol):
    """Who acts in the envs of :func:`run_actors`. Env i begins with candidate i."""

    def start(self, env_index: int, candidate: int) -> None:
        """From now on, env ``env_index`` runs this candidate."""

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """(n_envs, n_obs) -> (n_envs, \\*action_shape) actions within the bounds."""

    def observe(self, rewards: np.ndarray) -> None:
        """See the (n_envs,) rewards of the step just made."""


class PolicyActors:
    """The policies of :func:`run_episodes`: each env has weights of its own, and rewards do not matter."""

    def __init__(
        self,
        layout: WeightLayout,
        policy_weights: th.Tensor,
        activation: nn.Module,
        action_map: ActionMap,
        normalize: Callable[[np.ndarray], np.ndarray],
        n_envs: int,
    ) -> None:
        self.layout, self.policy_weights, self.action_map, self.normalize = layout, policy_weights, action_map, normalize
        first = [i if i < len(policy_weights) else 0 for i in range(n_envs)]
        self.actor = BatchedActor(layout, policy_weights[first], activation)

    def start(self, env_index: int, candidate: int) -> None:
        """From now on, env ``env_index`` runs this policy."""
        self.actor.replace(env_index, self.policy_weights[candidate], self.layout)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions of the policies, without noise."""
        return self.action_map.to_env(self.actor(self.normalize(observations)))

    def observe(self, rewards: np.ndarray) -> None:
        """Rewards change nothing here."""


class _Run:
    """The episode that goes on in one env."""

    def __init__(self, candidate: int) -> None:
        self.candidate = candidate
        self.episode_return, self.length = 0.0, 0
        self.observations: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[np.ndarray] = []
        self.last_observation: np.ndarray | None = None
        self.terminated: bool | None = None
        self.return_curve: list[float] = []
        self.discarded: Discard | None = None
        self.full_length: int | None = None

    @property
    def must_end(self) -> bool:
        """Has it been discarded or pruned? Its env may make more steps if it cannot be stopped."""
        return self.discarded is not None or self.full_length is not None

    def discard(self, reason: str, is_fault: bool = False) -> None:
        """Nothing may be learned from this episode; the first reason stands."""
        self.discarded = self.discarded or Discard(reason, is_fault)

    def count(self, reward: float, done: bool, info: dict[str, Any], limits: np.ndarray | None) -> dict[str, Any]:
        """See one more step; returns the info that callbacks may see of it.

        :param limits: the candidate's ``lowest_returns`` of :func:`run_actors`.
        """
        self.length += 1
        self.episode_return += float(reward)
        if ENV_FAULT in info:
            self.discard(f"the env failed at step {self.length}:\n{info[ENV_FAULT]}", is_fault=True)
        if limits is not None:
            self.return_curve.append(self.episode_return)
            if not (done or self.must_end) and has_fallen_behind(self.episode_return, self.length, limits):
                self.full_length = len(limits) - 1
        if self.discarded is not None:
            return {DISCARDED: self.discarded.reason}
        if self.full_length is not None:  # whether it would have succeeded is not known
            return {key: value for key, value in info.items() if key != "is_success"} | {PRUNED: True}
        return info

    def keep(
        self, action: np.ndarray, reward: np.ndarray, observation: np.ndarray, done: bool, info: dict[str, Any], space: Any
    ) -> None:
        """Keep the action and reward of a step, and what was observed after it: before the reset, if the episode ended."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.last_observation = as_observations([info["terminal_observation"]], space)[0] if done else observation.copy()
        self.terminated = bool(done) and not info.get("TimeLimit.truncated", False)

    def to_episode(self) -> Episode:
        """The episode, which has ended."""
        return Episode(
            episode_return=self.episode_return,
            length=self.length,
            observations=np.stack(self.observations) if self.observations else None,
            actions=np.stack(self.actions) if self.actions else None,
            rewards=np.stack(self.rewards) if self.rewards else None,
            last_observation=self.last_observation,
            terminated=self.terminated,
            discarded=self.discarded,
            return_curve=np.array(self.return_curve) if self.return_curve else None,
            full_length=self.full_length,
        )


def run_episodes(
    env: VecEnv,
    layout: WeightLayout,
    policy_weights: th.Tensor,
    activation: nn.Module,
    action_map: ActionMap,
    normalize: Callable[[np.ndarray], np.ndarray],
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    keep_observations: bool = False,
) -> list[Episode] | None:
    """Run one episode of each policy and return the episodes in the order of the policies; see :func:`run_actors`.

    :param policy_weights: (n_policies, n_weights)
    :param normalize: raw -> normalized observations; must not change while the episodes run.
    """
    actors = PolicyActors(layout, policy_weights, activation, action_map, normalize, env.num_envs)
    return run_actors(env, actors, seeds, on_step=on_step, keep_observations=keep_observations)


def run_actors(
    env: VecEnv,
    actors: Actors,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    keep_observations: bool = False,
    keep_actions: bool = False,
    lowest_returns: Sequence[np.ndarray | None] | None = None,
    turns: Turns | None = None,
    next_seeds: Sequence[int] = (),
) -> list[Episode] | None:
    """Run one episode of each candidate and return the episodes in the order of the candidates.

    Every episode is one reset, seeded by its own seed, so what a candidate does depends neither on the number of envs
    nor on who ran before it. An env whose turn ends takes the next candidate; with none left it waits for the others. The
    envs of a VecEnv that cannot be reached one by one are not seeded, and step while they wait, which nobody counts.

    An episode is discarded if an observation, an action or a reward is not finite, or if the env failed. It ends there,
    unless a wrapper must see it out, and no such number gets into the env or into ``infos``.

    :param seeds: (n_candidates,) reset seeds.
    :param on_step: called after each ``env.step``; returning False abandons all running episodes.
    :param keep_observations: collect the raw observations of each episode.
    :param keep_actions: collect the actions and rewards of each episode.
    :param lowest_returns: (n_candidates,) of each candidate (length + 1,) returns, or None: an episode with a lower return
        after i steps than entry i, or the last one, is pruned, unless a wrapper must see it out. None: none is.
    :param turns: of ``env``, entered by the caller, where several calls follow each other; None: this call has its own,
        which let what an env raises through.
    :param next_seeds: (n_envs or fewer,) reset seeds with which the next call will begin: envs that are done get ready for it.
    :return: (n_candidates,) episodes; None if ``on_step`` returned False.
    """
    if turns is None:
        with make_turns(env, catches_faults=False) as turns:
            return run_actors(env, actors, seeds, on_step, keep_observations, keep_actions, lowest_returns, turns)
    episodes: list[Episode | None] = [None] * len(seeds)
    vec_normalize = unwrap_vec_normalize(env)
    can_cut = turns.are_seeded and not follows_episodes(env)
    limits = lowest_returns if lowest_returns is not None and can_cut else [None] * len(seeds)
    turns.begin(seeds, next_seeds)
    space: Any = env.observation_space
    observations = as_observations(turns.first_observations(), space)
    runs = [None if candidate is None else _Run(candidate) for candidate in turns.running]
    while active := [i for i, run in enumerate(runs) if run is not None]:
        _discard_broken(runs, turns.broken)
        if keep_observations:
            for i in active:
                runs[i].observations.append(observations[i])  # type: ignore[union-attr]
        observations = _only_finite("observation", observations, runs)
        actions = _only_finite("action", actors(observations), runs)
        stepped, rewards, ended, given = turns.step(actions)
        observations, dones, infos = as_observations(stepped, space), np.array(ended), list(given)  # copies
        raw_rewards = rewards if vec_normalize is None else vec_normalize.get_original_reward()
        raw_rewards = _only_finite("reward", raw_rewards.astype(np.float32), runs)
        actors.observe(raw_rewards)
        for i, run in enumerate(runs):
            if run is None:  # it waits, or its steps do not count
                raw_rewards[i], dones[i], infos[i] = 0.0, False, {}
                continue
            infos[i] = run.count(raw_rewards[i], dones[i], infos[i], limits[run.candidate])
            if keep_actions:
                run.keep(actions[i], raw_rewards[i], observations[i], dones[i], given[i], space)
            if run.full_length is not None:
                infos[i] |= monitor_record(env, i, run.episode_return, run.length, run.full_length, given[i])
        cut = [i for i in active if can_cut and not dones[i] and runs[i].must_end]  # type: ignore[union-attr]
        turns.see(dones)
        dones[cut] = True
        shown = raw_rewards if vec_normalize is None else only_finite(rewards)
        step = VecStep(len(active), dones, infos, observations, actions, shown)
        if on_step is not None and not on_step(step):
            return None
        for i in cut:
            if vec_normalize is not None:
                vec_normalize.returns[i] = 0  # it knows only of episodes that the env ended
            first: Any = turns.cut(i)[None]
            normalized: Any = first if vec_normalize is None else vec_normalize.normalize_obs(first)
            observations[i] = normalized[0]
        for i in map(int, np.flatnonzero(dones)):
            run = runs[i]
            assert run is not None
            episodes[run.candidate] = run.to_episode()
            candidate = turns.running[i]
            runs[i] = None if candidate is None else _Run(candidate)
            if candidate is not None:
                actors.start(i, candidate)
    turns.observations = observations
    return [episode for episode in episodes if episode is not None]


def _discard_broken(runs: Sequence[_Run | None], broken: set[int]) -> None:
    """Discard the episodes of the candidates into which a callback broke."""
    for run in runs if broken else ():
        if run is not None and run.candidate in broken:
            run.discard(f"{BREAKING}: {BREAKING_REMEDY}", is_fault=True)


def _only_finite(what: str, values: np.ndarray, runs: Sequence[_Run | None]) -> np.ndarray:
    """(n_envs, ...) values with zeros in place of NaN and infinity, for which the envs' episodes are discarded."""
    bad = list(find_non_finite(values))
    for i, number in bad:
        run = runs[i]
        if run is not None:
            run.discard(f"{what} {number} at step {run.length + 1}")
    return only_finite(values) if bad else values
