"""Result files as cells write them, with made-up numbers: for tests of the report, never for the report itself."""

import numpy as np

from benchmarks.run.layout import CURVE_COLUMNS, N_EVAL_EPISODES, Cell, write_json, write_rows


def write_cell(results, cell, returns, n_timesteps, seconds_a_step=0.001, cpu="made up", threads=1, **manifest):
    """A cell whose evaluations, evenly spread over ``n_timesteps``, had these mean returns."""
    every = n_timesteps // len(returns)
    rows = []
    for i, value in enumerate(returns):
        timesteps = (i + 1) * every
        seconds = timesteps * seconds_a_step
        rows.append([timesteps, timesteps, seconds * 1.5, seconds, 100.0, *[float(value)] * N_EVAL_EPISODES])
    write_rows(results / cell.path / "curve.csv", CURVE_COLUMNS, rows)
    session = dict(
        started="2000-01-01T00:00:00+00:00",
        commit="0" * 40,
        from_timesteps=0,
        command="made up",
        versions={"python": "0"},
        hardware=dict(cpu=cpu, cores=1, gpu=None, device="cpu", threads=threads, load_average=0.5, platform="none"),
    )
    content = dict(
        **cell._asdict(),
        n_timesteps=n_timesteps,
        timesteps=n_timesteps,
        env_steps=n_timesteps,
        status="finished",
        train_seconds=n_timesteps * seconds_a_step * 1.5,
        train_cpu_seconds=n_timesteps * seconds_a_step,
        eval_seconds=1.0,
        peak_memory_mb=100,
        sessions=[session],
    )
    write_json(results / cell.path / "manifest.json", {**content, **manifest})


def write_learning_cell(results, cell, n_timesteps, low, high, seconds_a_step=0.001):
    """A noisy curve from ``low`` towards ``high``."""
    rng = np.random.default_rng([cell.seed, len(cell.algo), n_timesteps])
    progress = np.linspace(0, 1, 100)
    returns = low + (high - low) * progress ** (1 + rng.random()) + 0.03 * (high - low) * rng.standard_normal(100)
    write_cell(results, cell, returns, n_timesteps, seconds_a_step)


def write_everything(results):
    """Several envs, algorithms, lengths and numbers of seeds, an unfinished cell, and an ablation."""
    for env, low, high in (("Swimmer-v3", 0, 340), ("Hopper-v3", 10, 2500)):
        for algo, n_seeds, n_timesteps, speed in (
            ("gogepo", 5, 1_000_000, 0.0005),
            ("gogepo-paper", 3, 1_000_000, 0.001),
            ("ars", 5, 1_000_000, 0.0003),
            ("sac", 3, 100_000, 0.02),
            ("td3", 1, 100_000, 0.015),
        ):
            for seed in range(n_seeds):
                if not (algo == "td3" and env == "Hopper-v3"):
                    write_learning_cell(results, Cell("paper", algo, env, seed), n_timesteps, low, high, speed)
        for algo, n_seeds in (("gogepo-no-probes", 5), ("gogepo-raw-weights", 4)):
            for seed in range(n_seeds):
                write_learning_cell(results, Cell("ablations", algo, env, seed), 100_000, low, high, 0.0004)
    unfinished = Cell("paper", "sac", "Swimmer-v3", 3)
    write_cell(results, unfinished, [1.0], 100_000, status="running", timesteps=1000)
