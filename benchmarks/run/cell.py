"""Train one cell with RL Zoo's ExperimentManager: ``python -m benchmarks.run.cell --algo gogepo --env Swimmer-v3 --seed 0``.

``python -m benchmarks.run`` starts one such process a cell. A cell that is finished is left alone; one that was
interrupted goes on from its last resume point: GoGePo, UDRL and UDRLPG exactly, all others from a new episode on.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch as th
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.run import manifest
from benchmarks.run.layout import (
    CHECKPOINTS,
    EXACT,
    INEXACT,
    MODEL,
    N_EVAL_EPISODES,
    N_TIME_COLUMNS,
    REPLAY_BUFFER,
    Cell,
    read_json,
    remove_unfinished,
    start_anew,
    write_json,
)
from benchmarks.run.options import add_arguments, check_arguments
from benchmarks.run.recording import CurveCallback, ProgressCallback, Record
from benchmarks.run.resume import ResumePoint, ResumePointCallback, find_resume_point, prepare_loaded
from benchmarks.run.tracks import Algorithm, differing, resolve, settings_of
from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.zoo import ALGORITHMS, register


class CellManager(ExperimentManager):
    """RL Zoo's manager with this benchmark's callbacks in place of its own."""

    def __init__(
        self,
        record: Record,
        checkpoints: Path,
        checkpoint_seconds: float,
        report_progress: Callable[[], None],
        report_evaluation: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(n_eval_envs=N_EVAL_EPISODES, n_eval_episodes=N_EVAL_EPISODES, **kwargs)
        self.record, self.checkpoints, self.checkpoint_seconds = record, checkpoints, checkpoint_seconds
        self.report_progress, self.report_evaluation = report_progress, report_evaluation

    def create_callbacks(self) -> None:
        """Evaluations, resume points, progress."""
        self.curve = CurveCallback(
            self.create_envs(self.n_eval_envs, eval_env=True),
            self.record,
            every=self.eval_freq,
            n_timesteps=self.n_timesteps,
            log_path=self.save_path,
            report=self.report_evaluation,
        )
        resume_points = ResumePointCallback(self.checkpoints, self.env_name, self.curve, self.checkpoint_seconds)
        self.callbacks += [self.curve, ProgressCallback(self.report_progress), resume_points]

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        model = super()._load_pretrained_agent(hyperparams, env)
        if self.algo not in ALGORITHMS:
            prepare_loaded(model)
        return model

    def learn(self, model: BaseAlgorithm) -> None:
        """As RL Zoo's, but a loaded model makes the steps that are left, and Ctrl+C is an interruption."""
        assert model.env is not None
        n_left = self.n_timesteps - model.num_timesteps
        try:
            model.learn(n_left, callback=self.callbacks, reset_num_timesteps=not self.continue_training)
            self.curve.collect_episodes()
        finally:
            model.env.close()


def train(cell: Cell, options: argparse.Namespace) -> None:
    """Train the cell, writing as it goes, unless it is finished."""
    results, work = options.results / cell.path, options.work / cell.path
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at work on this cell: wait, then look again
        known = read_json(results / "manifest.json")
        if known.get("status") == "finished":
            differ = differing(known, settings_of(cell, options))
            print(f"{cell} is finished" + (f" with other settings ({differ}), and left as it is" if differ else ""))
            return
        point = find_resume_point(work / CHECKPOINTS) if known else None
        if point is not None and (differ := differing(known, settings_of(cell, options))):
            raise ValueError(
                f"{cell} is unfinished with other settings ({differ}): ask for those, or delete {results} to train it anew"
            )
        if point is None:
            start_anew(results, work)
            known = {}
        _Run(cell, options, resolve(cell.track, cell.algo, cell.env), known, point).go()


