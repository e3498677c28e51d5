"""GPIM's main figure, the data: normalised distance to held-out goals over env steps, beside three other ways to get there.

``python -m benchmarks.gpim --seeds 1 2 3 4 5`` runs what is missing in ``benchmarks/results/gpim``, one run after the
other in one thread, and can be stopped and started again; ``--dry-run`` lists it. ``python -m benchmarks.gpim_figures``
draws what is there.

Methods:

- ``gpim``: skill policy, discriminator and goal-conditioned policy learn together.
- ``two_stage``: the same in two stages, half of the steps each.
- ``sac_l2``: SB3's SAC with the negative distance to uniformly drawn goals as its reward. It is told the distance and the
  distribution of the goals, which GPIM is not.
- ``random``: uniform actions.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import CalledProcessError, run
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3 import SAC

from sb3_gogepo.common.archive import write_atomically
from sb3_gogepo.gpim import GPIM, Navigation2D
from sb3_gogepo.gpim.navigation import SIZE

RESULTS = Path(__file__).parent / "results" / "gpim"
EVAL_SEED = 1_000_000  # the k-th held-out goal of every evaluation comes from this + k
N_GOALS = 50
N_EVALUATIONS = 10
MAP_SIDE = 40

#: task -> the env's arguments and GPIM's
TASKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fixed": (dict(layout="walls"), {}),
    "image": (dict(layout="walls", goal_space="image"), {}),
    "dynamic": (dict(layout="open", goal_type="dynamic"), dict(goal_type="dynamic", segment_length=25)),
    "sequence": (dict(layout="open", goal_type="sequence", n_subgoals=2), dict(goal_type="sequence", segment_length=25)),
}
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
N_LATENTS = 50
TOTAL_STEPS = 20_000  # of both policies, where there are two

Act = Callable[[dict[str, np.ndarray]], np.ndarray]


class Run(NamedTuple):
    """One training run."""

    task: str
    method: str
    seed: int

    def path(self, suffix: str) -> Path:
        """The file of this run with ``suffix``, below :data:`RESULTS`."""
        return RESULTS / self.task / self.method / f"{self.seed}{suffix}"


class Evaluation(NamedTuple):
    """normalised_distance: mean distance over that of staying at the start; distances (n_goals,), positions, targets."""

    normalised_distance: float
    distances: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


def evaluate(act: Act, env_arguments: dict[str, Any]) -> Evaluation:
    """One episode for each of the held-out goals, all at once."""
    envs = [Navigation2D(**env_arguments) for _ in range(N_GOALS)]
    results = [env.reset(seed=EVAL_SEED + k) for k, env in enumerate(envs)]
    observations, infos = [result[0] for result in results], [result[1] for result in results]
    positions = [[info["position"]] for info in infos]
    targets: list[list[np.ndarray]] = [[] for _ in envs]
    scored: list[list[bool]] = [[] for _ in envs]
    for _ in range(envs[0].horizon):
        actions = act({key: np.stack([observation[key] for observation in observations]) for key in observations[0]})
        for k, env in enumerate(envs):
            observations[k], _, _, _, info = env.step(actions[k])
            positions[k].append(info["position"])
            targets[k].append(info["target"])
            scored[k].append(info["is_scored"])
    where, target, counts = np.array(positions), np.array(targets), np.array(scored)
    distances = np.array([np.linalg.norm(p[1:] - t, axis=1)[c].mean() for p, t, c in zip(where, target, counts, strict=True)])
    stayed = np.array([np.linalg.norm(p[:1] - t, axis=1)[c].mean() for p, t, c in zip(where, target, counts, strict=True)])
    return Evaluation(float(distances.mean() / stayed.mean()), distances, where, target)


def make_model(task: str, method: str, seed: int) -> Any:
    """GPIM or SAC, with the same networks and settings of SAC; None for ``random``."""
    env_arguments, gpim_arguments = TASKS[task]
    env = Navigation2D(**env_arguments)
    if method == "random":
        return None
    if method == "sac_l2":
        policy_kwargs: dict[str, Any] = dict(net_arch=NET_ARCH, optimizer_kwargs=dict(fused=True))
        return SAC("MultiInputPolicy", env, seed=seed, device="cpu", policy_kwargs=policy_kwargs, **SAC_SETTINGS)
    policy_kwargs = dict(net_arch=NET_ARCH, discriminator_net_arch=NET_ARCH, n_latents=N_LATENTS, discriminator_indices=[0, 1])
    skill_steps = TOTAL_STEPS // 2 if method == "two_stage" else None
    return GPIM(
        "MultiInputPolicy",
        env,
        seed=seed,
        device="cpu",
        policy_kwargs=policy_kwargs,
        skill_steps=skill_steps,
        **SAC_SETTINGS,
        **gpim_arguments,
    )


def execute(cell: Run, commit: str) -> None:
    """Train, evaluate along the way, and write ``.csv`` (the curve), ``.npz`` (episodes, reward map), then ``.json``."""
    th.set_num_threads(1)
    env_arguments = TASKS[cell.task][0]
    model = make_model(cell.task, cell.method, cell.seed)
    action_rng = np.random.default_rng(cell.seed)

    def act(observations: dict[str, np.ndarray]) -> np.ndarray:
        if model is None:
            return action_rng.uniform(-1, 1, size=(N_GOALS, 2))
        return model.predict(observations, deterministic=True)[0]

    lines = ["env_steps,goal_policy_steps,normalised_distance,mean_distance,share_within_1,cpu_seconds"]
    began, cpu = time.time(), time.process_time()
    for step in [0] if model is None else np.linspace(0, TOTAL_STEPS, N_EVALUATIONS + 1).astype(int):
        if step > 0:
            model.learn(max(step - model.num_timesteps, 1), reset_num_timesteps=model.num_timesteps == 0, log_interval=None)
        result = evaluate(act, env_arguments)
        made = 0 if model is None else model.num_timesteps
        lines.append(
            f"{made},{getattr(model, 'goal_timesteps', made)},{result.normalised_distance:.5f},{result.distances.mean():.5f},"
            f"{(result.distances < 1).mean():.3f},{time.process_time() - cpu:.1f}"
        )
        print(*cell, lines[-1], flush=True)
    arrays = dict(positions=result.positions.astype(np.float16), targets=result.targets.astype(np.float16))
    if isinstance(model, GPIM):
        arrays["log_q"] = reward_map(model).astype(np.float16)
    cell.path(".npz").parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(cell.path(".npz"), **arrays)  # type: ignore[arg-type]
    write_atomically(cell.path(".csv"), ("\n".join(lines) + "\n").encode(), suffix="")
    write_atomically(
        cell.path(".json"),
        (json.dumps(manifest(cell, commit, began, time.process_time() - cpu), indent=1) + "\n").encode(),
        suffix="",
    )


def map_positions() -> np.ndarray:
    """(MAP_SIDE ** 2, 2) centres of a grid over the plane, x changing fastest."""
    centers = (np.arange(MAP_SIDE) + 0.5) * SIZE / MAP_SIDE
    return np.stack(np.meshgrid(centers, centers), axis=-1).reshape(-1, 2)


def reward_map(model: GPIM) -> np.ndarray:
    """(MAP_SIDE ** 2, n_latents) log q(latent | s') on the grid."""
    n_obs = model.observation_space["observation"].shape[0]  # type: ignore[index]
    observations = th.zeros(MAP_SIDE**2, n_obs)
    observations[:, :2] = th.as_tensor(map_positions() / (SIZE / 2) - 1)
    with th.no_grad():
        return th.log_softmax(model.policy.discriminator(observations), dim=1).numpy()


def manifest(cell: Run, commit: str, began: float, cpu_seconds: float) -> dict[str, Any]:
    """Where a result comes from."""
    env_arguments, gpim_arguments = TASKS[cell.task]
    settings: dict[str, Any] = dict(net_arch=NET_ARCH, **SAC_SETTINGS) if cell.method != "random" else {}
    if cell.method in ("gpim", "two_stage"):
        settings |= dict(n_latents=N_LATENTS, discriminator_net_arch=NET_ARCH, discriminator_indices=[0, 1], **gpim_arguments)
    return {
        **cell._asdict(),
        "env": {"id": "Navigation2D-v0", **env_arguments},
        "settings": settings,
        "total_steps": TOTAL_STEPS,
        "n_goals": N_GOALS,
        "eval_seed": EVAL_SEED,
        "commit": commit,
        "finished": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(time.time() - began),
        "cpu_seconds": round(cpu_seconds),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("stable_baselines3", "torch", "gymnasium", "numpy")},
    }


