"""Policies as points: what they do in the probing states, projected onto a plane (Figure 4 of the GoGePo paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_gogepo.analysis.stages import Stage
from sb3_gogepo.networks.evaluator import Evaluator
from sb3_gogepo.networks.policy_weights import Layer, forward_policies

#: policies whose probing actions are computed at a time
CHUNK = 256


class Path(NamedTuple):
    """The generator at one stage: (n_commands,) commands and (n_commands, 2) points."""

    timesteps: int
    commands: np.ndarray
    points: np.ndarray


class PolicyMap(NamedTuple):
    """Where policies lie in the plane of the buffer's two main directions of behavior.

    :param points: (n_policies, 2), of policies of the buffer.
    :param returns: (n_policies,) what they achieved, in return units.
    :param paths: the generator's policies, a path a stage.
    :param explained: share of the variance of the buffer's probing actions along the two axes.
    :param probing: ``"learned"`` probing states of the evaluator, or ``"random"`` ones where there is no evaluator.
    """

    points: np.ndarray
    returns: np.ndarray
    paths: list[Path]
    explained: tuple[float, float]
    probing: str


def probing_actions(model: Any, policy_weights: th.Tensor, stored: bool = False) -> tuple[np.ndarray, str]:
    """(n_policies, n_weights) -> (n_policies, n_states * n_actions) probing actions, and which states they are of.

    :param model: an algorithm that generates policies. Without learned probing states, 50 states are drawn from N(0, 1),
        where normalized observations lie, always the same ones.
    :param stored: are the policies out of the replay buffer, or generated?
    """
    policy = model.policy
    evaluator = getattr(policy, "evaluator", None)
    if isinstance(evaluator, Evaluator):
        probing, fingerprint = "learned", evaluator.fingerprint
    else:
        probing = "random"
        n_obs = policy.layout.layer_sizes[0]
        states = th.randn(50, n_obs, generator=th.Generator().manual_seed(0)).to(policy.device)

        def fingerprint(layers: Sequence[Layer]) -> th.Tensor:
            return policy.action_map.squash(forward_policies(layers, states, policy.activation)).flatten(1)

    chunks = []
    with th.no_grad():
        for chunk in th.split(policy_weights, CHUNK):
            weights = chunk.to(policy.device)
            if stored:
                weights = model.stored_weights(weights)
            chunks.append(fingerprint(policy.layout.split(weights)).cpu())
    return th.cat(chunks).double().numpy(), probing


def map_policies(model: Any, stages: Sequence[Stage] = (), max_policies: int = 2000) -> PolicyMap:
    """Principal components of the probing actions of the buffer's policies; the stages' policies in the same plane.

    :param model: GoGePo or UDRLPG with its replay buffer.
    :param max_policies: of a larger buffer that many are taken, evenly spaced in time.
    :raises ValueError: if the buffer holds fewer than three policies, or a stage's policies have another size.
    """
    state = model.replay_buffer.state_dict()
    weights, returns = state["policy_weights"], state["returns"].numpy()
    if len(weights) < 3:
        raise ValueError(f"the replay buffer must hold at least 3 policies, got {len(weights)}: load it with the model")
    chosen = np.unique(np.linspace(0, len(weights) - 1, min(max_policies, len(weights))).astype(int))
    actions, probing = probing_actions(model, weights[th.from_numpy(chosen)], stored=True)
    mean = actions.mean(axis=0)
    _, singular, directions = np.linalg.svd(actions - mean, full_matrices=False)
    directions = directions[:2]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1, keepdims=True), axis=1)
    directions = directions * np.sign(largest)  # a direction's sign is arbitrary: the same one on each machine
    directions = np.pad(directions, ((0, 2 - len(directions)), (0, 0)))  # a single probing action has one direction
    share = singular**2 / max(float((singular**2).sum()), 1e-12)

    def project(vectors: np.ndarray) -> np.ndarray:
        return (vectors - mean) @ directions.T

    paths = [
        Path(stage.timesteps, stage.commands, project(probing_actions(model, stage.policy_weights)[0])) for stage in stages
    ]
    explained = (float(share[0]), float(share[1]) if len(share) > 1 else 0.0)
    return PolicyMap(project(actions), returns[chosen], paths, explained, probing)


class ProbingStates(NamedTuple):
    """The probing states of all evaluators, the most influential first.

    :param states: (n_states, n_obs), normalized observations.
    :param influence: (n_states,) share of the state's actions in the size of the gradient of the predicted return.
    """

    states: np.ndarray
    influence: np.ndarray


def rank_probing_states(model: Any, commands: np.ndarray) -> ProbingStates:
    """Order the probing states by how much the predicted return depends on the actions there.

    :param model: GoGePo.
    :param commands: (n_commands,) returns; the influence is the mean over the policies generated for them.
    :raises ValueError: if the model has no probing states.
    """
    evaluator = getattr(model.policy, "evaluator", None)
    if not isinstance(evaluator, Evaluator):
        raise ValueError(f"model must be a GoGePo with probing states, got {type(model).__name__}")
    with th.no_grad():
        layers = model.policy.generate_layers(th.as_tensor(np.asarray(commands, dtype=np.float64), device=model.policy.device))
        actions = evaluator.fingerprint(layers)
    actions.requires_grad_(True)
    (gradients,) = th.autograd.grad(evaluator.predict(actions).sum(), actions)
    states = evaluator.probing_states.detach().flatten(0, 1).cpu().numpy()
    # (n_commands, n_states * n_actions) -> (n_states,)
    influence = gradients.abs().mean(dim=0).unflatten(0, (len(states), -1)).sum(dim=1).cpu().numpy()
    order = np.argsort(-influence, kind="stable")
    return ProbingStates(states[order], influence[order] / max(float(influence.sum()), 1e-12))
