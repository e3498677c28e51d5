"""BufferPair: what the two policies did, put where each can learn from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sb3_gogepo.gpim.latent_buffer import LatentBuffer
from sb3_gogepo.gpim.relabelling import Relabelled
from sb3_gogepo.gpim.rollout import GoalEpisode, LatentSchedule
from sb3_gogepo.rollouts.faults import warn

NOT_FINITE = "an episode is discarded: an observation, an achieved goal or an action is not finite"


class BufferPair:
    """The steps of the skill policy and those of the goal-conditioned policy, saved together."""

    def __init__(self, skill: LatentBuffer, goal: LatentBuffer) -> None:
        self.skill, self.goal = skill, goal

    def seed(self, seed: int) -> None:
        """Start both buffers' random generators anew."""
        skill_seed, goal_seed = np.random.SeedSequence(seed).generate_state(2)
        self.skill.seed(int(skill_seed))
        self.goal.seed(int(goal_seed))

    def __len__(self) -> int:
        return len(self.skill) + len(self.goal)

    def add_skills(self, skills: list[GoalEpisode], latents: LatentSchedule) -> int:
        """Store (s, a, s', latent) of episodes of the skill policy; returns the number of steps stored.

        The observation after a segment's last step has the next segment's latent, as it had in the episode; that after the
        episode's last step keeps its own.

        :param skills: episodes of the skill policy.
        :param latents: the latents on which the skill policy acted in them.
        """
        n_steps = 0
        for i, episode in enumerate(skills):
            if not episode.is_finite():
                warn(NOT_FINITE)
                continue
            of_step = latents.of_steps(i, episode.length)
            observations = {"observation": episode.observations, "latent": np.append(of_step, of_step[-1])}
            self.skill.add_episode(observations, episode.actions, of_step, episode.terminated)
            n_steps += episode.length
        return n_steps

    def add_goals(
        self, episodes: list[GoalEpisode], goals: list[Relabelled], skills: list[GoalEpisode], latents: LatentSchedule
    ) -> int:
        """Store (s, g, a, s', latent, source) of episodes of the goal-conditioned policy; returns the number of steps stored.

        :param episodes: episodes of the goal-conditioned policy.
        :param goals: goals of each episode. An episode that is longer than its goals keeps the last one.
        :param skills: episodes of the skill policy, from which the goals come.
        :param latents: the latents on which the skill policy acted in them.
        """
        n_steps = 0
        for i, (episode, goal, skill) in enumerate(zip(episodes, goals, skills, strict=True)):
            if not (episode.is_finite() and skill.is_finite()):
                warn(NOT_FINITE)
                continue
            desired = goal.goals[np.minimum(np.arange(episode.length + 1), skill.length)]
            targets = goal.target_indices[np.minimum(np.arange(episode.length), skill.length - 1)]
            self.goal.add_episode(
                {"observation": episode.observations, "desired_goal": desired},
                episode.actions,
                latents.of_steps(i, skill.length)[targets - 1],  # the skill policy's, when it got there
                episode.terminated,
                sources=skill.observations[targets],
            )
            n_steps += episode.length
        return n_steps

    def state_dict(self) -> dict[str, Any]:
        """Both buffers' state."""
        return {"skill": self.skill.state_dict(), "goal": self.goal.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.skill.load_state_dict(state["skill"])
        self.goal.load_state_dict(state["goal"])