def current_commit() -> str:
    """Hash of the checked-out commit, with ``+changes`` if the code differs from it; "unknown" without git."""
    try:
        head = run(["git", "rev-parse", "HEAD"], cwd=RESULTS.parents[1], capture_output=True, text=True, check=True).stdout
        status = ["git", "status", "--porcelain", "--", "../sb3_gogepo", "gpim.py"]
        changed = run(status, cwd=RESULTS.parents[1], capture_output=True, text=True, check=True).stdout
    except (OSError, CalledProcessError):
        return "unknown"
    return head.strip() + ("+changes" if changed else "")


def planned(seeds: list[int]) -> list[Run]:
    """All runs: random actions, then, seed by seed, those of the main figure and GPIM on the other kinds of goals."""
    others = [task for task in TASKS if task != "fixed"]
    runs = [Run(task, "random", seed) for seed in seeds for task in TASKS]
    for seed in seeds:
        runs += [Run("fixed", "gpim", seed), Run("fixed", "sac_l2", seed)]
        runs += [Run(task, "gpim", seed) for task in others]
        runs.append(Run("fixed", "two_stage", seed))
    return runs


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--dry-run", action="store_true", help="list what would be run")
    arguments = parser.parse_args()
    commit = current_commit()  # of the code that runs, whatever happens to the files later
    for cell in planned(arguments.seeds):
        if cell.task in arguments.tasks and not cell.path(".json").exists():
            print(*cell)
            if not arguments.dry_run:
                execute(cell, commit)


if __name__ == "__main__":
    main()
