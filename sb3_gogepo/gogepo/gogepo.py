"""GoGePo: goal-conditioned generators of deep policies.

Paper: Faccio, Herrmann, Ramesh, Kirsch, Schmidhuber, "Goal-Conditioned Generators of Deep Policies", AAAI 2023,
https://arxiv.org/abs/2207.01570. Reference code: https://github.com/IDSIA/GoGePo.

Differences from the paper, in the default preset (docs/gogepo.md has the reasons; ``presets.PAPER`` undoes those marked *):

- * Returns and commands are standardized by the returns in the buffer; the next command is the best return so far.
- * The noise of a layer is ``weight_noise_std / sqrt(n_in)``, and falls during the training.
- * Two fifths of each batch, the elites, are drawn by rank of return; the generator is pulled towards their weights.
- * In the second half, every fourth candidate probes: it acts without noise, on any command, and is imitated.
- * Episodes that fall behind the best ten end early, where all last equally long; training begins after a warm-up.
- * Five independent evaluators, bounded weights, smaller networks, other learning rates, probing states from N(0, 1).
- * Stored policies go on acting as they did when the observation statistics change.
- On request, a state critic makes some of the candidates.
- Box bounds may differ between dimensions, and actions may be Discrete (argmax; probing actions are the logits).
- Observation statistics change between iterations only. Noise, env resets and buffer sampling are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule, update_learning_rate

from sb3_gogepo.base.generator_algorithm import GeneratorAlgorithm, PolicyCandidates
from sb3_gogepo.base.logs import record_losses
from sb3_gogepo.buffers.policy_buffer import ACTOR, BEST, KIND_NAMES, REFINED, RERUN, PolicyBuffer
from sb3_gogepo.buffers.transition_buffer import TransitionBuffer
from sb3_gogepo.checks import check_bool, check_fraction, check_number, check_schedule
from sb3_gogepo.gogepo.candidate_mix import choose_kind, critic_share, rerun_chance
from sb3_gogepo.gogepo.critic_learner import CRITIC_LEARNING_RATE, CriticLearner, CriticSettings, say_where_it_helps
from sb3_gogepo.gogepo.policies import GoGePoPolicy
from sb3_gogepo.networks.denormals import flush_denormals
from sb3_gogepo.networks.losses import batch_mean, evaluator_loss, generator_loss, weight_distances
from sb3_gogepo.networks.optimization import step_if_finite
from sb3_gogepo.rollouts.collector import Candidates
from sb3_gogepo.rollouts.rollout import Episode

#: Falls to 0: with a constant rate the final policy of InvertedPendulum is unsteady (docs/tried.md).
DEFAULT_LEARNING_RATE = LinearSchedule(start=5e-4, end=0.0, end_fraction=1.0)
#: Of the env steps in which the noise falls: warming up takes no larger share of them.
MAX_WARM_UP = 0.1


class GoGePo(GeneratorAlgorithm):
    """Learn a generator of policies for any return, and an evaluator that makes return differentiable.

    ``GoGePo("Hopper-v3")`` and ``GoGePo("MlpPolicy", env)`` are both fine. See
    :class:`~sb3_gogepo.base.generator_algorithm.GeneratorAlgorithm` for the parameters that are not listed here and
    :class:`~sb3_gogepo.gogepo.policies.GoGePoPolicy` for ``policy_kwargs``.

    Defaults that differ from ``presets.PAPER`` come from the runs in the documentation's "What was tried".

    :param learning_rate: of the generator; a number or a schedule. By default it falls to 0; with a critic it stays.
    :param evaluator_learning_rate: of the evaluator; a number or a schedule.
    :param evaluator_gradient_steps: evaluator steps a training round.
    :param generator_gradient_steps: generator steps a training round.
    :param buffer_size: policies kept, first in first out; four bytes a weight each.
    :param recency: see :class:`~sb3_gogepo.buffers.policy_buffer.PolicyBuffer`; for both networks.
    :param elite_fraction: part of a batch, the elites, that is drawn by rank of return; see there.
    :param even_fraction: part of a batch that is drawn evenly over the returns of the policies that probed; see there.
    :param imitation_coef: weight of the mean squared distance, in units of the exploration noise, between G(R) and the
        stored policy that reached R: its mean over the elites of a batch, plus its mean over the part drawn evenly.
        It adds to the generator's loss.
    :param probe_after: fraction of the training's env steps before which no candidate probes. None: 0.5; with a critic, whose
        actor does not depend on the elites, 0.
    :param n_warm_up_episodes: episodes with ``first_command`` before the first training; fewer, if they take more than a
        tenth of the env steps in which the noise falls.
    :param prune_after: end an episode early if, after this fraction of its steps or later, it has fallen behind the ten best,
        see :class:`~sb3_gogepo.rollouts.pruning.BestEpisodes`. Its return is stored as if it had gone on at its rate.
        Observation statistics see it, Monitors do not. None: no episode is; nor is one where episodes differ in length, or
        in wrappers that must see it out, such as VecMonitor and VecFrameStack.
    :param rerun_fraction: of the candidates, if returns were luck alone: it is multiplied by the share of luck in them, which
        these candidates measure. They are the best stored policies, run again. What is expected of a policy then takes the
        place of its return: in commands, among the elites, and as ``best_return``. 0: none, and a return is what it is.
    :param use_critic: learn from each step, too: twin critics and an actor as TD3's, in the space of the generated policies.
        Some of the candidates are then the actor with noisy weights, and policies generated for the best return and refined
        by the critics; of these and of ``BEST``, each kind gets the share that it earns.
    :param critic_kwargs: see :class:`~sb3_gogepo.gogepo.critic_learner.CriticSettings`.
    :param return_range: (lowest, highest) return, to scale by its width as the paper: commands are divided by it, and
        the evaluator predicts raw returns. None: standardize both by the returns in the buffer.
    """

    policy: GoGePoPolicy
    replay_buffer: PolicyBuffer
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": GoGePoPolicy}

    def __init__(
        self,
        policy: str | type[GoGePoPolicy] | GymEnv = "MlpPolicy",
        env: GymEnv | str | Callable[[], gym.Env] | None = None,
        learning_rate: float | Schedule = DEFAULT_LEARNING_RATE,
        evaluator_learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 4_000,
        batch_size: int = 20,
        recency: float = 1.1,
        elite_fraction: float = 0.4,
        even_fraction: float = 0.2,
        imitation_coef: float = 3.0,
        train_freq: int | tuple[int, str] = 250,
        evaluator_gradient_steps: int = 10,
        generator_gradient_steps: int = 10,
        weight_noise_std: float = 1.5,
        final_weight_noise_std: float | None = 0.2,
        weight_noise_steps: int | None = 250_000,
        weight_noise_scaling: str = "fan_in",
        probe_fraction: float = 0.25,
        probe_after: float | None = None,
        n_warm_up_episodes: int = 64,
        prune_after: float | None = 0.25,
        rerun_fraction: float = 0.0,
        use_critic: bool = False,
        critic_kwargs: dict[str, Any] | None = None,
        first_command: float = 0.0,
        command_increment: float = 0.0,
        command_increment_std: float = 0.0,
        return_range: tuple[float, float] | None = None,
        fold_normalization: bool = True,
        n_candidates: int | None = None,
        alive_bonus_offset: float | None = None,
        normalize_observations: bool = True,
        on_non_finite: str = "discard",
        rollout_backend: str = "in-process",
        rollout_workers: int | None = None,
        rollout_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_schedule("evaluator_learning_rate", evaluator_learning_rate)
        check_number("evaluator_gradient_steps", evaluator_gradient_steps, minimum=0, integer=True)
        check_number("generator_gradient_steps", generator_gradient_steps, minimum=0, integer=True)
        check_number("recency", recency, minimum=0)
        check_fraction("elite_fraction", elite_fraction)
        check_fraction("even_fraction", even_fraction)
        check_number("imitation_coef", imitation_coef, minimum=0)
        check_number("n_warm_up_episodes", n_warm_up_episodes, minimum=0, integer=True)
        if prune_after is not None:
            check_fraction("prune_after", prune_after)
        check_fraction("rerun_fraction", rerun_fraction)
        check_bool("use_critic", use_critic)
        settings = CriticSettings.of(critic_kwargs)
        if use_critic:
            policy_kwargs = settings.complete(policy_kwargs or {})
            learning_rate = CRITIC_LEARNING_RATE if learning_rate is DEFAULT_LEARNING_RATE else learning_rate
        if probe_after is None:
            probe_after = 0.0 if use_critic else 0.5
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            batch_size=batch_size,
            train_freq=train_freq,
            weight_noise_std=weight_noise_std,
            final_weight_noise_std=final_weight_noise_std,
            weight_noise_steps=weight_noise_steps,
            weight_noise_scaling=weight_noise_scaling,
            probe_fraction=probe_fraction,
            probe_after=probe_after,
            first_command=first_command,
            command_increment=command_increment,
            command_increment_std=command_increment_std,
            return_range=return_range,
            fold_normalization=fold_normalization,
            n_candidates=n_candidates,
            alive_bonus_offset=alive_bonus_offset,
            normalize_observations=normalize_observations,
            on_non_finite=on_non_finite,
            rollout_backend=rollout_backend,
            rollout_workers=rollout_workers,
            rollout_kwargs=rollout_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
        )
        self.evaluator_learning_rate = evaluator_learning_rate
        self.evaluator_gradient_steps = evaluator_gradient_steps
        self.generator_gradient_steps = generator_gradient_steps
        self.recency = recency
        self.elite_fraction = elite_fraction
        self.even_fraction = even_fraction
        self.imitation_coef = imitation_coef
        self.n_warm_up_episodes = n_warm_up_episodes
        self.prune_after = prune_after
        self.rerun_fraction = rerun_fraction
        self.use_critic = use_critic
        self.critic_kwargs = critic_kwargs
        self._n_critic_updates = 0
        if _init_setup_model:
            self._require_env()
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.return_range is not None:
            self.policy.command_scaler.set(offset=0.0, scale=self.return_range[1] - self.return_range[0])

    def _make_replay_buffer(self) -> PolicyBuffer:
        size, spaces = CriticSettings.of(self.critic_kwargs).buffer_size, (self.observation_space, self.action_space)
        return PolicyBuffer(
            buffer_size=self.buffer_size,
            n_weights=self.policy.layout.n_weights,
            recency=self.recency,
            elite_fraction=self.elite_fraction,
            even_fraction=self.even_fraction,
            seed=self.run_seed,
            device=self.device,
            transitions=TransitionBuffer(size, spaces, self.run_seed, self.device) if self.use_critic else None,
        )

    @property
    def critic_learner(self) -> CriticLearner | None:
        """Trains the state critic; None without one."""
        transitions = self.replay_buffer.transitions
        if transitions is None:
            return None
        return CriticLearner.of(self.policy, transitions, self.critic_kwargs, self._current_progress_remaining)

    @property
    def keeps_steps(self) -> bool:
        """A critic learns from them."""
        return self.use_critic

    def _start_learning(self, *args: Any, **kwargs: Any) -> Any:
        if self.verbose and not self.use_critic:
            say_where_it_helps(self.env)
        return super()._start_learning(*args, **kwargs)

    def _return_scale(self) -> float:
        return float(self.policy.return_scaler.scale)

    @property
    def is_warming_up(self) -> bool:
        """Has there been no training, in ``n_warm_up_episodes`` and a tenth of the env steps in which the noise falls?"""
        is_early = self.num_timesteps < MAX_WARM_UP * self.weight_noise.steps_of(self._total_timesteps)
        return super().is_warming_up and self._n_updates == 0 and is_early

    def _lowest_returns(self, candidates: PolicyCandidates) -> list[np.ndarray | None]:
        """Those that probe are seen out: their returns must be true."""
        if self.prune_after is None:
            return super()._lowest_returns(candidates)
        lowest_returns = self.replay_buffer.best_episodes.lowest_returns(self.prune_after)
        return [lowest_returns if kind == BEST else None for kind in candidates.kinds]

    def next_kinds(self, n_candidates: int) -> np.ndarray:
        """Of those that do not probe, some may be run again, the actor's, or refined."""
        kinds = super().next_kinds(n_candidates)
        learner, buffer = self.critic_learner, self.replay_buffer
        share = critic_share(buffer) if learner is not None and learner.has_started else 0.0
        chance = 0.0 if self.is_warming_up or len(buffer) < n_candidates else rerun_chance(self.rerun_fraction, buffer)
        for i in map(int, np.flatnonzero(kinds == BEST)):
            kinds[i] = choose_kind(share, chance, self.run_seed, self._candidate_num + i)
        return kinds

    def propose_candidates(self, n_candidates: int) -> PolicyCandidates:
        """As usual, but for those that a critic makes, and those that are run again."""
        candidates = super().propose_candidates(n_candidates)
        learner = self.critic_learner
        for i in map(int, np.flatnonzero(np.isin(candidates.kinds, (ACTOR, REFINED)))):
            assert learner is not None
            is_refined = candidates.kinds[i] == REFINED
            generated = self.policy.generate_weights(candidates.commands[i : i + 1])[0] if is_refined else None
            noise = th.zeros(1, self.policy.layout.n_weights)
            self.weight_noise.add(noise, 1.0, self.policy.layout, [self._candidate_rng(i)])
            candidates.policy_weights[i] = learner.candidate(generated, noise[0].to(self.device)).cpu()
        again = candidates.kinds == RERUN
        if again.any():
            candidates.serials[again], stored, candidates.commands[again] = self.replay_buffer.best_policies(int(again.sum()))
            candidates.policy_weights[again] = self.stored_weights(stored)
        return candidates

    def store_episode(self, candidates: PolicyCandidates, index: int, episode: Episode, episode_return: float) -> None:
        """Put the policy that acted into the buffer, and measure others by the episode if it was not pruned."""
        kind = int(candidates.kinds[index])
        if kind == RERUN:
            self.replay_buffer.add_run(int(candidates.serials[index]), episode_return)
        else:
            self.replay_buffer.add(self._to_store(candidates, index), candidates.commands[index], episode_return, kind=kind)
        if self.critic_learner is not None:
            self.critic_learner.add(episode, self.policy.action_map)
            self.logger.record_mean(f"rollout/ep_rew_{KIND_NAMES[kind]}", episode_return)
        if episode.return_curve is not None and not episode.pruned:
            # without the alive bonus offset: it is the same for all episodes of one length
            self.replay_buffer.best_episodes.add(episode.return_curve)
        if self.prune_after is not None:
            self.logger.record_mean("rollout/prune_rate", episode.pruned)

    def store_episodes(self, candidates: Candidates, episodes: list[Episode]) -> None:
        """As usual; once it is known how much of a return is luck, the best one is the best that can be expected.

        With a critic, a record that stands for long is no longer asked for.
        """
        super().store_episodes(candidates, episodes)
        if self.use_critic and len(self.replay_buffer):
            self.highest_command = self.replay_buffer.best_but_for_luck
        luck = self.replay_buffer.measured_luck()
        if luck is not None:
            self.logger.record("train/luck", luck.share)
            self.logger.record("train/best_episode_return", self.best_episode_return)
            self.best_return = float(self.replay_buffer.expected_returns.max())
            self.logger.record("train/best_return", self.best_return)

    def _train_if_due(self, episodes: list[Episode]) -> None:
        """As without a critic, after its own updates, with which it does not wait for the end of the warm-up."""
        learner = self.critic_learner
        if learner is not None and learner.has_started:
            first, self._n_critic_updates = self._n_critic_updates, learner.n_updates_due()
            with flush_denormals():
                record_losses(self, **learner.train(first, self._n_critic_updates))
        super()._train_if_due(episodes)

    def train(self, n_rounds: int) -> None:
        """The evaluator steps of ``n_rounds`` rounds, then the generator steps (Algorithm 1, lines 8-15)."""
        self._update_scalers()
        self._update_learning_rates()
        evaluator_losses = [self.train_evaluator() for _ in range(n_rounds * self.evaluator_gradient_steps)]
        generator_losses = [self.train_generator() for _ in range(n_rounds * self.generator_gradient_steps)]
        self._n_updates += n_rounds
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        record_losses(self, evaluator_loss=evaluator_losses, generator_loss=generator_losses)

    def train_evaluator(self) -> th.Tensor:
        """One gradient step on (V(theta) - R)^2 over stored noisy policies; returns the loss (nan: no step)."""
        samples = self.replay_buffer.sample(min(self.batch_size, len(self.replay_buffer)))
        layers = self.policy.layout.split(self.stored_weights(samples.policy_weights))
        returns = self.policy.return_scaler(samples.returns)
        loss = evaluator_loss(self.policy.evaluator, layers, returns, samples.counts)
        return step_if_finite(self.policy.evaluator_optimizer, loss)

    def train_generator(self) -> th.Tensor:
        """One gradient step on (V(G(c)) - c)^2 over commands that are stored returns; returns the loss (nan: no step).

        Where c is the return of an elite or of a policy drawn evenly, ``imitation_coef`` also pulls G(c) towards its weights.
        """
        samples = self.replay_buffer.sample(min(self.batch_size, len(self.replay_buffer)))
        self.policy.evaluator.requires_grad_(False)  # its gradients are not needed: save computing them
        layers = self.policy.generate_layers(samples.expected_returns)
        commands = self.policy.return_scaler(samples.expected_returns)
        loss = generator_loss(self.policy.evaluator, layers, commands, samples.counts)
        parts = [(self.imitation_coef, samples.elite_counts), (self.imitation_coef, samples.even_counts)]
        if self.critic_learner is not None:
            parts.append((self.critic_learner.settings.imitation_coef, samples.critic_counts))
        if any(coef for coef, _ in parts):
            policy_weights, stored = self.policy.layout.join(layers), self.stored_weights(samples.policy_weights)
            fan_in = self.policy.layout.fan_in().to(self.device)  # so that a weight's error is in units of the noise
            distances = weight_distances(policy_weights, stored, fan_in)
            for coef, counts in parts:
                loss = loss + coef * batch_mean(distances, counts)
        loss = step_if_finite(self.policy.generator_optimizer, loss)
        self.policy.evaluator.requires_grad_(True)
        return loss

    def _command_the_best(self) -> None:
        """With a critic, no more than the evaluators expect of the best return, which may be one lucky episode."""
        super()._command_the_best()
        if self.use_critic:
            assert self.best_return is not None
            self.policy.command = min(self.command, float(self.policy.predict_returns([self.best_return])[0]))

    def _update_scalers(self) -> None:
        """Without a given return range, scale by the returns in the buffer."""
        if self.return_range is None:
            self.policy.command_scaler.fit(self.replay_buffer.stored_returns)
            self.policy.return_scaler.fit(self.replay_buffer.stored_returns)

    def _update_learning_rates(self) -> None:
        progress = self._current_progress_remaining
        learning_rate = self.lr_schedule(progress)
        self.logger.record("train/learning_rate", learning_rate)
        update_learning_rate(self.policy.generator_optimizer, learning_rate)
        update_learning_rate(self.policy.evaluator_optimizer, FloatSchedule(self.evaluator_learning_rate)(progress))
