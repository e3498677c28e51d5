"""GPIM's main figure, the data: normalized distance to held-out goals over env steps, beside three other ways to get there.

``python -m benchmarks.gpim --seeds 1 2 3 4 5`` runs what is missing in ``benchmarks/results/gpim``, one run after the
other in one thread, and can be stopped and started again; ``--dry-run`` lists it. ``python -m benchmarks.gpim.figures``
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
from importlib.metadata import version
from typing import Any

import numpy as np
import torch as th

from benchmarks.gpim.runs import MAP_SIDE, Run, make_model, map_positions, settings_of
from benchmarks.gpim.tasks import EVAL_SEED, N_GOALS, TASKS, evaluate
from benchmarks.run.manifest import commit as current_commit
from sb3_gogepo.gpim import GPIM
from sb3_gogepo.gpim.navigation import SIZE
from sb3_gogepo.saving.archive import write_atomically


def execute(cell: Run, commit: str) -> None:
    """Train, evaluate along the way, and write ``.csv`` (the curve), ``.npz`` (episodes, reward map), then ``.json``."""
    th.set_num_threads(1)
    task = TASKS[cell.task]
    model = make_model(cell.task, cell.method, cell.seed)
    action_rng = np.random.default_rng(cell.seed)
    action_shape = task.make().action_space.shape or ()

    def act(observations: dict[str, np.ndarray]) -> np.ndarray:
        if model is None:
            return action_rng.uniform(-1, 1, size=(N_GOALS, *action_shape))
        return model.predict(observations, deterministic=True)[0]

    lines = [f"env_steps,goal_policy_steps,normalized_distance,mean_distance,share_within_{task.radius:g},cpu_seconds"]
    began, cpu = time.time(), time.process_time()
    for step in [0] if model is None else np.linspace(0, task.total_steps, task.n_evaluations + 1).astype(int):
        if step > 0:
            model.learn(max(step - model.num_timesteps, 1), reset_num_timesteps=model.num_timesteps == 0, log_interval=None)
        result = evaluate(act, task)
        made = 0 if model is None else model.num_timesteps
        lines.append(
            f"{made},{getattr(model, 'goal_timesteps', made)},{result.normalized_distance:.5f},{result.distances.mean():.5f},"
            f"{(result.distances < task.radius).mean():.3f},{time.process_time() - cpu:.1f}"
        )
        print(*cell, lines[-1], flush=True)
    arrays = dict(positions=result.positions.astype(np.float16), targets=result.targets.astype(np.float16))
    if isinstance(model, GPIM) and task.env_id == "Navigation2D-v0":
        arrays["log_q"] = reward_map(model).astype(np.float16)
    cell.path(".npz").parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(cell.path(".npz"), **arrays)  # type: ignore[arg-type]
    write_atomically(cell.path(".csv"), ("\n".join(lines) + "\n").encode(), suffix="")
    write_atomically(
        cell.path(".json"),
        (json.dumps(manifest(cell, commit, began, time.process_time() - cpu), indent=1) + "\n").encode(),
        suffix="",
    )


def reward_map(model: GPIM) -> np.ndarray:
    """(MAP_SIDE ** 2, n_latents) log q(latent | s') on the grid."""
    n_obs = model.observation_space["observation"].shape[0]  # type: ignore[index]
    observations = th.zeros(MAP_SIDE**2, n_obs)
    observations[:, :2] = th.as_tensor(map_positions() / (SIZE / 2) - 1)
    with th.no_grad():
        return th.log_softmax(model.policy.discriminator(observations), dim=1).numpy()


def manifest(cell: Run, commit: str, began: float, cpu_seconds: float) -> dict[str, Any]:
    """Where a result comes from."""
    task = TASKS[cell.task]
    arguments, policy_kwargs = settings_of(cell.task, cell.method)
    return {
        **cell._asdict(),
        "env": {"id": task.env_id, **task.env_arguments},
        "settings": arguments | policy_kwargs,
        "total_steps": task.total_steps,
        "n_goals": N_GOALS,
        "eval_seed": EVAL_SEED,
        "commit": commit,
        "finished": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(time.time() - began),
        "cpu_seconds": round(cpu_seconds),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("stable_baselines3", "torch", "gymnasium", "numpy")},
    }


def planned(seeds: list[int]) -> list[Run]:
    """All runs: random actions, then, seed by seed, those of the main figure and GPIM on the other tasks."""
    runs = [Run(name, "random", seed) for seed in seeds for name, task in TASKS.items() if "random" in task.methods]
    for seed in seeds:
        runs += [Run(name, method, seed) for name, task in TASKS.items() for method in task.methods if method != "random"]
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
