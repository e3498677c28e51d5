"""RL Zoo plug-in: ``rl_zoo3 train --algo gogepo``, presets and Optuna search spaces.

Installing the package is enough for the plain ``rl_zoo3`` command. A script of your own calls :func:`register` before it
uses RL Zoo; ``python -m sb3_gogepo.zoo train ...`` does that for you.
"""

from sb3_gogepo.zoo.registration import ALGORITHMS, ZooAlgorithm, preset_path, register

__all__ = ["ALGORITHMS", "ZooAlgorithm", "preset_path", "register"]
