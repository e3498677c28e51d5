"""PicklefreeAlgorithm: SB3's BaseAlgorithm whose files hold no pickles, appear complete or not at all, and run no code."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info

from sb3_gogepo.checks import check_number
from sb3_gogepo.envs import ask
from sb3_gogepo.saving import archive
from sb3_gogepo.saving.atomic_files import read_bytes
from sb3_gogepo.saving.checkpoints import BUFFER_FILE, MODEL_FILE, RUN_STATE_FILE, latest_checkpoint, write_checkpoint
from sb3_gogepo.saving.load_checks import (
    check_acts,
    check_optimizer,
    check_policy_fits,
    check_settings,
    constructor_arguments,
)
from sb3_gogepo.saving.run_state import IterationStart, encode_run_state, generator_states, iteration_start, restore_run_state
from sb3_gogepo.saving.untrusted import InvalidFileError, load_tensors, refusing

SelfAlgorithm = TypeVar("SelfAlgorithm", bound="PicklefreeAlgorithm")

_SPACES = ("observation_space", "action_space")


class PicklefreeAlgorithm(BaseAlgorithm):
    """Save and load, for all algorithms of this package.

    A subclass has a ``replay_buffer`` with ``state_dict`` / ``load_state_dict`` and makes an empty one in
    ``_make_replay_buffer``; its policy lists its optimizers in ``optimizer_names``.
    """

    policy: Any
    replay_buffer: Any
    #: Entropy from which the random numbers of all episodes derive, and which the replay buffer's generator starts with
    run_seed: int
    #: The last episode boundary, while episodes run: files that are saved meanwhile hold the run as it was then.
    _iteration_start: IterationStart | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What ``pickle`` and ``copy`` take along: all but the logger and what lives as long as a call of ``learn``.

        While episodes run (from a callback), they are left out as in :meth:`save`.
        """
        state = dict(vars(self))
        if self._iteration_start is not None:
            state.update(self._iteration_start.counters)
        left_behind: dict[str, Any] = dict(_iteration_start=None, _collector=None)
        if "_logger" in state:
            left_behind.update(_logger=Logger(folder=None, output_formats=[]), _custom_logger=False)
        if state.get("rollout_backend") == "in-process" or self.env is None:
            left_behind["env_fn"] = None  # only workers need it
        return {**state, **{name: value for name, value in left_behind.items() if name in state}}

    def _make_replay_buffer(self) -> Any:
        raise NotImplementedError

    def set_random_seed(self, seed: int | None = None) -> None:
        """As SB3's. All that is random from now on derives from ``seed``.

        :param seed: None: nothing changes.
        :raises ValueError: if it is no integer >= 0.
        """
        if seed is None:
            return
        check_number("seed", seed, minimum=0, integer=True)
        self._seed_globals(int(seed))
        self.run_seed = int(seed)
        self.replay_buffer.seed(self.run_seed)

    def _seed_globals(self, seed: int | None) -> None:
        """SB3's ``set_random_seed``; a VecEnv that cannot be seeded does not end the run."""
        env, self.env = self.env, None
        try:
            super().set_random_seed(seed)
        finally:
            self.env = env
        if env is not None and seed is not None:
            ask(lambda: env.seed(seed), otherwise=None)

    def _excluded_save_params(self) -> list[str]:
        of_episodes = ["_last_obs", "_last_original_obs", "_last_episode_starts", "_iteration_start"]
        return [*super()._excluded_save_params(), *of_episodes, "action_noise", "lr_schedule"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", *(f"policy.{name}" for name in self.policy.optimizer_names)], []

    def save(
        self, path: archive.PathOrFile, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Save everything but env and replay buffer in SB3's zip layout: no pickles, complete or not at all.

        While episodes run (from a callback), the file holds the run as it was before they began: they are not in the
        replay buffer yet, and whoever loads both runs them again.

        :param path: ``.zip`` is added where there is no suffix; missing folders are made.
        :param exclude: attributes to leave out in addition.
        :param include: attributes to write although they are left out by default, if JSON can express them.
        """
        left_out = {*self._excluded_save_params(), *(exclude or ())} - set(include or ())
        counters = {} if self._iteration_start is None else self._iteration_start.counters
        settings = {name: counters.get(name, value) for name, value in self.__dict__.items() if name not in left_out}
        archive.write_zip(path, type(self).__name__, settings, self.get_parameters())

    @classmethod
    def load(
        cls: type[SelfAlgorithm],
        path: archive.PathOrFile,
        env: GymEnv | str | Callable[[], gym.Env] | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfAlgorithm:
        """Load a model saved by :meth:`save`; without ``env`` it predicts, with one it can go on learning.

        :param env: as the constructor's.
        :param custom_objects: attributes to overwrite, the same as ``kwargs``. A ``seed`` acts as ``set_random_seed``.
        :param trust: allow the file to name classes outside torch, SB3 and this package, and pickles. Without it no
            code from the file is run.
        :param kwargs: attributes to overwrite, e.g. a ``learning_rate`` schedule that could not be saved.
        :raises InvalidFileError: if the file is damaged, of another algorithm, or needs ``trust``. It is a ValueError.
        :raises ValueError: if ``env`` has other spaces, or a value that replaces a saved one is outside its range.
        """
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
            print("== SAVED MODEL SYSTEM INFO ==")
            print(archive.read_system_info(path))
        given, name = {**(custom_objects or {}), **kwargs}, archive.name_of(path)
        encoded, state_dicts = archive.read_zip(path, cls.__name__, device=device)
        needed = {key: value for key, value in encoded.items() if key not in given or key == "policy_kwargs"}
        settings = archive.decode_settings(needed, trust, name)
        cls._replace_policy_settings(settings, given, name)
        with refusing(f"the networks in {name} do not fit its settings"):
            arguments = {**{key: settings[key] for key in _SPACES}, **settings["policy_kwargs"]}
            check_policy_fits(settings["policy_class"], arguments, state_dicts.get("policy", {}))
        rollout_kwargs = settings.get("rollout_kwargs")
        if isinstance(rollout_kwargs, dict) and "ray_init_kwargs" in rollout_kwargs and not trust:
            # Whoever says how to start Ray, or where it is, can run any code: learn asks the user for them
            settings["rollout_kwargs"] = archive.UnsavedValue("ray_init_kwargs of a file")
        model = cls._from_settings(settings, given, env, device, name)
        model._load_networks(state_dicts, True, device, name)
        model.set_random_seed(given.get("seed"))
        return model

    @classmethod
    def _replace_policy_settings(cls, settings: dict[str, Any], given: dict[str, Any], name: str) -> None:
        """Put what the user gives in the place of a file's settings that make its policy; they may not have been saved.

        :raises InvalidFileError: if there is no policy class of this algorithm, or there are no ``policy_kwargs``.
        :raises ValueError: if the user's ``policy_kwargs`` are not those in the file.
        """
        saved_kwargs = settings.get("policy_kwargs")
        settings.update({key: given[key] for key in ("policy_class", "policy_kwargs", *_SPACES) if key in given})
        policy_class, policy_kwargs = settings.get("policy_class"), settings.get("policy_kwargs")
        if not (isinstance(policy_class, type) and issubclass(policy_class, tuple(cls.policy_aliases.values()))):
            raise InvalidFileError(f"policy_class must be a policy class of {cls.__name__}, got {policy_class!r} from {name}")
        if isinstance(policy_kwargs, archive.UnsavedValue):
            raise InvalidFileError(f"{name} lacks policy_kwargs, which could not be saved: pass policy_kwargs when loading")
        if isinstance(saved_kwargs, dict) and not _are_equal(policy_kwargs, saved_kwargs):
            raise ValueError(f"policy_kwargs must equal the saved {saved_kwargs}, got {policy_kwargs}")

    @classmethod
    def _from_settings(
        cls: type[SelfAlgorithm], settings: dict[str, Any], given: dict[str, Any], env: Any, device: Any, name: str
    ) -> SelfAlgorithm:
        """A model with new networks, of a file's settings and what the user gives in place of some of them."""
        own: dict[str, Any] = dict(policy=settings["policy_class"], device=device, _init_setup_model=False)
        try:
            model = cls(**own, env=env, **constructor_arguments(cls, {**settings, **given}))
        except Exception:
            with refusing(f"{name} holds a wrong setting"):
                cls(**own, env=None, **constructor_arguments(cls, settings))
            raise  # it is not the file's fault
        with refusing(f"{name} holds a wrong setting"):
            check_settings(model, settings)
        if model.env is not None:
            check_for_correct_spaces(model.env, settings["observation_space"], settings["action_space"])
            settings["n_envs"] = model.n_envs
        for buffer in ("ep_info_buffer", "ep_success_buffer"):  # Monitors may put anything into them; learn makes new ones
            if isinstance(settings.get(buffer), archive.UnsavedValue):
                settings[buffer] = None
        model.__dict__.update({**settings, **given})
        with refusing(f"the networks in {name} do not fit its settings"):
            model._setup_model()
        return model

    def _load_networks(self, state_dicts: dict[str, Any], exact_match: bool, device: th.device | str, name: str) -> None:
        """``set_parameters`` with what a file holds.

        :raises InvalidFileError: if it does not fit or does not work; the parameters may have changed then.
        """
        with refusing(f"the networks in {name} do not fit its settings"):
            self.set_parameters(state_dicts, exact_match=exact_match, device=device)
            for optimizer in self.policy.optimizer_names:
                check_optimizer(recursive_getattr(self.policy, optimizer))
        with refusing(f"the policy in {name} cannot act"):
            check_acts(self.policy)

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: th.device | str = "auto") -> None:
        """As SB3's; ``predict`` uses the new parameters at once.

        :param load_path_or_dict: parameters as of ``get_parameters``, or a file that :meth:`save` wrote.
        :param exact_match: must all parameters be there?
        :raises InvalidFileError: if the file is damaged, of another algorithm or does not fit; the
            present parameters are kept then.
        """
        if not isinstance(load_path_or_dict, dict):
            name = archive.name_of(load_path_or_dict)
            _, state_dicts = archive.read_zip(load_path_or_dict, type(self).__name__, device=device)
            before = copy.deepcopy(self.get_parameters())
            try:
                self._load_networks(state_dicts, exact_match, device, name)
            except InvalidFileError:
                self.set_parameters(before, device=device)
                raise
            return
        super().set_parameters(load_path_or_dict, exact_match=exact_match, device=device)
        self.policy.forget_acting_weights()

    def save_replay_buffer(self, path: archive.PathOrFile) -> None:
        """Write buffer and random state of the run, without pickles (``.pt`` is added where there is no suffix)."""
        archive.write_tensors(path, {**self.replay_buffer.state_dict(), "run_seed": self.run_seed}, suffix=".pt")

    def load_replay_buffer(self, path: archive.PathOrFile, truncate_last_traj: bool = True) -> None:
        """Read what :meth:`save_replay_buffer` wrote. Training then goes on exactly as if it had not been interrupted.

        For that, the run's seed comes back, too; to go on otherwise, call ``set_random_seed`` afterwards.

        :param path: ``.pt`` and ``.pkl`` may be left out.
        :param truncate_last_traj: accepted because RL Zoo passes it; there are no unfinished trajectories here.
        :raises InvalidFileError: if the file is damaged, or its policies have another size; the present buffer is kept then.
        """
        name = archive.name_of(path)
        state = load_tensors(read_bytes(path, ".pt", ".pkl"), name)
        buffer = self._make_replay_buffer()
        with refusing(f"{name} does not hold a replay buffer of this {type(self).__name__}"):
            run_seed = state.pop("run_seed", self.run_seed)  # older files lack it
            check_number("run_seed", run_seed, minimum=0, integer=True)
            buffer.load_state_dict(state)
        self.replay_buffer, self.run_seed = buffer, run_seed

    def save_checkpoint(self, folder: str | os.PathLike[str], keep_last: int = 2) -> Path:
        """Write all that the run depends on into a new folder inside ``folder``: complete or not at all.

        Model, replay buffer and the statistics of a VecNormalize as of the last episode boundary, and the global random
        generators of torch, NumPy and Python.

        :param keep_last: checkpoints that stay; older ones are removed after the new one is complete.
        :return: the new checkpoint.
        :raises OSError: if it cannot be written; older checkpoints are intact then.
        :raises ValueError: if ``keep_last`` is no integer >= 1.
        """
        check_number("keep_last", keep_last, minimum=1, integer=True)
        start = self._iteration_start or iteration_start(self)
        run_state = {**generator_states(), **start.run_state}

        def write(checkpoint: Path) -> None:
            self.save(checkpoint / MODEL_FILE)
            self.save_replay_buffer(checkpoint / BUFFER_FILE)
            archive.write_tensors(checkpoint / RUN_STATE_FILE, encode_run_state(run_state), suffix="")

        return write_checkpoint(folder, start.counters["num_timesteps"], keep_last, write)

    @classmethod
    def load_checkpoint(
        cls: type[SelfAlgorithm], folder: str | os.PathLike[str], env: GymEnv | str | Callable[[], gym.Env], **kwargs: Any
    ) -> SelfAlgorithm:
        """Load the newest checkpoint in ``folder``; ``learn(..., reset_num_timesteps=False)`` then goes on exactly.

        The global random generators of torch, NumPy and Python are set to what they were.

        :param folder: where :meth:`save_checkpoint` wrote, or one of the checkpoints in it.
        :param env: the env to go on in; a VecNormalize among its wrappers gets the saved statistics.
        :param kwargs: as for :meth:`load`; with a ``seed``, the run goes on in another way.
        :raises FileNotFoundError: if there is no checkpoint.
        :raises InvalidFileError: if a file in it is damaged, or of another algorithm.
        """
        checkpoint = Path(folder) if (Path(folder) / RUN_STATE_FILE).is_file() else latest_checkpoint(folder)
        if checkpoint is None:
            raise FileNotFoundError(f"there is no checkpoint in '{folder}'")
        model = cls.load(checkpoint / MODEL_FILE, env=env, **kwargs)
        model.load_replay_buffer(checkpoint / BUFFER_FILE)
        model.load_run_state(checkpoint / RUN_STATE_FILE)
        model.set_random_seed(kwargs.get("seed"))
        return model

    def load_run_state(self, path: str | os.PathLike[str]) -> None:
        """Set the global random generators, and the statistics of the env's VecNormalize, to those of a checkpoint.

        :raises InvalidFileError: if the file is damaged, or its statistics do not fit the env.
        """
        state = archive.read_tensors(path)
        if self.env is not None:
            # learn resets an env it has not seen, which a VecNormalize would count as one more observation
            self._last_obs = self.env.reset()  # type: ignore[assignment]
            self._last_episode_starts = np.ones((self.env.num_envs,), dtype=bool)
        with refusing(f"'{path}' does not fit this {type(self).__name__}"):
            restore_run_state(state, self.get_vec_normalize_env())


def draw_seed() -> int:
    """A ``run_seed`` that nobody chose."""
    return int(np.random.default_rng().integers(2**63))


def _are_equal(own: Any, saved: dict[str, Any]) -> bool:
    """Compare ``policy_kwargs``, which may hold arrays, as a file would hold them."""
    try:
        return own is saved or archive.encode(own) == archive.encode(saved)
    except TypeError:  # a file cannot hold the user's own
        return False