class _Run:
    """One process's part of a cell's training."""

    def __init__(
        self,
        cell: Cell,
        options: argparse.Namespace,
        algorithm: Algorithm,
        known: dict[str, Any],
        point: ResumePoint | None,
    ) -> None:
        self.cell, self.options, self.algorithm, self.point = cell, options, algorithm, point
        self.results, self.work = options.results / cell.path, options.work / cell.path
        self.record = Record(self.results)
        self.model: BaseAlgorithm | None = None
        self.from_timesteps = 0
        if point is not None:
            self.from_timesteps = point.state["num_timesteps"]
            self.record.restore(point.state, self.from_timesteps)
        session = dict(
            started=_now(),
            commit=options.commit or manifest.commit(),
            from_timesteps=self.from_timesteps,
            resume=None if point is None else EXACT if algorithm.algo in ALGORITHMS else INEXACT,
            command=shlex.join(["python", "-m", "benchmarks.run.cell", *options.arguments]),
            versions=manifest.versions(),
            hardware=manifest.hardware(options.device),
        )
        self.manifest: dict[str, Any] = dict(
            **cell._asdict(),
            **settings_of(cell, options),
            n_eval_episodes=N_EVAL_EPISODES,
            peak_memory_mb=known.get("peak_memory_mb", 0),
            sessions=[*known.get("sessions", []), session],
        )

    @property
    def timesteps(self) -> int:
        """Env steps so far."""
        return self.from_timesteps if self.model is None else self.model.num_timesteps

    def write_manifest(self, status: str, **more: Any) -> None:
        """The manifest as of now."""
        wall, cpu = self.record.clock.read()
        self.manifest.update(
            status=status,
            timesteps=self.timesteps,
            train_seconds=wall,
            train_cpu_seconds=cpu,
            eval_seconds=self.record.eval_seconds,
            peak_memory_mb=max(self.manifest["peak_memory_mb"], manifest.peak_memory_mb()),
            **more,
        )
        write_json(self.results / "manifest.json", self.manifest)

    def report_progress(self) -> None:
        """For whoever watches: a small file that is no result."""
        curve = self.record.curve
        progress = dict(
            timesteps=self.timesteps,
            train_seconds=self.record.clock.read()[0],
            last_return=sum(curve[-1][N_TIME_COLUMNS:]) / N_EVAL_EPISODES if curve else None,
        )
        write_json(self.work / "progress.json", progress)

    def go(self) -> None:
        """Train to the end."""
        self.write_manifest("running")
        try:
            self.train()
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self.write_manifest(status, error=f"{type(error).__name__}: {error}")
            raise

    def train(self) -> None:
        """RL Zoo makes env, model and callbacks; then learn, save the model, and write the manifest."""
        options = self.options
        hyperparams = {**self.algorithm.hyperparams, "n_timesteps": options.n_timesteps}
        config = self.work / "hyperparams.yml"
        config.write_text(yaml.safe_dump({self.cell.env: hyperparams}))
        manager = CellManager(
            record=self.record,
            checkpoints=self.work / CHECKPOINTS,
            checkpoint_seconds=options.checkpoint_seconds,
            report_progress=self.report_progress,
            report_evaluation=partial(self.write_manifest, "running"),
            args=argparse.Namespace(**{name: str(value) for name, value in vars(options).items()}),
            algo=self.algorithm.algo,
            env_id=self.cell.env,
            log_folder=str(self.work / "zoo"),
            n_timesteps=options.n_timesteps,
            eval_freq=options.eval_freq,
            trained_agent="" if self.point is None else str(self.point.model_file),
            seed=self.cell.seed,
            device=options.device,
            config=str(config),
        )
        made = manager.setup_experiment()
        assert made is not None
        self.model = made[0]
        manager.learn(self.model)
        if self.model.num_timesteps < options.n_timesteps:
            raise RuntimeError(f"training stopped after {self.model.num_timesteps} of {options.n_timesteps} steps")
        with self.record.clock.paused():
            self.model.save(self.work / MODEL)
            if isinstance(self.model, CommandAlgorithm):
                self.model.save_replay_buffer(self.work / REPLAY_BUFFER)  # what the model may be asked for
            if vec_normalize := self.model.get_vec_normalize_env():  # without its statistics, the model acts differently
                vec_normalize.save(str(self.work / "vecnormalize.pkl"))
        self.record.add_training(self.model.num_timesteps)
        self.report_progress()
        self.write_manifest("finished", env_steps=manager.curve.env_steps, finished=_now())
        remove_unfinished(self.work)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def main(arguments: list[str] | None = None) -> None:
    """Train the cell that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algo", required=True)
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--commit", help="to record where there is no git")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    check_arguments(options)
    if options.device.startswith("cuda") and not th.cuda.is_available():
        raise ValueError(f"--device must be one that torch finds, got {options.device!r}: there is no CUDA device")
    th.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message=".*is out of date.*")  # Gymnasium on the papers' env versions
    register()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an interruption, as Ctrl+C
    started = time.monotonic()
    train(Cell(options.track, options.algo, options.env, options.seed), options)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
