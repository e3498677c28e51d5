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


class GeneratorPath(NamedTuple):
    """Where the generator's policies lay at one stage of the training, from the lowest command to the highest.

    :param timesteps: env steps of the training up to then.
    :param commands: (n_commands,) commands, in return units.
    :param points: (n_commands, 2) points of the policies generated for them.
    """

    timesteps: int
    commands: np.ndarray
    points: np.ndarray


class PolicyMap(NamedTuple):
    """Where policies lie in the plane of the buffer's two main directions of behavior.

    :param points: (n_policies, 2) points of the buffer's policies.
    :param returns: (n_policies,) returns that the buffer's policies achieved, in return units.
    :param paths: points of the generator's policies, one path for each stage.
    :param explained: share of the variance of the buffer's probing actions along each of the two axes.
    :param probing: which states policies are compared in: the evaluator's ``"learned"`` probing states, or ``"random"``
        ones where there is no evaluator.
    """

    points: np.ndarray
    returns: np.ndarray
    paths: list[GeneratorPath]
    explained: tuple[float, float]
    probing: str


def probing_actions(model: Any, policy_weights: th.Tensor, stored: bool = False) -> tuple[np.ndarray, str]:
    """What policies do in the probing states.

    :param model: an algorithm that generates policies. If it has no learned probing states, 50 states are drawn from
        N(0, 1), where normalized observations lie; they are always the same ones.
    :param policy_weights: (n_policies, n_weights) weights of the policies.
    :param stored: True: the weights come from the replay buffer; False: from the generator.
    :return: (n_policies, n_states * n_actions) probing actions, and ``"learned"`` or ``"random"``: the kind of the states.
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
    """Place policies by the first two principal components of the probing actions of the buffer's policies.

    :param model: GoGePo or UDRLPG with its replay buffer.
    :param stages: the generator's policies at stages of the training, which are placed in the same plane.
    :param max_policies: number of policies taken of a larger buffer, evenly spaced in time.
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
        GeneratorPath(stage.timesteps, stage.commands, project(probing_actions(model, stage.policy_weights)[0]))
        for stage in stages
    ]
    explained = (float(share[0]), float(share[1]) if len(share) > 1 else 0.0)
    return PolicyMap(project(actions), returns[chosen], paths, explained, probing)


class ProbingStates(NamedTuple):
    """The probing states of all evaluators, the most influential first.

    :param states: (n_states, n_obs) probing states, which are normalized observations.
    :param influence: (n_states,) share of each state's actions in the size of the gradient of the predicted return.
    """

    states: np.ndarray
    influence: np.ndarray


def rank_probing_states(model: Any, commands: np.ndarray) -> ProbingStates:
    """Order the probing states by how much the predicted return depends on the actions there.

    :param model: a GoGePo.
    :param commands: (n_commands,) commands. The influence is the mean over the policies generated for them.
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
