"""Candidates -> episodes in a VecEnv: each env runs a candidate of its own, one batched forward acts for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    is_vecenv_wrapped,
    unwrap_vec_normalize,
)
from torch import nn

from sb3_gogepo.checks import as_observations
from sb3_gogepo.networks.normalization import Moments
from sb3_gogepo.networks.policy_weights import BatchedActor, WeightLayout
from sb3_gogepo.rollouts.faults import Discard, Discards
from sb3_gogepo.rollouts.pruning import EpisodePruner


class Episode(NamedTuple):
    """What one candidate did in one episode.

    ``episode_return`` is in the env's own reward units, without the alive bonus offset; ``observations`` are the raw
    ones the policy acted on, (length, n_obs), ``moments`` theirs, ``actions`` and ``rewards`` what it did and got; None
    when not asked for. Nothing may be learned from an episode that is ``discarded``. One that is ``pruned`` was ended early;
    ``return_curve``, (length,), is the return after each step, None where nobody is pruned.
    """

    episode_return: float
    length: int
    observations: np.ndarray | None
    actions: np.ndarray | None = None
    rewards: np.ndarray | None = None
    moments: Moments | None = None
    discarded: Discard | None = None
    return_curve: np.ndarray | None = None
    pruned: bool = False


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
        """Nothing."""


class ActionMap:
    """Last-layer outputs -> actions of the env: tanh onto a Box's bounds, argmax for Discrete.

    Inside :class:`~sb3_gogepo.GoGePo` the tanh output, in [-1, 1], or the logits serve as probing actions.
    """

    def __init__(self, action_space: spaces.Box | spaces.Discrete) -> None:
        self.action_space = action_space
        self.is_discrete = isinstance(action_space, spaces.Discrete)
        self.n_outputs = int(action_space.n) if isinstance(action_space, spaces.Discrete) else int(np.prod(action_space.shape))
        if isinstance(action_space, spaces.Box):
            # float64: high - low of a float32 space must not overflow
            low, high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
            self.center, self.half_range = (high + low) / 2, (high - low) / 2

    def squash(self, outputs: th.Tensor) -> th.Tensor:
        """What the evaluator sees of the last-layer outputs: tanh (Box) or the logits themselves (Discrete)."""
        return outputs if self.is_discrete else th.tanh(outputs)

    def squash_to_env_units(self, outputs: th.Tensor) -> th.Tensor:
        """:meth:`squash`, with a Box's actions in the env's own units."""
        if self.is_discrete:
            return outputs
        center, half_range = (
            th.as_tensor(part.ravel(), dtype=outputs.dtype, device=outputs.device) for part in (self.center, self.half_range)
        )
        return center + half_range * th.tanh(outputs)

    def choose(self, outputs: th.Tensor) -> th.Tensor:
        """What SB3's ``BasePolicy._predict`` returns: actions in [-1, 1] (Box), or the chosen ones (Discrete)."""
        if isinstance(self.action_space, spaces.Discrete):
            return outputs.argmax(dim=-1) + int(self.action_space.start)
        return th.tanh(outputs)

    def to_env(self, outputs: np.ndarray) -> np.ndarray:
        """(n, n_outputs) last-layer outputs -> (n, \\*action_shape) actions within the bounds."""
        if isinstance(self.action_space, spaces.Discrete):
            return outputs.argmax(axis=1) + int(self.action_space.start)
        unit = np.tanh(outputs, dtype=np.float64).reshape(len(outputs), *self.action_space.shape)
        actions = (self.center + self.half_range * unit).astype(self.action_space.dtype)
        return np.clip(actions, self.action_space.low, self.action_space.high)


