"""What ``python -m sb3_gogepo.zoo push_to_hub`` adds to RL Zoo's model card: commands, pictures, films, code that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.base.command_sweep import CommandSweep

#: RL Zoo's heading, before which our sections stand
USAGE = "## Usage (with SB3 RL Zoo)"
N_COMMANDS, N_EVAL_EPISODES = 11, 5


class Names(NamedTuple):
    """What RL Zoo's card calls things."""

    algo: str
    env: str
    organization: str


def read_names(card: str) -> Names | None:
    """The names in RL Zoo's card; None if it is not one."""
    match = re.search(r"load_from_hub --algo (\S+) --env (\S+) -orga (\S+)", card)
    return None if match is None else Names(*match.groups())


def add_sections(card: str, model: Any, folder: Path, n_films: int) -> str:
    """The card with our sections; their pictures and the page go to ``folder / "report"``.

    A model that does not act on commands, or that has seen no episode, has RL Zoo's card.

    :param card: RL Zoo's.
    :param model: which was evaluated.
    :param folder: of the repository.
    :param n_films: number of commands that are filmed.
    """
    names = read_names(card)
    if names is None or not isinstance(model, CommandAlgorithm) or model.best_return is None:
        return card
    from sb3_gogepo.analysis.report import make_report  # matplotlib takes a while

    report = make_report(
        model,
        folder / "report",
        env=None,
        title=f"{type(model).__name__} on {names.env}, {model.num_timesteps:,} env steps",
        stages=(),
        evaluations=None,
        n_commands=N_COMMANDS,
        n_eval_episodes=N_EVAL_EPISODES,
        n_films=n_films,
        film_env=None,
    )
    film = "![One episode of each of five commands](report/films.gif)\n\n" if report.films else ""
    bonus = f" Returns count {model.alive_bonus_offset:+g} a step: they are without the bonus for staying alive."
    text = f"""## One model, any return

{film}![Achieved over commanded return](report/commands.png)

What the model earns when it is asked for a return, in {N_EVAL_EPISODES} episodes each, without noise.\
{bonus if model.alive_bonus_offset else ""}

{command_table(report.sweep)}
`report/index.html` is a page to play with: download it and open it in a browser.

## Usage

{_usage(model, names, folder)}
"""
    return card.replace(USAGE, f"{text}\n{USAGE}", 1)


def command_table(sweep: CommandSweep) -> str:
    """A Markdown table with a row for each command."""
    lines = ["| Asked for | Achieved (mean and standard deviation) | Mean length |", "|---|---|---|"]
    for command, mean, spread, length in zip(*sweep, strict=True):
        lines.append(f"| {command:,.1f} | {mean:,.1f} ± {spread:,.1f} | {length:,.0f} |")
    return "\n".join(lines) + "\n"


def _usage(model: Any, names: Names, folder: Path) -> str:
    """Code that loads and evaluates the model, for any folder to run it in."""
    if model.env is not None and unwrap_vec_normalize(model.env) is not None:
        return "This model was trained behind VecNormalize, whose statistics RL Zoo loads with it: see below."
    name, (low, high) = type(model).__name__, model.command_range
    kwargs = _env_kwargs(folder)
    made = "".join(f", {key}={value!r}" for key, value in kwargs.items())
    env = f'gym.make("{names.env}"{made})' if kwargs else f'"{names.env}"'
    return f"""```bash
pip install "sb3-gogepo[zoo]"
```

```python
{"import gymnasium as gym" + chr(10) if kwargs else ""}from huggingface_hub import hf_hub_download
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_gogepo import {name}

path = hf_hub_download("{names.organization}/{folder.name}", "{names.algo}-{names.env}.zip")
model = {name}.load(path, env={env})  # no code from the file is run
print(evaluate_policy(model, model.get_env(), n_eval_episodes=3))  # the best policy
model.command = {(low + high) / 2:.4g}  # or one of another return, from {low:.4g} to {high:.4g}
print(evaluate_policy(model, model.get_env(), n_eval_episodes=3))
```"""


def _env_kwargs(folder: Path) -> dict[str, Any]:
    """Arguments of the env, as RL Zoo wrote them, without that for rendering."""
    path = folder / "env_kwargs.yml"
    kwargs = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return {key: value for key, value in (kwargs or {}).items() if key != "render_mode"}
