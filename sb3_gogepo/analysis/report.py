"""All pictures of one trained model, and one self-contained HTML page that shows them."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from stable_baselines3.common.type_aliases import GymEnv

from sb3_gogepo.analysis.film_files import draw_film_strip, films_to_gif
from sb3_gogepo.analysis.films import Film, choose_filmed, film_commands
from sb3_gogepo.analysis.page import fill_page, png_url, slider_data
from sb3_gogepo.analysis.plots import plot_command_sweep, plot_learning_curve, plot_policy_map, plot_probing_states
from sb3_gogepo.analysis.policy_map import PolicyMap, map_policies, rank_probing_states
from sb3_gogepo.analysis.stages import Stage
from sb3_gogepo.base.command_sweep import CommandSweep
from sb3_gogepo.checks import check_number
from sb3_gogepo.errors import FilmError
from sb3_gogepo.networks.evaluator import Evaluator
from sb3_gogepo.saving.archive import write_atomically


class Picture(NamedTuple):
    """One picture of the report.

    :param name: of its file, without suffix.
    :param heading: above the picture.
    :param text: between heading and picture; where the picture cannot be drawn, what it lacks.
    :param draw: draws it into axes; None, with no ``figure``: it cannot be drawn.
    :param size: width and height in inches.
    :param figure: makes a figure of its own, in place of ``draw`` and ``size``.
    """

    name: str
    heading: str
    text: str
    draw: Callable[[Axes], None] | None = None
    size: tuple[float, float] = (7.5, 5.5)
    figure: Callable[[], Figure] | None = None


class Report(NamedTuple):
    """What was written, and what it shows.

    :param page: ``index.html``, which contains all pictures.
    :param sweep: what each command achieved.
    :param films: films of some of the commands; empty if there are none.
    """

    page: Path
    sweep: CommandSweep
    films: list[Film]


def write_report(
    model: Any,
    folder: str | Path,
    env: GymEnv | None = None,
    title: str = "",
    stages: Sequence[Stage] = (),
    evaluations: tuple[np.ndarray, np.ndarray] | None = None,
    n_commands: int = 21,
    n_eval_episodes: int = 10,
    n_films: int = 5,
    film_env: gym.Env | None = None,
) -> Path:
    """Write a PNG for each picture, a GIF of the films, and ``index.html``, which contains them all behind a slider.

    :param model: a trained model. The map of policies needs its replay buffer.
    :param folder: folder to write to. It is created if need be.
    :param env: env in which commands are tried; None: the model's env.
    :param title: of the page; empty: algorithm and env steps.
    :param stages: stages recorded by a :class:`~sb3_gogepo.analysis.StageCallback`, for the map of policies.
    :param evaluations: (n_evaluations,) timesteps and (n_evaluations, n_eval_episodes) returns, as in SB3's
        ``evaluations.npz``, for the learning curve; None: there is none.
    :param n_commands: number of commands in the sweep, evenly spaced from the worst return seen to the best one.
    :param n_eval_episodes: number of episodes for each command.
    :param n_films: number of these commands that are filmed, evenly spaced; 0: none. If the env cannot be drawn here, the
        page says so.
    :param film_env: env with ``render_mode="rgb_array"`` in which to film; None: one is made like the model's.
    :return: path of the page.
    :raises ValueError: if the model has not been trained, or for numbers out of range.
    """
    return make_report(
        model,
        folder,
        env=env,
        title=title,
        stages=stages,
        evaluations=evaluations,
        n_commands=n_commands,
        n_eval_episodes=n_eval_episodes,
        n_films=n_films,
        film_env=film_env,
    ).page


def make_report(
    model: Any,
    folder: str | Path,
    env: GymEnv | None,
    title: str,
    stages: Sequence[Stage],
    evaluations: tuple[np.ndarray, np.ndarray] | None,
    n_commands: int,
    n_eval_episodes: int,
    n_films: int,
    film_env: gym.Env | None,
) -> Report:
    """:func:`write_report`, which has the arguments; returns also what was measured."""
    check_number("n_commands", n_commands, minimum=1, integer=True)
    check_number("n_films", n_films, minimum=0, integer=True)
    if model.best_return is None:
        raise ValueError(f"model must have been trained, got a {type(model).__name__} that has seen no episode")
    commands = np.linspace(model.worst_return, model.best_return, n_commands)
    sweep = model.evaluate_commands(commands, n_eval_episodes=n_eval_episodes, env=env)
    predicted = model.policy.predict_returns(commands) if hasattr(model.policy, "predict_returns") else None
    films, no_films = (
        _film(model, commands[choose_filmed(commands, n_films)], film_env) if n_films else ([], "No films: n_films=0.")
    )
    policy_map, no_map = _place(model, stages, commands)
    shown_map = None if policy_map is None else policy_map._replace(paths=policy_map.paths[:-1])
    pictures = [
        _films(films, no_films),
        _sweep(model, sweep, predicted, n_eval_episodes),
        _map(shown_map, no_map),
        _probing(model, commands),
        _curve(evaluations),
    ]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_facts(model)]
    for picture in pictures:
        parts.append(f"<h2>{html.escape(picture.heading)}</h2>")
        if picture.draw is None and picture.figure is None:
            parts.append(f'<p class="missing">{html.escape(picture.text)}</p>')
            continue
        content = _draw(picture)
        write_atomically(folder / f"{picture.name}.png", content, suffix="")
        image = f'<img alt="{html.escape(picture.heading)}" src="{png_url(content)}">'
        parts.append(f"<p>{html.escape(picture.text)}</p>\n{image}")
    if films:
        write_atomically(folder / "films.gif", films_to_gif(films), suffix="")
    data = slider_data(
        sweep,
        n_eval_episodes,
        predicted=predicted,
        films=films,
        no_films=no_films,
        policy_map=policy_map,
        map_text=no_map
        or "Each dot is a policy of the replay buffer, colored by its return. The line leads through the generator's policies "
        "for all commands, and the large dot is the one you ask for.",
    )
    page = folder / "index.html"
    title = title or f"{type(model).__name__}, {model.num_timesteps:,} env steps"
    write_atomically(page, fill_page(title, "\n".join(parts), data), suffix="")
    return Report(page, sweep, films)


def _draw(picture: Picture) -> bytes:
    if picture.figure is not None:
        figure = picture.figure()
    else:
        assert picture.draw is not None
        figure = Figure(figsize=picture.size, layout="constrained")
        picture.draw(figure.subplots())
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, dpi=110, metadata={"Software": None})
    return file.getvalue()


def _facts(model: Any) -> str:
    rows = {
        "Algorithm": type(model).__name__,
        "Env steps": f"{model.num_timesteps:,}",
        "Returns seen in training": f"{model.worst_return:.1f} to {model.best_return:.1f}",
        "Command of predict": f"{model.command:.1f}",
        "Entries of the replay buffer": f"{len(model.replay_buffer):,}" if len(model.replay_buffer) else "not loaded",
    }
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def _film(model: Any, commands: np.ndarray, film_env: gym.Env | None) -> tuple[list[Film], str]:
    """Films, or none and why."""
    try:
        return film_commands(model, commands, env=film_env), ""
    except FilmError as error:
        return [], f"No films: {error}"


def _films(films: list[Film], no_films: str) -> Picture:
    heading = "Films"
    if not films:
        return Picture("films", heading, no_films)
    text = (
        "One episode for each of some commands, all from the same start state, without noise. Pale: the episode has ended. "
        "films.gif, beside this page, shows them moving."
    )
    return Picture("films", heading, text, figure=lambda: draw_film_strip(films))


def _sweep(model: Any, sweep: CommandSweep, predicted: np.ndarray | None, n_eval_episodes: int) -> Picture:
    text = f"What policies of a command achieve, mean and standard deviation of {n_eval_episodes} episodes without noise. "
    if predicted is not None:
        text += "The dotted line is what the evaluator expects of the same policies. "
    text += "Commands lie between the worst and the best return of the training."
    if model.alive_bonus_offset:
        text += f" Returns are those the algorithm learns from: {model.alive_bonus_offset:+g} a step."
    return Picture(
        "commands", "Commanded and achieved return", text, lambda ax: plot_command_sweep(ax, sweep, predicted=predicted)
    )


def _place(model: Any, stages: Sequence[Stage], commands: np.ndarray) -> tuple[PolicyMap | None, str]:
    """The map, whose last path holds the policies of the commands; or None and why."""
    if not hasattr(model, "generate_policy"):
        return None, f"{type(model).__name__} generates no policies, so there is nothing to map."
    if len(model.replay_buffer) < 3:
        return None, "Needs the replay buffer: save it with model.save_replay_buffer."
    present = Stage(model.num_timesteps, commands, model.policy.generate_calibrated(commands).cpu())
    return map_policies(model, [*stages, present]), ""


def _map(policy_map: PolicyMap | None, no_map: str) -> Picture:
    heading = "Map of policies"
    if policy_map is None:
        return Picture("map", heading, no_map)
    text = (
        f"Each dot is a policy of the replay buffer, placed by the two principal components of what it does in "
        f"{policy_map.probing} probing states. "
    )
    if policy_map.paths:
        text += "Lines are the generator's policies at several stages, from the lowest command (dot) to the highest (star)."
    else:
        text += "The generator's path needs the stages of a StageCallback."
    return Picture("map", heading, text, lambda ax: plot_policy_map(ax, policy_map), size=(8, 6.5))


def _probing(model: Any, commands: np.ndarray) -> Picture:
    heading = "Probing states"
    if not isinstance(getattr(model.policy, "evaluator", None), Evaluator):
        return Picture("probing_states", heading, f"This {type(model).__name__} has no learned probing states.")
    ranked = rank_probing_states(model, commands)
    text = (
        "Where the evaluator looks at a policy: the most influential probing states. Influence is the size of the gradient "
        "of the predicted return with respect to the actions there, mean over the policies of all commands."
    )
    return Picture("probing_states", heading, text, lambda ax: plot_probing_states(ax, ranked), size=(7.5, 6))


def _curve(evaluations: tuple[np.ndarray, np.ndarray] | None) -> Picture:
    heading = "Learning curve"
    if evaluations is None:
        return Picture("learning_curve", heading, "Needs evaluations.npz of SB3's EvalCallback(log_path=...).")
    timesteps, returns = evaluations
    text = "Evaluations during the training, as the policy of the best return so far, without noise; the env's own returns."
    return Picture("learning_curve", heading, text, lambda ax: plot_learning_curve(ax, timesteps, returns))
