"""A trained model as a file that other programs run: ``python -m sb3_gogepo.export model.zip --out policy.onnx``.

Without ``--command`` it is a policy with a knob: its inputs are an observation and the return that is asked for.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sb3_gogepo import UDRLPG, GoGePo

ALGORITHMS: dict[str, Any] = {"gogepo": GoGePo, "udrlpg": UDRLPG}


def main(arguments: list[str] | None = None) -> None:
    """Load the model and write the file."""
    parser = argparse.ArgumentParser(prog="python -m sb3_gogepo.export", description=__doc__)
    parser.add_argument("model", type=Path, help="zip file")
    parser.add_argument("--algo", choices=ALGORITHMS, default="gogepo", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("policy.onnx"), help=".onnx or .pt2 (default: %(default)s)")
    parser.add_argument("--command", type=float, help="return whose policy is written (default: the whole generator)")
    options = parser.parse_args(arguments)
    try:
        model = ALGORITHMS[options.algo].load(options.model, device="cpu")
        path = model.export(options.out, command=options.command)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        parser.error(str(error))
    low, high = model.command_range
    inputs = f"observation (n, {model.observation_space.shape[0]})"
    if options.command is None:
        inputs += f", command (n,) from {low:g} to {high:g}"
    print(f"{path}: {inputs} -> action, {model.action_space}")


if __name__ == "__main__":
    main()
