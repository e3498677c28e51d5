"""From parts to whole datasets, and what these say of themselves."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector import EpisodeBuffer
from minari.data_collector.callbacks import EpisodeMetadataCallback
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from minari.storage import get_dataset_path

from sb3_gogepo.datasets.levels import Level
from sb3_gogepo.datasets.recording import Recording
from sb3_gogepo.saving.atomic_files import sync_folder

#: what an episode takes in an HDF5 file besides its numbers; measured with Minari 0.5.4
BYTES_OF_AN_EPISODE = 16_000
RECIPE = "recipe"


class LevelDataset(NamedTuple):
    """What was recorded of one level.

    :param dataset_id: for ``minari.load_dataset``.
    :param share: of the way from the lowest to the highest command; None where a return was given.
    :param command: the return that was asked for.
    :param achieved: mean return in the unit of commands, that is with ``alive_bonus_offset`` added to each reward.
    :param achieved_std: standard deviation of these returns.
    :param mean_return: mean of the env's own returns, as they are in the dataset.
    :param n_episodes: in the dataset.
    :param n_steps: in the dataset.
    """

    dataset_id: str
    share: float | None
    command: float
    achieved: float
    achieved_std: float
    mean_return: float
    n_episodes: int
    n_steps: int


class Part(NamedTuple):
    """What a dataset consists of, once or several times."""

    level: Level
    recording: Recording
    summary: LevelDataset


def check_metadata(metadata: Any) -> dict[str, Any]:
    """``metadata`` as Minari takes it: authors are a set.

    :raises ValueError: if it is no dict of what JSON can hold.
    """
    try:
        for name in ("author", "author_email"):
            if name in metadata:
                authors = metadata[name]
                metadata = {**metadata, name: {authors} if isinstance(authors, str) else set(authors)}
        json.dumps({**metadata}, default=sorted)
    except TypeError as error:
        raise ValueError(f"metadata must be a dict of what JSON can hold, got {metadata!r}: {error}") from error
    return metadata


def spec_of(env: gym.Env) -> EnvSpec | None:
    """The env's spec, if it can be written."""
    try:
        if env.spec is not None:
            env.spec.to_json()
            return env.spec
        reason = "it has no spec"
    except (TypeError, ValueError) as error:
        reason = str(error)
    warnings.warn(f"env cannot be made again from the dataset: {reason}", stacklevel=4)
    return None


def recipe_of(dataset: Path) -> dict[str, Any] | None:
    """What a dataset of ours was made by; None: it is not ours."""
    try:
        return MinariStorage.read_raw_metadata(dataset / "data")["sb3_gogepo"][RECIPE]
    except (ValueError, KeyError, TypeError):
        return None


def check_space(folder: Path, recordings: list[Recording], n_copies: int) -> None:
    """Raise an OSError if the disk has no room for the datasets: HDF5 may crash where it cannot go on writing.

    :param n_copies: how often each recording is written.
    """
    n_episodes = sum(recording.n_episodes for recording in recordings)
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.npz"))
    needed = n_copies * (n_bytes + n_episodes * BYTES_OF_AN_EPISODE)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"about {needed / 1e6:,.0f} MB are needed, and {free / 1e6:,.0f} MB are free")


def summarize(id_: str, level: Level, recording: Recording, alive_bonus_offset: float) -> LevelDataset:
    """What was recorded of a level."""
    sums, lengths = np.array([(episode.rewards.sum(), len(episode.rewards)) for episode in recording.episodes()]).T
    achieved = sums + alive_bonus_offset * lengths
    return LevelDataset(
        dataset_id=id_,
        share=level.share,
        command=level.command,
        achieved=float(achieved.mean()),
        achieved_std=float(achieved.std()),
        mean_return=float(sums.mean()),
        n_episodes=recording.n_episodes,
        n_steps=recording.n_steps,
    )


def describe(parts: list[Part], recipe: dict[str, Any]) -> dict[str, Any]:
    """A dataset's metadata, for Minari and for readers."""
    summaries = [part.summary for part in parts]
    asked = ", ".join(f"{one.command:g} (achieved: {one.achieved:.4g} +- {one.achieved_std:.2g})" for one in summaries)
    offset = recipe["alive_bonus_offset"]
    unit = f", with {offset:g} added to each reward" if offset else ""
    return {
        "algorithm_name": recipe["algorithm"],
        "description": f"Noise-free policies that one {recipe['algorithm']} generated for the return{unit}: {asked}.",
        "sb3_gogepo": {RECIPE: recipe, "levels": [one._asdict() for one in summaries]},
    }


def assemble(storage: MinariStorage, id_: str, parts: list[Part], metadata: dict[str, Any], bar: Callable[..., Any]) -> None:
    """Write a whole dataset.

    :param storage: empty.
    :param metadata: of the dataset.
    :param bar: makes a progress bar around an iterable.
    """
    storage.update_metadata({**metadata, "dataset_id": id_, "minari_version": minari.__version__})
    of_episodes: list[dict[str, Any]] = []

    def episodes() -> Iterator[EpisodeBuffer]:
        rewards_of = EpisodeMetadataCallback()
        for level, recording, _ in parts:
            asked = {"command": level.command} if level.share is None else {"command": level.command, "level": level.share}
            for episode in recording.episodes():
                of_episodes.append({**rewards_of({"rewards": episode.rewards}), **asked})
                yield episode.to_buffer()

    storage.update_episodes(bar(episodes(), total=sum(part.recording.n_episodes for part in parts)))
    storage.update_episode_metadata(of_episodes)


def let_appear(whole: Path, ids: list[str]) -> None:
    """Move datasets to where Minari looks, but for those that are there: a run was killed here before.

    They are flushed to the disk first, so that a power failure leaves no half of one.

    :param whole: folder of the datasets, which all have the same namespace.
    :param ids: of the datasets.
    """
    namespace = "/".join(ids[-1].split("/")[:-1])
    if namespace and namespace not in list_local_namespaces():
        create_namespace(namespace)
    for path in map(get_dataset_path, dict.fromkeys(ids)):
        if path.exists():
            continue
        for file in (whole / path.name / "data").iterdir():
            with open(file, "rb") as content:
                os.fsync(content.fileno())
        os.replace(whole / path.name, path)
        sync_folder(path.parent)
