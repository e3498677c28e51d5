"""GPIM: goal-conditioned policies learned from intrinsic rewards, over SB3's SAC.

Paper: Liu, Wang, Tian, Chen, "Learn Goal-Conditioned Policy with Intrinsic Motivation for Deep Reinforcement Learning",
AAAI 2022, https://arxiv.org/abs/2104.05043. There is no code by its authors that we know of; DIAYN's
(https://github.com/ben-eysenbach/sac) is the nearest. What the paper leaves open, and what is done here:
``docs/gpim.md``, "Gaps in the paper".

Differences from the paper: none that are meant. Where its text does not say, the choice is marked "ours" there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import update_learning_rate

from sb3_gogepo.base.learning_algorithm import LearningAlgorithm
from sb3_gogepo.checks import check_action_space, check_sb3_arguments
from sb3_gogepo.envs import make_env
from sb3_gogepo.gpim.buffer_pair import BufferPair
from sb3_gogepo.gpim.checks import SETTINGS, check_box_has_width, check_goal_space, check_goals_are_raw, check_settings
from sb3_gogepo.gpim.latent_buffer import LatentBuffer
from sb3_gogepo.gpim.learner import SACLearner
from sb3_gogepo.gpim.policies import GPIMPolicy
from sb3_gogepo.gpim.relabelling import Relabelled, goal_errors, relabel
from sb3_gogepo.gpim.rollout import GoalEpisode, LatentSchedule, run_goal_episodes
from sb3_gogepo.rollouts.collector import StepCounter
from sb3_gogepo.rollouts.faults import only_finite
from sb3_gogepo.rollouts.rollout import VecStep
from sb3_gogepo.saving.picklefree_algorithm import draw_seed

SelfGPIM = TypeVar("SelfGPIM", bound="GPIM")


class GPIM(LearningAlgorithm):
    """Learn to reach goals without rewards and without a distance between state and goal.

    A *skill policy* acts on a random latent; a *discriminator* guesses the latent from the states the skill policy reaches.
    These states become the goals of the *goal-conditioned policy*, which earns the same reward, log q(latent | s') - log
    p(latent), without seeing the latent. The env's own reward is not used.

    ``env`` is a goal env: its observation is a Dict of ``observation``, ``achieved_goal`` and ``desired_goal``. Wrap an env
    of flat observations in :class:`~sb3_gogepo.gpim.goal_wrapper.GoalWrapper`. See
    :class:`~sb3_gogepo.gpim.policies.GPIMPolicy` for ``policy_kwargs``. Parameters are SB3's, except:

    :param buffer_size: number of steps kept of each of the two policies.
    :param learning_starts: number of env steps during which each policy acts randomly at first and is not trained.
    :param train_freq: each network makes one gradient step every ``train_freq`` env steps of its policy.
    :param ent_coef: entropy coefficient of both SACs; it is fixed.
    :param discriminator_learning_rate: learning rate of the discriminator; None: that of ``learning_rate``.
    :param goal_type: what the goal-conditioned policy is asked to reach. ``"fixed"``: where the skill ended; ``"dynamic"``:
        a goal that moves with the skill; ``"sequence"``: the list of the places where the skill's segments ended.
    :param segment_length: number of steps after which the skill policy gets a new latent; None: it keeps one for an
        episode. ``goal_type="sequence"`` needs a number.
    :param infer_latents: which latent rewards the goal-conditioned policy. True: those that the present discriminator sees
        in the state behind the goal, averaged; False: the one on which the skill policy reached that state.
    :param skill_steps: number of env steps of a first stage, in which only skill policy and discriminator learn; then they
        are frozen, and only the goal-conditioned policy learns. None: there are no stages, all networks learn together.
    :raises ValueError: naming the argument, for any value outside its range, unsupported spaces, or an unknown env.
    """

    policy: GPIMPolicy
    replay_buffer: BufferPair
    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MultiInputPolicy": GPIMPolicy}

    def __init__(
        self,
        policy: str | type[GPIMPolicy] = "MultiInputPolicy",
        env: GymEnv | str | Callable[[], gym.Env] | None = None,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 100_000,
        learning_starts: int = 1000,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int = 1,
        ent_coef: float = 0.1,
        discriminator_learning_rate: float | None = None,
        goal_type: str = "fixed",
        segment_length: int | None = None,
        infer_latents: bool = True,
        skill_steps: int | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        if not (policy in self.policy_aliases or (isinstance(policy, type) and issubclass(policy, BasePolicy))):
            raise ValueError(f"policy must be one of {', '.join(self.policy_aliases)} or a policy class, got {policy!r}")
        given = locals()
        check_settings({name: given[name] for name in SETTINGS})
        check_sb3_arguments(stats_window_size, tensorboard_log, policy_kwargs, verbose, seed)
        if env is not None:
            env = self._wrap_env(make_env(env, verbose), verbose)
            if _init_setup_model:  # `load` knows the goal type later, and checks that the spaces are the saved ones
                check_goal_space(env.observation_space, goal_type, segment_length)
            if isinstance(env.action_space, spaces.Discrete):
                raise ValueError(f"GPIM supports Box action spaces, as SAC does, got {env.action_space}")
            check_action_space(env.action_space, "GPIM")
            check_box_has_width(env.action_space)
            check_goals_are_raw(env)
        super().__init__(
            policy=policy,
            env=env,
            learning_rate=learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Box,),
        )
        self.buffer_size = buffer_size
        self.learning_starts = learning_starts
        self.batch_size = batch_size
        self.tau = tau
        self.gamma = gamma
        self.train_freq = train_freq
        self.ent_coef = ent_coef
        self.discriminator_learning_rate = discriminator_learning_rate
        self.goal_type = goal_type
        self.segment_length = segment_length
        self.infer_latents = infer_latents
        self.skill_steps = skill_steps
        self.run_seed = draw_seed() if seed is None else int(seed)
        self._iteration_num = 0
        self.skill_timesteps = 0
        self.goal_timesteps = 0
        self._untrained_skill_steps = 0
        self._untrained_goal_steps = 0
        if _init_setup_model:
            self._require_env()
            self._setup_model()

    # ------------------------------------------------------------------ set-up

    def _make_replay_buffer(self) -> BufferPair:
        """Two empty buffers that compute their rewards with the discriminator."""
        discriminator = self.policy.discriminator
        by_latent, by_source = discriminator.reward_by_latent, discriminator.reward_by_source
        settings: Any = dict(buffer_size=self.buffer_size, action_space=self.action_space, device=self.device)
        skill_space: Any = self.policy.skill_policy.observation_space
        goal_space: Any = self.policy.goal_policy.observation_space
        buffers = BufferPair(
            LatentBuffer(observation_space=skill_space, reward_function=by_latent, **settings),
            LatentBuffer(
                observation_space=goal_space, reward_function=by_source if self.infer_latents else by_latent, **settings
            ),
        )
        buffers.seed(self.run_seed)
        return buffers

    def _make_learners(self) -> tuple[SACLearner, SACLearner]:
        """SAC for the skill policy and for the goal-conditioned policy, on the present buffers."""
        settings: Any = dict(learning_rate=self.lr_schedule, tau=self.tau, gamma=self.gamma, ent_coef=self.ent_coef)
        return (
            SACLearner(self.policy.skill_policy, self.replay_buffer.skill, **settings),
            SACLearner(self.policy.goal_policy, self.replay_buffer.goal, **settings),
        )

    # ------------------------------------------------------------------ learning

    def learn(
        self: SelfGPIM,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 10,
        tb_log_name: str = "GPIM",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfGPIM:
        """Train for at least ``total_timesteps`` env steps; the last iteration's episodes are finished.

        :param total_timesteps: number of env steps of both policies, all envs together; ``1e6`` is fine.
        :param log_interval: number of iterations between two log entries; None: no log.
        :raises ValueError: if ``total_timesteps`` is no number >= 1, ``log_interval`` < 1, or there is no env.
        """
        self._check_learn(total_timesteps, log_interval)
        total_steps, callback = self._start_learning(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        learners, steps = self._make_learners(), StepCounter(self, callback)
        while self.num_timesteps < total_steps:
            self._update_current_progress_remaining(self.num_timesteps, total_steps)
            with th.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                if not self._run_iteration(*learners, steps):
                    break
            if log_interval is not None and self._iteration_num % log_interval == 0:
                self.logger.record("time/goal_timesteps", self.goal_timesteps)
                self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
                OffPolicyAlgorithm.dump_logs(self)  # type: ignore[arg-type]
        callback.on_training_end()
        return self

    def _run_iteration(self, skill_learner: SACLearner, goal_learner: SACLearner, steps: StepCounter) -> bool:
        """One episode of each policy in each env, then the gradient steps that are due. False if the callback said stop."""
        seeds = np.random.SeedSequence(entropy=self.run_seed, spawn_key=(self._iteration_num,))
        rng = np.random.default_rng(seeds)
        th.manual_seed(int(rng.integers(2**63)))
        is_skill_stage = self.skill_steps is None or self.skill_timesteps < self.skill_steps
        is_goal_stage = self.skill_steps is None or not is_skill_stage
        steps.callback.on_rollout_start()
        latents = LatentSchedule(rng, self.n_envs, self.policy.n_latents, self.segment_length)
        skills = self.collect_skills(rng, latents, steps)
        if skills is None:
            return False
        goals = [self.relabel(episode.achieved) for episode in skills]
        episodes = self.collect_goals(rng, goals, steps) if is_goal_stage else []
        if episodes is None:
            return False
        steps.callback.on_rollout_end()
        self._iteration_num += 1
        self._episode_num += len(skills) + len(episodes)
        if is_skill_stage:
            self._untrained_skill_steps += self.replay_buffer.add_skills(skills, latents)
        if is_goal_stage:
            self._untrained_goal_steps += self.replay_buffer.add_goals(episodes, goals, skills, latents)
            self._log_distance(episodes, goals, skills)
        n_skill, n_goal = self._n_gradient_steps()
        self.train_skills(skill_learner, n_skill)
        self.train_goals(goal_learner, n_goal)
        return True

    def _n_gradient_steps(self) -> tuple[int, int]:
        """How many gradient steps are due for each policy. Those due during ``learning_starts`` are never made."""
        n_skill, self._untrained_skill_steps = divmod(self._untrained_skill_steps, self.train_freq)
        n_goal, self._untrained_goal_steps = divmod(self._untrained_goal_steps, self.train_freq)
        trains_skill = self.skill_timesteps > self.learning_starts and len(self.replay_buffer.skill) > 0
        trains_goal = self.goal_timesteps > self.learning_starts and len(self.replay_buffer.goal) > 0
        return n_skill * trains_skill, n_goal * trains_goal

    def collect_skills(
        self, rng: np.random.Generator, latents: LatentSchedule, steps: StepCounter
    ) -> list[GoalEpisode] | None:
        """One episode of the skill policy in each env, acting on the latents; None if the callback said stop."""
        return self._run_episodes(rng, self.policy.skill_policy, "latent", latents, "skill_timesteps", steps)

    def collect_goals(self, rng: np.random.Generator, goals: list[Relabelled], steps: StepCounter) -> list[GoalEpisode] | None:
        """One episode of the goal-conditioned policy in each env, on the relabelled goals; None if the callback said stop."""

        def desired(step: int) -> np.ndarray:
            return only_finite(np.stack([goal.goals[min(step, len(goal.goals) - 1)] for goal in goals]))

        return self._run_episodes(rng, self.policy.goal_policy, "desired_goal", desired, "goal_timesteps", steps)

    def _random_actions(self, rng: np.random.Generator) -> np.ndarray:
        assert isinstance(self.action_space, spaces.Box)
        low, high = self.action_space.low, self.action_space.high
        return rng.uniform(low, high, size=(self.n_envs, *low.shape)).astype(self.action_space.dtype)

    def _run_episodes(
        self,
        rng: np.random.Generator,
        policy: BasePolicy,
        key: str,
        values: Callable[[int], np.ndarray],
        counter: str,
        steps: StepCounter,
    ) -> list[GoalEpisode] | None:
        """One episode of ``policy`` in each env, or of random actions at first; None if the callback said stop.

        :param key: what the policy observes besides ``observation``.
        :param values: number of the step -> (n_envs, ...) what it observes under ``key``.
        :param counter: name of the attribute that counts the policy's env steps.
        """

        def act(observations: dict[str, np.ndarray], step: int) -> np.ndarray:
            if getattr(self, counter) < self.learning_starts:
                return self._random_actions(rng)
            seen = {"observation": observations["observation"], key: values(step)}
            return policy.predict(seen, deterministic=False)[0]

        def on_step(step: VecStep) -> bool:
            setattr(self, counter, getattr(self, counter) + step.n_active)
            return steps(step)

        assert self.env is not None
        episodes = run_goal_episodes(self.env, act, rng.integers(2**31, size=self.n_envs).tolist(), on_step=on_step)
        if episodes is None or not steps.ask():
            return None
        return [episode._replace(actions=self.policy.scale_action(episode.actions)) for episode in episodes]

    def relabel(self, achieved: np.ndarray) -> Relabelled:
        """f_kappa: (length + 1, \\*achieved_shape) achieved goals of a skill's episode -> goals of ``goal_type``."""
        assert isinstance(self.observation_space, spaces.Dict)
        desired, reached = (self.observation_space[key].shape or () for key in ("desired_goal", "achieved_goal"))
        return relabel(achieved, self.goal_type, self.segment_length, n_segments=int(np.prod(desired) // np.prod(reached)))

    def _log_distance(self, episodes: list[GoalEpisode], goals: list[Relabelled], skills: list[GoalEpisode]) -> None:
        """Log the mean distance to the targets, divided by the mean distance of staying at the start."""
        errors = [
            goal_errors(episode.achieved, skill.achieved[goal.target_indices], goal.is_scored)
            for episode, goal, skill in zip(episodes, goals, skills, strict=True)
        ]
        reached, stayed = np.mean(errors, axis=0)
        if stayed > 0 and np.isfinite(reached / stayed):
            self.logger.record_mean("rollout/normalized_distance", float(reached / stayed))

    # ------------------------------------------------------------------ training

    def train_skills(self, learner: SACLearner, gradient_steps: int) -> None:
        """Make gradient steps of the discriminator, then of the skill policy's SAC."""
        if gradient_steps == 0:
            return
        rate = self.discriminator_learning_rate
        learning_rate = self.lr_schedule(self._current_progress_remaining) if rate is None else rate
        update_learning_rate(self.policy.discriminator_optimizer, learning_rate)
        results = th.tensor([self.train_discriminator() for _ in range(gradient_steps)])
        self._n_updates += gradient_steps
        loss, accuracy = results.mean(dim=0).tolist()
        self.logger.record("train/discriminator_loss", loss)
        self.logger.record("train/discriminator_accuracy", accuracy)
        self._train_sac("skill", learner, gradient_steps)

    def train_discriminator(self) -> tuple[float, float]:
        """One gradient step that raises log q(latent | s') on steps of the skill policy; returns loss and accuracy."""
        samples = self.replay_buffer.skill.sample_latents(self.batch_size)
        logits = self.policy.discriminator(samples.next_observations)
        loss = th.nn.functional.cross_entropy(logits, samples.latents)
        self.policy.discriminator_optimizer.zero_grad()
        loss.backward()
        self.policy.discriminator_optimizer.step()
        return loss.item(), float((logits.argmax(dim=1) == samples.latents).float().mean())

    def train_goals(self, learner: SACLearner, gradient_steps: int) -> None:
        """Make gradient steps of the goal-conditioned policy's SAC."""
        if gradient_steps:
            self._train_sac("goal", learner, gradient_steps)

    def _train_sac(self, name: str, learner: SACLearner, gradient_steps: int) -> None:
        losses = learner.train_steps(gradient_steps, self.batch_size, self._current_progress_remaining)
        for key, value in losses.items():
            self.logger.record(f"train/{name}_{key}", value)
