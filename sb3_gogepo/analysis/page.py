"""The report's page: one self-contained HTML file, with a slider over the commands. Its template is ``page.html``."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from sb3_gogepo.analysis.film_files import SHEET_COLUMNS, film_to_sheet
from sb3_gogepo.analysis.films import Film
from sb3_gogepo.analysis.policy_map import PolicyMap
from sb3_gogepo.base.command_sweep import CommandSweep


def png_url(content: bytes) -> str:
    """A PNG as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def fill_page(title: str, body: str, data: dict[str, Any]) -> bytes:
    """The template with its three gaps filled.

    :param title: text.
    :param body: HTML below the slider.
    :param data: what the slider shows, see :func:`slider_data`.
    """
    gaps = {
        "title": html.escape(title),
        "body": body,
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),  # no </script> in it
    }
    template = resources.files("sb3_gogepo.analysis").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"\[\[(title|body|data)\]\]", lambda match: gaps[match[1]], template).encode()


def slider_data(
    sweep: CommandSweep,
    n_eval_episodes: int,
    predicted: np.ndarray | None,
    films: Sequence[Film],
    no_films: str,
    policy_map: PolicyMap | None,
    map_text: str,
) -> dict[str, Any]:
    """What the page's script shows.

    :param predicted: (n_commands,) returns that the evaluator predicts; None: there is no evaluator.
    :param films: of some of the sweep's commands.
    :param no_films: why there is none.
    :param policy_map: whose last path holds the policies of the sweep's commands; None: there is none.
    :param map_text: below the map; without a map, why there is none.
    """
    return {
        "commands": _short(sweep.commands),
        "means": _short(sweep.mean_returns),
        "stds": _short(sweep.std_returns),
        "lengths": _short(sweep.mean_lengths),
        "predicted": None if predicted is None else _short(predicted),
        "n_eval_episodes": n_eval_episodes,
        "films": [_film_data(film, sweep.commands) for film in films],
        "no_films": no_films,
        "map": {"text": map_text, **({} if policy_map is None else _map_data(policy_map))},
    }


def _film_data(film: Film, commands: np.ndarray) -> dict[str, Any]:
    n_frames, height, width = film.frames.shape[:3]
    return {
        "index": int(np.abs(commands - film.command).argmin()),
        "command": film.command,
        "episode_return": film.episode_return,
        "length": film.length,
        "every": film.every,
        "fps": film.fps,
        "n_frames": n_frames,
        "n_columns": SHEET_COLUMNS,
        "width": width,
        "height": height,
        "sheet": png_url(film_to_sheet(film)),
    }


def _map_data(policy_map: PolicyMap) -> dict[str, Any]:
    first, second = policy_map.explained
    return {
        "points": _short(policy_map.points),
        "returns": _short(policy_map.returns),
        "path": _short(policy_map.paths[-1].points),
        "names": [f"component 1 ({first:.0%} of the variance)", f"component 2 ({second:.0%})"],
    }


def _short(values: np.ndarray) -> list:
    """Numbers with six digits: the page is smaller, and nobody sees the difference."""
    return json.loads(
        json.dumps(np.asarray(values, dtype=float).tolist()), parse_float=lambda text: float(f"{float(text):.6g}")
    )
