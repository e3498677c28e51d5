"""RL Zoo's scripts with this package's algorithms, without the start-up hook: ``python -m sb3_gogepo.zoo train ...``.

``enjoy`` and ``record_video`` take one more option: ``--command 1500`` asks for a policy of that return.
``push_to_hub --dry-run`` writes all that would be uploaded, and uploads nothing.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.zoo import hub
from sb3_gogepo.zoo.registration import ALGORITHMS, register

#: script -> module of RL Zoo
SCRIPTS = {
    "train": "rl_zoo3.train",
    "enjoy": "rl_zoo3.enjoy",
    "plot_train": "rl_zoo3.plots.plot_train",
    "plot_from_file": "rl_zoo3.plots.plot_from_file",
    "all_plots": "rl_zoo3.plots.all_plots",
    "record_video": "rl_zoo3.record_video",
    "record_training": "rl_zoo3.record_training",
    "push_to_hub": "rl_zoo3.push_to_hub",
    "load_from_hub": "rl_zoo3.load_from_hub",
    "benchmark": "rl_zoo3.benchmark",
}
WITH_COMMAND = ("enjoy", "record_video")


def main() -> None:
    """Register the algorithms, then run the script named by the first argument with the others."""
    parser = argparse.ArgumentParser(prog="python -m sb3_gogepo.zoo", description=__doc__, add_help=False)
    parser.add_argument("script", choices=SCRIPTS)
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        parser.parse_args(sys.argv[1:2])  # explains and exits
    script, arguments = sys.argv[1], sys.argv[2:]
    register()
    if script in WITH_COMMAND:
        arguments = _take_command(script, arguments)
    draws: AbstractContextManager[None] = nullcontext()
    if script == "push_to_hub":
        module = importlib.import_module("huggingface_sb3.push_to_hub")
        hub.restore_generate_metadata(module)
        n_films = 0 if "--no-render" in arguments else 5
        hub.correct_model_cards(importlib.import_module("huggingface_hub.repocard"), hub.remember_model(module), n_films)
        if "--dry-run" in arguments:
            arguments.remove("--dry-run")
            huggingface_hub: Any = importlib.import_module("huggingface_hub")
            huggingface_hub.HfApi = hub.OfflineHub
        if not {"--no-render", "-h", "--help"} & set(arguments):
            from sb3_gogepo.analysis.renderers import renderer  # with matplotlib, which takes a while

            draws = renderer()
        if {"-h", "--help"} & set(arguments):
            print("sb3_gogepo adds:\n  --dry-run  write the folder hub/, and upload nothing\n")
    if script == "load_from_hub":
        hub.report_missing_files(importlib.import_module("huggingface_sb3"))
    sys.argv = [f"python -m sb3_gogepo.zoo {script}", *arguments]
    module_name = SCRIPTS[script]
    if module_name.startswith("rl_zoo3.plots."):  # importing the package imports all its modules: no second time as __main__
        getattr(importlib.import_module("rl_zoo3.plots"), script)()
        return
    with draws:
        runpy.run_module(module_name, run_name="__main__", alter_sys=True)


def _take_command(script: str, arguments: list[str]) -> list[str]:
    """Obey ``--command`` and return the other arguments, which are RL Zoo's."""
    parser = argparse.ArgumentParser(prog=f"python -m sb3_gogepo.zoo {script}", add_help=False, allow_abbrev=False)
    parser.add_argument("--command", type=float)
    own, others = parser.parse_known_args(arguments)
    if own.command is not None:
        algos = importlib.import_module("rl_zoo3.utils").ALGOS
        commanded = [name for name, entry in ALGORITHMS.items() if issubclass(entry.algorithm, CommandAlgorithm)]
        algos.update({name: _commanded(algos[name], own.command) for name in commanded})
    if "-h" in others or "--help" in others:
        print("sb3_gogepo adds:\n  --command COMMAND     return to ask for (default: the best so far)\n")
    return others


def _commanded(algorithm: type[BaseAlgorithm], command: float) -> type[BaseAlgorithm]:
    """``algorithm``, whose loaded models act as the policy generated for ``command``."""

    def load(*args: Any, **kwargs: Any) -> Any:
        model: Any = algorithm.load(*args, **kwargs)
        model.command = command
        return model

    return type(algorithm.__name__, (algorithm,), {"load": staticmethod(load)})


if __name__ == "__main__":
    main()
