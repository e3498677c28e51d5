"""All pictures of one trained model, and one self-contained HTML page that shows them."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from stable_baselines3.common.type_aliases import GymEnv

from sb3_gogepo.analysis.plots import plot_command_sweep, plot_learning_curve, plot_policy_map, plot_probing_states
from sb3_gogepo.analysis.policy_map import map_policies, rank_probing_states
from sb3_gogepo.analysis.stages import Stage
from sb3_gogepo.checks import check_number
from sb3_gogepo.networks.evaluator import Evaluator
from sb3_gogepo.saving.archive import write_atomically

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; line-height: 1.5; color: #222; }}
img {{ max-width: 100%; }}
td {{ padding: 0.1rem 1.5rem 0.1rem 0; }}
.missing {{ color: #777; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


class Picture(NamedTuple):
    """One picture of the report.

    :param name: of its file, without suffix.
    :param heading: above the picture.
    :param text: between heading and picture; where the picture cannot be drawn, what it lacks.
    :param draw: draws it into axes; None: it cannot be drawn.
    :param size: width and height in inches.
    """

    name: str
    heading: str
    text: str
    draw: Callable[[Axes], None] | None = None
    size: tuple[float, float] = (7.5, 5.5)


def write_report(
    model: Any,
    folder: str | Path,
    env: GymEnv | None = None,
    title: str = "",
    stages: Sequence[Stage] = (),
    evaluations: tuple[np.ndarray, np.ndarray] | None = None,
    n_commands: int = 21,
    n_eval_episodes: int = 10,
) -> Path:
    """Write a PNG for each picture and ``index.html``, which contains them all.

    :param model: a trained model. The map of policies needs its replay buffer.
    :param folder: folder to write to. It is created if need be.
    :param env: env in which commands are tried; None: the model's env.
    :param title: of the page; empty: algorithm and env steps.
    :param stages: stages recorded by a :class:`~sb3_gogepo.analysis.StageCallback`, for the map of policies.
    :param evaluations: (n_evaluations,) timesteps and (n_evaluations, n_eval_episodes) returns, as in SB3's
        ``evaluations.npz``, for the learning curve; None: there is none.
    :param n_commands: number of commands in the sweep, evenly spaced from the worst return seen to the best one.
    :param n_eval_episodes: number of episodes for each command.
    :return: path of the page.
    :raises ValueError: if the model has not been trained, or for numbers below 1.
    """
    check_number("n_commands", n_commands, minimum=1, integer=True)
    if model.best_return is None:
        raise ValueError(f"model must have been trained, got a {type(model).__name__} that has seen no episode")
    commands = np.linspace(model.worst_return, model.best_return, n_commands)
    pictures = [
        _sweep(model, env, commands, n_eval_episodes),
        _map(model, stages),
        _probing(model, commands),
        _curve(evaluations),
    ]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [_facts(model)]
    for picture in pictures:
        parts.append(f"<h2>{html.escape(picture.heading)}</h2>")
        if picture.draw is None:
            parts.append(f'<p class="missing">{html.escape(picture.text)}</p>')
            continue
        content = _draw(picture, folder / f"{picture.name}.png")
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        parts.append(f'<p>{html.escape(picture.text)}</p>\n<img alt="{html.escape(picture.heading)}" src="{source}">')
    title = title or f"{type(model).__name__}, {model.num_timesteps:,} env steps"
    page = folder / "index.html"
    write_atomically(page, PAGE.format(title=html.escape(title), body="\n".join(parts)).encode(), suffix="")
    return page


def _draw(picture: Picture, path: Path) -> bytes:
    figure = Figure(figsize=picture.size, layout="constrained")
    FigureCanvasAgg(figure)
    assert picture.draw is not None
    picture.draw(figure.subplots())
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path.read_bytes()


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


def _sweep(model: Any, env: GymEnv | None, commands: np.ndarray, n_eval_episodes: int) -> Picture:
    sweep = model.evaluate_commands(commands, n_eval_episodes=n_eval_episodes, env=env)
    predicted = model.policy.predict_returns(commands) if hasattr(model.policy, "predict_returns") else None
    text = f"What policies of a command achieve, mean and standard deviation of {n_eval_episodes} episodes without noise. "
    if predicted is not None:
        text += "The dotted line is what the evaluator expects of the same policies. "
    text += "Commands lie between the worst and the best return of the training."
    if model.alive_bonus_offset:
        text += f" Returns are those the algorithm learns from: {model.alive_bonus_offset:+g} a step."
    return Picture(
        "commands", "Commanded and achieved return", text, lambda ax: plot_command_sweep(ax, sweep, predicted=predicted)
    )


def _map(model: Any, stages: Sequence[Stage]) -> Picture:
    heading = "Map of policies"
    if not hasattr(model, "generate_policy"):
        return Picture("map", heading, f"{type(model).__name__} generates no policies, so there is nothing to map.")
    if len(model.replay_buffer) < 3:
        return Picture("map", heading, "Needs the replay buffer: save it with model.save_replay_buffer.")
    policy_map = map_policies(model, stages)
    text = (
        f"Each dot is a policy of the replay buffer, placed by the two principal components of what it does in "
        f"{policy_map.probing} probing states. "
    )
    if stages:
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