def run_episodes(
    env: VecEnv,
    layout: WeightLayout,
    policy_weights: th.Tensor,
    activation: nn.Module,
    action_map: ActionMap,
    normalize: Callable[[np.ndarray], np.ndarray],
    seeds: Sequence[int],
    on_step: Callable[[int, list[dict[str, Any]], np.ndarray], bool] | None = None,
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
    on_step: Callable[[int, list[dict[str, Any]], np.ndarray], bool] | None = None,
    keep_observations: bool = False,
    keep_actions: bool = False,
    lowest_returns: np.ndarray | None = None,
) -> list[Episode] | None:
    """Run one episode of each candidate and return the episodes in the order of the candidates.

    Every episode starts with a reset seeded by its own seed, so what a candidate does depends neither on the number of
    envs nor on who ran before it. An env whose turn ends takes the next one; with none left it idles (it keeps
    stepping, which nobody counts) until the others are done. Under VecEnv wrappers that must see every reset, such as
    VecFrameStack, resets are not seeded.

    An episode is discarded if an observation, an action or a reward is not finite, or if the env failed. It ends there,
    unless a wrapper must see it out, and no such number gets into the env or into ``infos``.

    :param seeds: (n_candidates,) reset seeds.
    :param on_step: called after each ``env.step`` with the number of envs whose step counts, their infos and their
        dones; returning False abandons all running episodes.
    :param keep_observations: collect the raw observations of each episode.
    :param keep_actions: collect the actions and rewards of each episode.
    :param lowest_returns: (n,) an episode with a lower return after i steps than ``lowest_returns[i]``, or the last entry, is
        pruned, unless a wrapper must see it out. None: none is.
    :return: (n_candidates,) episodes; None if ``on_step`` returned False.
    """
    n_candidates, n_envs = len(seeds), env.num_envs
    vec_normalize = unwrap_vec_normalize(env)
    # envs may give others than their space says, which DummyVecEnv casts and SubprocVecEnv does not; normalized are float32
    dtype = env.observation_space.dtype if vec_normalize is None else None
    seeded = _resets_are_seeded(env)
    episodes: list[Episode | None] = [None] * n_candidates
    running: list[Any] = [i if i < n_candidates else None for i in range(n_envs)]  # candidate of each env; None: it idles
    waiting = iter(range(n_envs, n_candidates))
    if seeded:
        reset_counters(env)
        observations = np.stack([_reset(env, i, seeds[k or 0]) for i, k in enumerate(running)])
    else:
        observations = as_observations(env.reset(), env.observation_space)
    can_end_early = seeded and not is_vecenv_wrapped(env, VecMonitor)
    returns, lengths = np.zeros(n_envs), np.zeros(n_envs, dtype=int)
    seen: list[list[np.ndarray]] = [[] for _ in range(n_envs)]
    done: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(n_envs)]  # (action, reward)
    discards = Discards(n_envs)
    pruner = EpisodePruner(n_envs, lowest_returns if can_end_early else None)

    while active := [i for i in range(n_envs) if running[i] is not None]:
        if keep_observations:
            for i in active:
                seen[i].append(observations[i])
        observations = discards.only_finite("observation", observations, lengths)
        actions = discards.only_finite("action", actors(observations), lengths)
        stepped, rewards, dones, infos = env.step(actions)
        observations = as_observations(stepped, env.observation_space, dtype)  # a copy: a VecEnv may reuse its own
        raw_rewards = rewards if vec_normalize is None else vec_normalize.get_original_reward()
        raw_rewards = raw_rewards.astype(np.float32)  # DummyVecEnv gives float32, SubprocVecEnv float64: round both alike
        raw_rewards = discards.only_finite("reward", raw_rewards, lengths)
        returns += raw_rewards
        actors.observe(raw_rewards)
        if keep_actions:
            for i in active:
                done[i].append((actions[i], raw_rewards[i]))
        lengths += 1
        infos = discards.mark(infos, dones, lengths, can_end_early)
        pruner.mark(infos, dones, returns, lengths)
        if vec_normalize is not None:
            vec_normalize.returns[dones] = 0  # it knows only of those that the env ended
        if on_step is not None and not on_step(len(active), [infos[i] for i in active], dones[active]):
            return None
        for i in active:
            if not dones[i]:
                continue
            return_curve, pruned = pruner.pop(i)
            episodes[running[i]] = Episode(
                episode_return=float(returns[i]),
                length=int(lengths[i]),
                observations=np.stack(seen[i]) if keep_observations else None,
                actions=np.stack([action for action, _ in done[i]]) if keep_actions else None,
                rewards=np.stack([reward for _, reward in done[i]]) if keep_actions else None,
                discarded=discards.pop(i),
                return_curve=return_curve,
                pruned=pruned,
            )
            running[i] = next(waiting, None)
            returns[i], lengths[i], seen[i], done[i] = 0.0, 0, [], []
            if running[i] is not None:
                actors.start(i, running[i])
                if seeded:
                    observations[i] = _reset(env, i, seeds[running[i]])
    return [episode for episode in episodes if episode is not None]


def _resets_are_seeded(env: VecEnv) -> bool:
    """Can single envs be reset? Wrappers such as VecFrameStack must see every reset, so there the answer is no."""
    while isinstance(env, VecEnvWrapper):
        if not isinstance(env, (VecNormalize, VecMonitor, VecCheckNan)):
            return False
        env = env.venv
    return True


def _reset(env: VecEnv, index: int, seed: int) -> np.ndarray:
    """Seeded reset of one env of a VecEnv; (n_obs,), normalized if ``env`` is a VecNormalize."""
    observation, _ = env.env_method("reset", seed=int(seed), indices=index)[0]
    observation = as_observations([observation], env.observation_space, env.observation_space.dtype)[0]
    vec_normalize = unwrap_vec_normalize(env)
    return observation if vec_normalize is None else np.asarray(vec_normalize.normalize_obs(observation))


def reset_counters(env: VecEnv) -> None:
    """A VecMonitor must see a reset before seeded ones that it does not see. Nobody acts on what this reset observes, and it
    is not seeded: a VecNormalize learns nothing from it."""
    if not is_vecenv_wrapped(env, VecMonitor):
        return
    vec_normalize = unwrap_vec_normalize(env)
    if vec_normalize is None:
        env.reset()
        return
    was_training, vec_normalize.training = vec_normalize.training, False
    env.reset()
    vec_normalize.training = was_training
