"""UDRLPG: upside-down reinforcement learning of policy generators.

Paper: "Upside Down Reinforcement Learning with Policy Generators", https://arxiv.org/abs/2501.16288. Reference code:
https://github.com/JacopoD/udrlpg_.

Differences from the reference code, in the default preset (``presets.UDRLPG_PAPER`` undoes those marked *):

- * Commands are standardized by the mean and standard deviation of the returns in the buffer, and the buckets divide the
  returns seen so far, so no return range is needed for each env.
- * A newcomer to a full bucket replaces the oldest policy there. The reference code turns it away.
- * The observation statistics stay as they are after 10,000 observations. What a stored policy does changes with them.
- * The exploration noise of a layer is ``weight_noise_std / sqrt(n_in)`` and falls during the training.
- * Smaller policies and hypernetworks, a larger learning rate that falls to 0, and gradient steps that follow the number of
  env steps.
- Warm-up policies differ: each gets noise of its own. In the reference code all of them are the same policy.
- ``bucket_size`` is the number of policies a bucket holds. The reference code holds one more than its setting.
- All env steps are counted. The reference code makes one more, uncounted episode without noise an iteration.
- Observation statistics change between iterations only, without the aliasing slip of the reference code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import LinearSchedule, update_learning_rate

from sb3_gogepo.base.generator_algorithm import GeneratorAlgorithm
from sb3_gogepo.base.logs import record_losses
from sb3_gogepo.buffers.bucket_buffer import BucketBuffer
from sb3_gogepo.checks import check_choice, check_number
from sb3_gogepo.networks.losses import regression_loss
from sb3_gogepo.networks.optimization import step_if_finite
from sb3_gogepo.udrlpg.policies import UDRLPGPolicy

#: Falls to 0: with a constant rate a good policy of Swimmer gets lost again (docs/udrlpg.md, "Results").
DEFAULT_LEARNING_RATE = LinearSchedule(start=1e-3, end=0.0, end_fraction=1.0)


class UDRLPG(GeneratorAlgorithm):
    """Learn a generator of policies for any return by regression onto the policies that acted, without an evaluator.

    ``UDRLPG("Hopper-v3")`` and ``UDRLPG("MlpPolicy", env)`` are both fine. See
    :class:`~sb3_gogepo.base.generator_algorithm.GeneratorAlgorithm` for the parameters that are not listed here and
    :class:`~sb3_gogepo.udrlpg.policies.UDRLPGPolicy` for ``policy_kwargs``.

    :param gradient_steps: generator steps a training round.
    :param buffer_size: policies kept; when all places are taken, the oldest goes.
    :param n_buckets: see :class:`~sb3_gogepo.buffers.bucket_buffer.BucketBuffer`.
    :param bucket_size: see there.
    :param rank_scale: see there.
    :param replace_in_bucket: who stays in a full bucket: ``"oldest"`` is replaced, or ``"none"`` and newcomers are turned
        away.
    :param n_warm_up_episodes: episodes with ``first_command`` before the first training.
    :param freeze_statistics_after: once the observation statistics know that many observations, they stay as they are.
        None: they never do.
    """

    policy: UDRLPGPolicy
    replay_buffer: BucketBuffer
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": UDRLPGPolicy}

    def __init__(
        self,
        policy: str | type[UDRLPGPolicy] | GymEnv = "MlpPolicy",
        env: GymEnv | str | Callable[[], gym.Env] | None = None,
        learning_rate: float | Schedule = DEFAULT_LEARNING_RATE,
        buffer_size: int = 10_000,
        batch_size: int = 16,
        n_buckets: int = 800,
        bucket_size: int = 10,
        rank_scale: float = 0.3,
        replace_in_bucket: str = "oldest",
        train_freq: int | tuple[int, str] = 250,
        gradient_steps: int = 50,
        n_warm_up_episodes: int = 10,
        freeze_statistics_after: int | None = 10_000,
        weight_noise_std: float = 1.0,
        final_weight_noise_std: float | None = 0.2,
        weight_noise_steps: int | None = None,
        weight_noise_scaling: str = "fan_in",
        probe_fraction: float = 0.0,
        probe_after: float = 0.0,
        first_command: float = 0.0,
        command_increment: float = 0.0,
        command_increment_std: float = 0.0,
        return_range: tuple[float, float] | None = None,
        fold_normalization: bool = False,
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
        check_number("gradient_steps", gradient_steps, minimum=0, integer=True)
        check_number("n_buckets", n_buckets, minimum=1, integer=True)
        check_number("bucket_size", bucket_size, minimum=1, integer=True)
        check_number("rank_scale", rank_scale, minimum=0)
        check_choice("replace_in_bucket", replace_in_bucket, ("oldest", "none"))
        check_number("n_warm_up_episodes", n_warm_up_episodes, minimum=0, integer=True)
        if freeze_statistics_after is not None:
            check_number("freeze_statistics_after", freeze_statistics_after, minimum=0, integer=True)
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
        self.gradient_steps = gradient_steps
        self.n_buckets = n_buckets
        self.bucket_size = bucket_size
        self.rank_scale = rank_scale
        self.replace_in_bucket = replace_in_bucket
        self.n_warm_up_episodes = n_warm_up_episodes
        self.freeze_statistics_after = freeze_statistics_after
        if _init_setup_model:
            self._require_env()
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.return_range is not None:
            low, high = self.return_range
            self.policy.command_scaler.set(offset=low, scale=high - low)

    def _make_replay_buffer(self) -> BucketBuffer:
        return BucketBuffer(
            buffer_size=self.buffer_size,
            n_weights=self.policy.layout.n_weights,
            n_buckets=self.n_buckets,
            bucket_size=self.bucket_size,
            rank_scale=self.rank_scale,
            replace_oldest=self.replace_in_bucket == "oldest",
            return_range=self.return_range,
            seed=self.run_seed,
            device=self.device,
        )

    @property
    def _updates_statistics(self) -> bool:
        limit = self.freeze_statistics_after
        return self.normalize_observations and (limit is None or self.policy.normalizer.count.item() < limit)

    def train(self, n_rounds: int) -> None:
        """``n_rounds`` times ``gradient_steps`` steps of regression."""
        if self.return_range is None:
            self.policy.command_scaler.fit(self.replay_buffer.stored_returns)
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        update_learning_rate(self.policy.generator_optimizer, learning_rate)
        losses = [self.train_generator() for _ in range(n_rounds * self.gradient_steps)]
        self._n_updates += n_rounds
        self.logger.record("train/learning_rate", learning_rate)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        record_losses(self, generator_loss=losses)

    def train_generator(self) -> th.Tensor:
        """One gradient step on (G(R) - theta)^2 over stored noisy policies; returns the loss (nan: no step)."""
        samples = self.replay_buffer.sample(self.batch_size)
        policy_weights = self.policy.layout.join(self.policy.generate_layers(samples.returns))
        loss = regression_loss(policy_weights, self.stored_weights(samples.policy_weights), samples.counts)
        return step_if_finite(self.policy.generator_optimizer, loss)
