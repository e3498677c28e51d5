"""The runs of GPIM's figures: which there are, their models, and where their files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3 import SAC

from benchmarks.gpim.tasks import TASKS
from sb3_gogepo.gpim import GPIM
from sb3_gogepo.gpim.navigation import SIZE

RESULTS = Path(__file__).parents[1] / "results" / "gpim"
MAP_SIDE = 40

METHODS = ("gpim", "sac_l2", "two_stage", "random")
#: what all SACs have in common
SAC_SETTINGS: dict[str, Any] = dict(
    learning_rate=1e-3,
    buffer_size=20_000,
    learning_starts=1000,
    batch_size=128,
    tau=0.02,
    gamma=0.95,
    train_freq=4,
    ent_coef=0.1,
)
NET_ARCH = [64, 64]
POLICY_KWARGS: dict[str, Any] = dict(net_arch=NET_ARCH, discriminator_net_arch=NET_ARCH, n_latents=50)


class Run(NamedTuple):
    """One training run."""

    task: str
    method: str
    seed: int

    def path(self, suffix: str) -> Path:
        """The file of this run with ``suffix``, below :data:`RESULTS`."""
        return RESULTS / self.task / self.method / f"{self.seed}{suffix}"


def settings_of(name: str, method: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments, ``policy_kwargs``) of a task's model, but for the seed and what makes it two-stage; empty for ``random``."""
    task = TASKS[name]
    if method == "random":
        return {}, {}
    settings = {**SAC_SETTINGS, **task.sac_arguments}
    if method == "sac_l2":
        return settings, dict(net_arch=NET_ARCH)
    return {**settings, **task.gpim_arguments}, {**POLICY_KWARGS, **task.policy_kwargs}


def make_model(name: str, method: str, seed: int) -> Any:
    """GPIM or SAC for a task, with the same networks and settings of SAC; None for ``random``."""
    if method == "random":
        return None
    task = TASKS[name]
    settings, policy_kwargs = settings_of(name, method)
    common: dict[str, Any] = dict(policy="MultiInputPolicy", env=task.make(), seed=seed, device="cpu")
    if method == "sac_l2":
        return SAC(**common, policy_kwargs={**policy_kwargs, "optimizer_kwargs": dict(fused=True)}, **settings)
    skill_steps = task.total_steps // 2 if method == "two_stage" else None
    return GPIM(**common, policy_kwargs=policy_kwargs, **{"skill_steps": skill_steps, **settings})


def map_positions() -> np.ndarray:
    """(MAP_SIDE ** 2, 2) centres of a grid over the plane, x changing fastest."""
    centers = (np.arange(MAP_SIDE) + 0.5) * SIZE / MAP_SIDE
    return np.stack(np.meshgrid(centers, centers), axis=-1).reshape(-1, 2)
