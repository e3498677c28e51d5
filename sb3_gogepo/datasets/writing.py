"""write_datasets: what policies of several returns do, as Minari datasets of several qualities."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from minari.dataset.minari_storage import MinariStorage
from minari.storage import get_dataset_path
from tqdm.auto import tqdm

from sb3_gogepo.base.command_sweep import warn_if_out_of_range
from sb3_gogepo.base.generator_algorithm import GeneratorAlgorithm
from sb3_gogepo.checks import check_number
from sb3_gogepo.datasets.assembly import (
    LevelDataset,
    Part,
    assemble,
    check_metadata,
    check_space,
    describe,
    let_appear,
    recipe_of,
    spec_of,
    summarize,
)
from sb3_gogepo.datasets.levels import Level, choose_levels, ids_of
from sb3_gogepo.datasets.recording import Act, Recording, Steps, run_episode, seed_of, writing_into
from sb3_gogepo.envs import make_env
from sb3_gogepo.rollouts.rollout import PolicyActors
from sb3_gogepo.saving.atomic_files import write_atomically

RECIPE_FILE = "recipe.json"
#: in the folder of a run: datasets that are being put together
WHOLE = "whole"


def write_datasets(
    model: GeneratorAlgorithm,
    dataset_id: str,
    env: gym.Env | str,
    levels: Sequence[float] | None = None,
    returns: Sequence[float] | None = None,
    n_steps: int = 100_000,
    seed: int = 0,
    n_eval_episodes: int = 100,
    metadata: dict[str, Any] | None = None,
    progress_bar: bool = False,
) -> list[LevelDataset]:
    """Write a Minari dataset for each level, and one of all levels, into Minari's local folder (``MINARI_DATASETS_PATH``).

    The noise-free policy of each level acts, calibrated if the model is. Each episode's metadata holds its ``command``,
    its ``seed`` and, where levels are shares, its ``level``. Datasets appear when all are complete. A run that was stopped
    goes on where it was when it is called again, and writes the same data as one that was not.

    :param model: a trained GoGePo or UDRLPG.
    :param dataset_id: of the dataset of all levels, e.g. ``hopper/gogepo-v0``; the levels' have ``hopper/gogepo-25percent-v0``
        or ``hopper/gogepo-return1500-v0``. A single level has the id itself.
    :param env: an env, wrapped as in the training, or a Gymnasium id.
    :param levels: shares, in [0, 1], of the way from the lowest to the highest return of ``model.command_range``; None: 0,
        0.25, 0.5, 0.75 and 1.
    :param returns: returns to ask for, in return units, in place of levels.
    :param n_steps: env steps a level, at least; its last episode is finished.
    :param seed: start states derive from it; each level has others.
    :param n_eval_episodes: episodes whose mean return is ``ref_min_score``, of random actions, and ``ref_max_score``, of the
        policy of the highest command.
    :param metadata: of the datasets, more of it or instead of ours, such as ``{"author": "Jane Doe"}``.
    :param progress_bar: show one.
    :return: what was recorded, one entry a level.
    :raises ValueError: naming the argument, for what is out of range, an env with other spaces, or an id that is taken.
        Nothing is written then.
    :raises OSError: if files cannot be written, because the disk is full for instance. Nothing is lost then.
    :raises NonFiniteError: if an observation or reward is not finite.
    """
    if not isinstance(model, GeneratorAlgorithm):
        raise ValueError(f"model must be one that generates policies, GoGePo or UDRLPG, got {type(model).__name__}")
    check_number("n_steps", n_steps, minimum=1, integer=True)
    check_number("seed", seed, minimum=0, integer=True)
    check_number("n_eval_episodes", n_eval_episodes, minimum=1, integer=True)
    chosen = choose_levels(model.command_range, levels, returns)
    ids = ids_of(dataset_id, chosen)
    metadata = check_metadata(metadata or {})
    made = make_env(env) if isinstance(env, str) else env
    try:
        run = _Run(model, check_env(made, model), chosen, dataset_id, ids, n_steps, seed, progress_bar)
        run.begin()
        warn_if_out_of_range(model, [level.command for level in chosen])
        run.record()
        return run.publish({**run.reference_scores(n_eval_episodes), **metadata})
    finally:
        if made is not env:
            made.close()


def check_env(env: Any, model: GeneratorAlgorithm) -> gym.Env:
    """The env, if the model can act in it.

    :raises ValueError: if it is no single Gymnasium env, or has other spaces.
    """
    if not isinstance(env, gym.Env):
        raise ValueError(f"env must be one Gymnasium env, or an id, got {env!r}")
    for name in ("observation_space", "action_space"):
        own, theirs = getattr(model, name), getattr(env, name)
        if own != theirs:
            raise ValueError(f"env must have the {name} that the model was trained with, {own}, got {theirs}")
    return env


class _Run:
    """One call of :func:`write_datasets`: a folder beside the datasets to be, until they are complete."""

    def __init__(
        self,
        model: GeneratorAlgorithm,
        env: gym.Env,
        levels: list[Level],
        dataset_id: str,
        ids: list[str],
        n_steps: int,
        seed: int,
        progress_bar: bool,
    ) -> None:
        self.model, self.env, self.levels, self.dataset_id, self.ids = model, env, levels, dataset_id, ids
        self.n_steps, self.seed = n_steps, seed
        self.bar = partial(tqdm, disable=not progress_bar)
        path = get_dataset_path(dataset_id)
        self.folder = path.with_name(f".{path.name}.unfinished")  # Minari lists no hidden folders
        self.env_spec = spec_of(env)
        weights = model.policy.generate_calibrated([level.command for level in levels]).cpu()
        normalizer = model.policy.normalizer
        #: the policies of the levels
        self.acts: list[Act] = [self._act_of(policy_weights) for policy_weights in weights.split(1)]
        #: what the data follow from, as JSON holds it
        self.recipe = {
            "algorithm": type(model).__name__,
            "num_timesteps": model.num_timesteps,
            "policies": hashlib.sha256(
                b"".join(part.cpu().numpy().tobytes() for part in (weights, normalizer.mean, normalizer.var))
            ).hexdigest(),
            "alive_bonus_offset": model.alive_bonus_offset,
            "env": str(env) if self.env_spec is None else self.env_spec.to_json(),
            "levels": {level.name: level.command for level in levels},
            "n_steps": n_steps,
            "seed": seed,
        }

    def _act_of(self, policy_weights: Any) -> Act:
        """(1, n_weights) -> what acts with them."""
        policy = self.model.policy
        return PolicyActors(
            policy.layout, policy_weights, policy.activation, policy.action_map, policy.normalizer.frozen(), n_envs=1
        )

    def begin(self) -> None:
        """Make the folder, or go on in it.

        :raises ValueError: if the id is taken, or the folder is of another run.
        """
        written = self.folder / RECIPE_FILE
        begun = json.loads(written.read_text(encoding="utf-8")) if written.is_file() else None
        for id_ in dict.fromkeys([*self.ids, self.dataset_id]):
            path = get_dataset_path(id_)
            if path.exists() and not (begun == self.recipe and recipe_of(path) == self.recipe):  # else killed in `publish`
                raise ValueError(f"dataset_id must be a new one, got {self.dataset_id!r}: there is '{path}' already")
        if begun not in (None, self.recipe):
            changed = [name for name, value in self.recipe.items() if begun.get(name) != value]
            raise ValueError(
                f"dataset_id must be a new one, got {self.dataset_id!r}: '{self.folder}' is of a run that has not ended, with "
                f"other {', '.join(changed)}. Repeat that one, or delete the folder"
            )
        with writing_into(self.folder):
            write_atomically(written, json.dumps(self.recipe).encode(), ".json")

    def record(self) -> None:
        """Record all levels, as far as they are not."""
        recordings = [self._recording_of(level) for level in self.levels]
        bar = self.bar(
            total=self.n_steps * len(self.levels),
            initial=sum(min(recording.n_steps, self.n_steps) for recording in recordings),
            unit="step",
        )
        with bar:
            for level, act, recording in zip(self.levels, self.acts, recordings, strict=True):
                bar.set_description(level.name)
                recording.record(partial(self._run_episode, act, level.name), self.n_steps, bar.update)

    def _recording_of(self, level: Level) -> Recording:
        return Recording(self.folder / level.name)

    def _run_episode(self, act: Act, name: str, number: int) -> Steps:
        return run_episode(self.env, act, seed_of(self.seed, name, number))

    def reference_scores(self, n_eval_episodes: int) -> dict[str, Any]:
        """Mean returns of random actions and of the best command, under Minari's names."""
        space = copy.deepcopy(self.env.action_space)
        space.seed(self.seed)
        best = self.model.policy.generate_calibrated([self.model.command_range[1]]).cpu()
        scores: dict[str, Any] = {}
        for name, act in (("ref_min_score", lambda seen: [space.sample()]), ("ref_max_score", self._act_of(best))):
            numbers = self.bar(range(n_eval_episodes), desc=name, unit="episode")
            scores[name] = float(np.mean([self._run_episode(act, name, number).rewards.sum() for number in numbers]))
        return {**scores, "num_episodes_average_score": n_eval_episodes}

    def publish(self, metadata: dict[str, Any]) -> list[LevelDataset]:
        """Put the parts together, and let Minari see the datasets, the one of all levels last.

        :param metadata: of all of them.
        """
        whole = self.folder / WHOLE
        shutil.rmtree(whole, ignore_errors=True)  # of a run that was killed
        recordings = [self._recording_of(level) for level in self.levels]
        new_storage = partial(
            MinariStorage.new,
            observation_space=self.env.observation_space,
            action_space=self.env.action_space,
            env_spec=self.env_spec,
        )
        try:
            with writing_into(self.folder):
                check_space(self.folder, recordings, n_copies=min(len(self.levels), 2))
                offset = self.model.alive_bonus_offset
                parts = [
                    Part(level, recording, summarize(id_, level, recording, offset))
                    for id_, level, recording in zip(self.ids, self.levels, recordings, strict=True)
                ]
                # a single level has no other dataset than that of all levels
                of_ids = {**{id_: [part] for id_, part in zip(self.ids, parts, strict=True)}, self.dataset_id: parts}
                for id_, of_id in of_ids.items():
                    path = whole / get_dataset_path(id_).name / "data"
                    path.parent.mkdir(parents=True)
                    of_all = {**describe(of_id, self.recipe), **metadata}
                    if len(of_id) > 1:
                        of_all["combined_datasets"] = self.ids
                    assemble(new_storage(path), id_, of_id, of_all, partial(self.bar, desc=id_, unit="episode"))
                let_appear(whole, [*self.ids, self.dataset_id])
        finally:
            shutil.rmtree(whole, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        return [part.summary for part in parts]
