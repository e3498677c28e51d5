"""Films of one generator's policies: an episode for each command, all from the same start state."""

from __future__ import annotations

import copy
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from sb3_gogepo.analysis.renderers import renderer
from sb3_gogepo.base.command_sweep import check_commands
from sb3_gogepo.checks import check_number
from sb3_gogepo.envs import attribute_of
from sb3_gogepo.errors import FilmError

#: Height of a frame in pixels; MuJoCo's are as wide
HEIGHT = 200


class Film(NamedTuple):
    """An episode of the policy of one command.

    :param command: return that was asked for.
    :param episode_return: return of this episode, in the units of the command.
    :param length: env steps of this episode.
    :param every: env steps from frame to frame; the last frame shows the end of the episode.
    :param frames: (n_frames, height, width, 3) colors from 0 to 255, the first one of the start state.
    :param fps: frames a second at which to show the film.
    """

    command: float
    episode_return: float
    length: int
    every: int
    frames: np.ndarray
    fps: float


class _Camera(gym.Wrapper):
    """Keeps every ``every``-th frame of each episode; 0: none."""

    every = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin a new film."""
        result = super().reset(**kwargs)
        self.films.append([])
        self.n_steps = 0
        self._shoot(is_last=False)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and perhaps keep a frame."""
        result = super().step(action)
        self.n_steps += 1
        self._shoot(is_last=result[2] or result[3])
        return result

    def start(self, every: int) -> None:
        """Forget the films so far."""
        self.every = every
        self.films: list[list[np.ndarray]] = []

    def _shoot(self, is_last: bool) -> None:
        if self.every and (is_last or self.n_steps % self.every == 0):
            self.films[-1].append(_shrink(self.env.render()))


def film_commands(model: Any, commands: Any, env: gym.Env | None = None, seed: int = 0, n_frames: int = 60) -> list[Film]:
    """Film an episode of each command. All start from the same state, and frame k shows the same time in all films.

    MuJoCo draws without a screen where EGL or OSMesa is installed; whichever works is found.

    :param model: an algorithm that acts on commands.
    :param commands: (n_commands,) returns.
    :param env: env with ``render_mode="rgb_array"``, which stays open; None: one is made like the first of the model's envs.
    :param seed: every episode is reset with it.
    :param n_frames: number of frames of the longest film, besides that of the start state.
    :return: (n_commands,) films.
    :raises ValueError: for commands that are not finite, or numbers out of range.
    :raises FilmError: if the env cannot be made or drawn; the message says what is missing.
    """
    values = check_commands(commands)
    check_number("n_frames", n_frames, minimum=1, integer=True)
    check_number("seed", seed, minimum=0, integer=True)
    with _camera(model, env) as camera:
        vec_env = _in_vec_env(camera, model.env)
        camera.start(every=0)
        sweep = model.evaluate_commands(values, n_eval_episodes=1, env=vec_env, seed=seed)
        every = math.ceil(float(sweep.mean_lengths.max()) / n_frames)
        fps = float(np.clip(camera.metadata.get("render_fps", 30) / every, 10, 30))
        films = []
        for command in values:
            camera.start(every)
            filmed = model.evaluate_commands([command], n_eval_episodes=1, env=vec_env, seed=seed)
            frames = np.stack(max(camera.films, key=len))  # an env may have been reset once more
            films.append(Film(float(command), float(filmed.mean_returns[0]), int(filmed.mean_lengths[0]), every, frames, fps))
        return films


