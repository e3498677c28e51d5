"""GeneratorAlgorithm: what the algorithms that generate policy weights from commands share (GoGePo, UDRLPG).

One iteration: choose commands, generate policies, add noise to their weights, run one episode of each, store
(policy weights, command, return). A subclass brings its policy class, its buffer and
:meth:`~sb3_gogepo.base.command_algorithm.CommandAlgorithm.train`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.base.command_sweep import CommandSweep, fit_calibration, join_sweeps, warn_if_out_of_range
from sb3_gogepo.base.probing import Probing
from sb3_gogepo.base.weight_noise import WeightNoise
from sb3_gogepo.buffers.policy_buffer import BEST, PROBE
from sb3_gogepo.checks import check_bool, check_choice, check_fraction, check_number, check_range
from sb3_gogepo.networks.policies import GeneratedPolicy, GeneratorPolicy
from sb3_gogepo.networks.policy_weights import Layer
from sb3_gogepo.rollouts.faults import Discard
from sb3_gogepo.rollouts.rollout import Actors, Episode, PolicyActors, run_episodes


class PolicyCandidates(NamedTuple):
    """Policies about to act.

    :param commands: (n_candidates,) returns they were generated for.
    :param policy_weights: (n_candidates, n_weights) with noise, but for those that probe.
    :param seeds: (n_candidates,) of their env resets.
    :param noise_std: how large the noise of ``BEST`` is, in units of ``weight_noise_scaling``.
    :param kinds: (n_candidates,) ``BEST``: generated for the best command, with noise; ``PROBE``: for any command of the
        range, without; others are a subclass's.
    :param serials: (n_candidates,) serial number in the buffer of those that are run again.
    """

    commands: np.ndarray
    policy_weights: th.Tensor
    seeds: list[int]
    noise_std: float
    kinds: np.ndarray
    serials: np.ndarray


class GeneratorAlgorithm(CommandAlgorithm):
    """Base class of the algorithms that generate policy weights from commands.

    Parameters that are not listed here are those of
    :class:`~sb3_gogepo.base.command_algorithm.CommandAlgorithm`.

    :param weight_noise_std: standard deviation, at the start, of the Gaussian noise that is added to generated weights to
        explore; in units of ``weight_noise_scaling``.
    :param final_weight_noise_std: standard deviation that the noise reaches linearly, after ``weight_noise_steps`` or at the
        end of a shorter training. None: the noise stays as it is at the start.
    :param weight_noise_steps: env steps within which the noise reaches ``final_weight_noise_std``. None: the whole training.
    :param weight_noise_scaling: ``"fan_in"``: the noise of a weight is divided by ``sqrt(n_in)`` of its layer. ``"none"``:
        all weights have the same.
    :param probe_fraction: fraction of the candidates that probe: they act without noise on commands spread over
        ``command_range``, and are never pruned. From them the generator learns what its policies for other returns than the
        best earn, at the expense of the search for a better one. 0: none.
    :param probe_after: fraction of the training's env steps before which no candidate probes. Policies without noise soon fill
        the elites, and then hamper the search for a better one.
    :param first_command: command before there is a best return, and while warming up, in return units.
    :param command_increment: what exploration commands add to the best return so far, in return units.
    :param command_increment_std: what exploration commands add to it besides, in units of the scaled returns, which are
        standard deviations of the returns in the buffer. (In UDRL, the argument of this name bounds a random increment.)
    :param return_range: (lowest, highest) return by which returns and commands are scaled. None: they are scaled by the
        returns in the buffer.
    :param fold_normalization: store policies with the observation normalization folded into their first layer, so that a
        stored policy goes on acting as it did when the observation statistics change. False: what it does changes with
        them, and no longer matches its stored return.
    :raises ValueError: naming the argument, for any value outside its range.
    """

    policy: GeneratorPolicy

    def __init__(
        self,
        *,
        weight_noise_std: float,
        final_weight_noise_std: float | None,
        weight_noise_steps: int | None,
        weight_noise_scaling: str,
        probe_fraction: float,
        probe_after: float,
        first_command: float,
        command_increment: float,
        command_increment_std: float,
        return_range: tuple[float, float] | None,
        fold_normalization: bool,
        **kwargs: Any,
    ) -> None:
        check_number("weight_noise_std", weight_noise_std, minimum=0)
        if final_weight_noise_std is not None:
            check_number("final_weight_noise_std", final_weight_noise_std, minimum=0)
        if weight_noise_steps is not None:
            check_number("weight_noise_steps", weight_noise_steps, minimum=1, integer=True)
        check_choice("weight_noise_scaling", weight_noise_scaling, ("fan_in", "none"))
        check_fraction("probe_fraction", probe_fraction)
        check_fraction("probe_after", probe_after)
        check_number("first_command", first_command)
        check_number("command_increment", command_increment)
        check_number("command_increment_std", command_increment_std)
        if return_range is not None:
            check_range("return_range", return_range)
        check_bool("fold_normalization", fold_normalization)
        super().__init__(**kwargs)
        self.weight_noise_std = weight_noise_std
        self.final_weight_noise_std = final_weight_noise_std
        self.weight_noise_steps = weight_noise_steps
        self.weight_noise_scaling = weight_noise_scaling
        self.probe_fraction = probe_fraction
        self.probe_after = probe_after
        self.first_command = first_command
        self.command_increment = command_increment
        self.command_increment_std = command_increment_std
        self.return_range = return_range
        self.fold_normalization = fold_normalization

    def next_kinds(self, n_candidates: int) -> np.ndarray:
        """(n_candidates,) how the next candidates come about, see :class:`PolicyCandidates`."""
        kinds = np.full(n_candidates, BEST)
        may_probe = 1 - self._current_progress_remaining >= self.probe_after
        if may_probe and self.best_return is not None and not self.is_warming_up:
            kinds[[self.probing.is_probe(self._candidate_num + i) for i in range(n_candidates)]] = PROBE
        return kinds

    def next_commands(self, kinds: np.ndarray) -> np.ndarray:
        """(n_candidates,) commands to try next, in return units: the best return so far plus the increment.

        Before there is one, and while warming up, ``first_command``. Of those that probe, one from ``command_range``.

        :param kinds: (n_candidates,)
        """
        if self.best_return is None or self.is_warming_up:
            return np.full(len(kinds), self.first_command)
        increment = self.command_increment + self.command_increment_std * self._return_scale()
        commands = np.full(len(kinds), self.best_return + increment)
        low, high = self.command_range
        for i in np.flatnonzero(kinds == PROBE):
            commands[i] = low + self.probing.place(self._candidate_num + int(i)) * (high - low)
        return commands

    def _return_scale(self) -> float:
        """Return units that the networks see as 1."""
        return float(self.policy.command_scaler.scale)

    @property
    def weight_noise(self) -> WeightNoise:
        """The exploration noise, by the arguments as they are now."""
        return WeightNoise(
            self.weight_noise_std, self.final_weight_noise_std, self.weight_noise_steps, self.weight_noise_scaling
        )

    def propose_candidates(self, n_candidates: int) -> PolicyCandidates:
        """Generate the next policies and add exploration noise.

        A candidate's noise and reset seed derive from the run's seed and its number alone.
        """
        kinds = self.next_kinds(n_candidates)
        commands = self.next_commands(kinds)
        generated = self.policy.generate_weights(commands).cpu()
        policy_weights = generated.clone()
        rngs = [self._candidate_rng(i) for i in range(n_candidates)]
        noise_std = self.weight_noise.std(self._current_progress_remaining, self._total_timesteps)
        self.weight_noise.add(policy_weights, noise_std, self.policy.layout, rngs)
        policy_weights[kinds == PROBE] = generated[kinds == PROBE]
        seeds = [int(rng.integers(2**31)) for rng in rngs]
        return PolicyCandidates(commands, policy_weights, seeds, noise_std, kinds, serials=np.full(n_candidates, -1))

    @property
    def probing(self) -> Probing:
        """Which candidates probe, by the arguments as they are now."""
        return Probing(self.probe_fraction, self.run_seed)

    def reset_seed(self, index: int) -> int:
        """The reset seed of a candidate; 0: the next one. Its generator draws the noise first."""
        rng = self._candidate_rng(index)
        rng.standard_normal(self.policy.layout.n_weights, dtype=np.float32)
        return int(rng.integers(2**31))

    def make_actors(self, candidates: PolicyCandidates, chosen: slice, n_envs: int) -> Callable[[], Actors]:
        """Policies of the chosen candidates, with the observation statistics as they are now."""
        return partial(
            PolicyActors,
            self.policy.layout,
            # zeros for weights that are not finite, which are found in check_candidate; a view would be pickled as a whole
            candidates.policy_weights[chosen].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0),
            self.policy.activation,
            self.policy.action_map,
            self.policy.normalizer.frozen(),
            n_envs,
        )

    def check_candidate(self, candidates: PolicyCandidates, index: int) -> Discard | None:
        """Weights that are not finite must not get into the buffer."""
        n_bad = int((~th.isfinite(candidates.policy_weights[index])).sum())
        if n_bad:
            reason = f"{n_bad} of {candidates.policy_weights.shape[1]} generated weights are not finite"
        elif not bool(th.isfinite(self._to_store(candidates, index)).all()):
            reason = "generated weights are too large for float32 with the observation normalization folded in"
        else:
            return None
        return Discard(f"{reason} (command {candidates.commands[index]:g})", is_fault=False)

    def store_episode(self, candidates: PolicyCandidates, index: int, episode: Episode, episode_return: float) -> None:
        """Put the policy that acted into the buffer."""
        self.replay_buffer.add(self._to_store(candidates, index), candidates.commands[index], episode_return)

    def _to_store(self, candidates: PolicyCandidates, index: int) -> th.Tensor:
        """(n_weights,) what the buffer keeps of a candidate."""
        return self._change_first_layer(self.policy.normalizer.fold, candidates.policy_weights[index : index + 1])[0]

    def stored_weights(self, policy_weights: th.Tensor) -> th.Tensor:
        """(n_policies, n_weights) from the buffer -> the same for observations as normalized now."""
        return self._change_first_layer(self.policy.normalizer.unfold, policy_weights)

    def _change_first_layer(self, change: Callable[[Layer], Layer], policy_weights: th.Tensor) -> th.Tensor:
        """(n_policies, n_weights) with ``change`` applied to the first layers; as they are without ``fold_normalization``."""
        if not self.fold_normalization:
            return policy_weights
        first, *others = self.policy.layout.split(policy_weights)
        return self.policy.layout.join([change(first), *others])

    def _log_candidates(self, candidates: PolicyCandidates) -> None:
        if candidates.kinds[-1] != PROBE:
            super()._log_candidates(candidates)
        self.logger.record("train/weight_noise_std", candidates.noise_std)

    def generate_policy(self, command: float) -> GeneratedPolicy:
        """A stand-alone SB3 policy generated for ``command`` (return units), with its own ``save`` and ``load``."""
        policy = self.policy.generate_policy(command)
        warn_if_out_of_range(self, [command])
        return policy

    def export(self, path: str | os.PathLike[str], command: float | None = None) -> Path:
        """Write a file that acts as ``predict(deterministic=True)`` without this package: ONNX, or a torch.export program.

        See :func:`~sb3_gogepo.export.export_model`. ONNX needs the extra ``export``.

        :param path: ``.onnx`` or ``.pt2``; ``.onnx`` is added to a path without suffix.
        :param command: the return, in return units, whose policy is written; None: the whole generator, a policy with a
            knob, whose inputs are ``observation`` and ``command``.
        :return: the file.
        :raises ValueError: naming the argument, for what cannot be exported. Nothing is written then.
        """
        from sb3_gogepo.export import export_model  # few models are exported

        written = export_model(self, path, command)
        if command is not None:
            warn_if_out_of_range(self, [command])
        return written

    def calibrate(
        self, env: GymEnv | None = None, n_commands: int = 41, n_eval_episodes: int = 5, seed: int = 0
    ) -> CommandSweep:
        """Measure what commands over ``command_range`` earn, and from then on command what earns the return asked for.

        The map from asked to commanded is monotone, and adopted only if, fitted on one half of the episodes, it brings
        returns nearer to what is asked in the other half; otherwise, and after the next ``learn``, there is none.
        ``predict``, ``generate_policy`` and ``evaluate_commands`` use it. It is saved with the model.

        :param env: where to run; None: the training env (not in a callback's ``on_step``).
        :param n_commands: spread evenly over the range. Many commands with few episodes make a better map than few with
            many: neighbours share their luck, but what lies between two commands is only interpolated.
        :param n_eval_episodes: episodes a command.
        :param seed: the k-th episode of each command is reset with ``seed + k``.
        :return: what was measured, before the calibration.
        :raises ValueError: for fewer than 2 commands or episodes a command, or if there is no env, or it is needed by the
            training; the model is unchanged then.
        """
        check_number("n_commands", n_commands, minimum=2, integer=True)
        check_number("n_eval_episodes", n_eval_episodes, minimum=2, integer=True)
        before = copy.deepcopy(self.policy.calibration.state_dict())
        self.policy.calibration.reset()
        commands, n_first = np.linspace(*self.command_range, n_commands), n_eval_episodes // 2
        try:
            first = self.evaluate_commands(commands, n_first, env, seed)
            second = self.evaluate_commands(commands, n_eval_episodes - n_first, env, seed + n_first)
        except BaseException:
            self.policy.calibration.load_state_dict(before)
            raise
        fit_calibration(self.policy.calibration, first, second)
        self.policy.forget_acting_weights()
        return join_sweeps(first, n_first, second, n_eval_episodes - n_first)

    def _start_learning(self, *args: Any, **kwargs: Any) -> Any:
        self.policy.calibration.reset()  # the generator will move on
        return super()._start_learning(*args, **kwargs)

    def run_commands(self, env: VecEnv, commands: np.ndarray, seeds: list[int]) -> list[Episode]:
        """One episode for each of (n_commands,) commands and each seed, by the noise-free policies; command-major."""
        return self.run_policies(env, self.policy.generate_calibrated(commands), seeds)

    def run_policies(self, env: VecEnv, policy_weights: th.Tensor, seeds: list[int]) -> list[Episode]:
        """One episode for each of (n_policies, n_weights) policies and each seed; policy-major."""
        episodes = run_episodes(
            env,
            self.policy.layout,
            policy_weights.cpu().repeat_interleave(len(seeds), dim=0),
            self.policy.activation,
            self.policy.action_map,
            self.policy.normalizer.frozen(),
            seeds * len(policy_weights),
        )
        assert episodes is not None
        return episodes
