"""Which library MuJoCo draws with where there is no screen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

#: Draws with the library that MUJOCO_GL names. In a process of its own, as a library that fails may end the process
PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).render()"


@cache
def find_renderer() -> str | None:
    """The first of MuJoCo's libraries that draws here; None: none does, or MuJoCo is left to choose (not on Linux)."""
    if sys.platform != "linux":
        return None
    has_screen = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    names = ["glfw", "egl", "osmesa"] if has_screen else ["egl", "osmesa"]
    return next((name for name in names if _draws(name)), None)


def _draws(name: str) -> bool:
    environment = {**os.environ, "MUJOCO_GL": name}
    try:
        command = [sys.executable, "-c", PROBE]
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def renderer() -> Iterator[None]:
    """Set MUJOCO_GL, which Gymnasium reads when it draws its first frame, unless the user has set it."""
    name = None if "MUJOCO_GL" in os.environ else find_renderer()
    if name is not None:
        os.environ["MUJOCO_GL"] = name
    try:
        yield
    finally:
        if name is not None:
            del os.environ["MUJOCO_GL"]