@contextmanager
def _camera(model: Any, env: gym.Env | None) -> Iterator[_Camera]:
    """A camera on ``env``, or on an env like the model's, which has drawn a frame."""
    if env is not None and env.render_mode != "rgb_array":
        raise FilmError(f'env must have render_mode="rgb_array" to be filmed, got {env.render_mode!r}')
    camera = _Camera(_make_like(model.env) if env is None else env)
    is_mujoco = hasattr(camera.unwrapped, "mujoco_renderer")
    try:
        with renderer() if is_mujoco else nullcontext():
            if is_mujoco and sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
                raise FilmError(f"{_name(camera)} cannot be drawn: MuJoCo needs EGL (libegl1) or OSMesa (libosmesa6)")
            if is_mujoco and env is None:
                _set_up_mujoco(camera)
            camera.start(every=1)
            try:
                camera.reset(seed=0)
            except Exception as error:
                raise FilmError(f"{_name(camera)} cannot be drawn: {_first_line(error)}") from error
            yield camera
    finally:
        if env is None:
            _free_drawings(camera)
            camera.close()


def _make_like(env: VecEnv | None) -> gym.Env:
    spec = None if env is None else copy.deepcopy(attribute_of(env, "spec"))
    if spec is None:
        raise FilmError("env must be given: the model has none that is registered with Gymnasium, whose like could be made")
    monitor = f"{Monitor.__module__}:{Monitor.__name__}"
    spec.additional_wrappers = tuple(w for w in spec.additional_wrappers if w.entry_point != monitor)
    try:
        return gym.make(spec, render_mode="rgb_array")
    except Exception as error:  # whatever an env that cannot be drawn raises
        raise FilmError(f"{spec.id} cannot be drawn: {_first_line(error)}") from error


def _in_vec_env(camera: _Camera, env: VecEnv | None) -> VecEnv:
    """The camera as a VecEnv, behind a copy of the VecNormalize of ``env`` if it has one."""
    vec_env: VecEnv = DummyVecEnv([lambda: camera])
    vec_normalize = None if env is None else unwrap_vec_normalize(env)
    if vec_normalize is not None:
        vec_normalize = copy.deepcopy(vec_normalize)
        vec_normalize.set_venv(vec_env)
        vec_normalize.training = False
        return vec_normalize
    return vec_env


def _set_up_mujoco(env: gym.Env) -> None:
    """Small frames and coarser shadows, which take most of the time on a CPU, by the camera that follows the robot.

    Gymnasium's default camera stands still, though the walking robots' models have one named "track".
    """
    mujoco_renderer = env.get_wrapper_attr("mujoco_renderer")
    mujoco_renderer.width = mujoco_renderer.height = HEIGHT
    mujoco_renderer.model.vis.quality.shadowsize = 1024
    cameras = [mujoco_renderer.model.camera(i).name for i in range(mujoco_renderer.model.ncam)]
    kwargs = {} if env.spec is None else env.spec.kwargs
    if "track" in cameras and not {"camera_id", "camera_name", "default_camera_config"} & kwargs.keys():
        mujoco_renderer.camera_id = cameras.index("track")


def _free_drawings(env: gym.Env) -> None:
    """Let MuJoCo give back what it draws with now: when Python did so, it would blacken films that are made meanwhile."""
    viewer = getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)
    if viewer is not None:
        viewer.make_context_current()
        viewer.con.free()


def _shrink(frame: Any) -> np.ndarray:
    """(height, width, 3) -> (HEIGHT, ..., 3), if it is larger."""
    image = Image.fromarray(np.asarray(frame, dtype=np.uint8))
    if image.height > HEIGHT:
        image = image.resize((max(1, round(image.width * HEIGHT / image.height)), HEIGHT), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _name(env: gym.Env) -> str:
    return type(env.unwrapped).__name__ if env.spec is None else env.spec.id


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def at_step(film: Film, step: int) -> np.ndarray:
    """(height, width, 3) frame at an env step; the last one after the end of the episode."""
    return film.frames[min(step // film.every, len(film.frames) - 1)] if step < film.length else film.frames[-1]


def choose_filmed(commands: Sequence[float] | np.ndarray, n_films: int) -> np.ndarray:
    """(n_films or fewer,) indices of evenly spaced commands to film, the lowest and the highest among them."""
    return np.unique(np.linspace(0, len(commands) - 1, min(n_films, len(commands))).round().astype(int))
