"""Start-up hook: registers this package's algorithms with RL Zoo when, and only when, a process imports ``rl_zoo3``.

RL Zoo has no plug-in mechanism: its command reads a dict of its own. So the ``.pth`` file beside this module has Python
import it at start-up; it then waits for three modules of RL Zoo and lets ``sb3_gogepo.zoo`` extend each right after its
import. Until then nothing but ``os`` and ``sys``, which every Python process has loaded, is imported.

``SB3_GOGEPO_NO_RL_ZOO_HOOK=1`` switches it off; ``python -m sb3_gogepo.zoo`` then still works.
"""

import os
import sys

SWITCH = "SB3_GOGEPO_NO_RL_ZOO_HOOK"
MODULES = frozenset(("rl_zoo3.utils", "rl_zoo3.hyperparams_opt", "rl_zoo3.exp_manager"))


class RLZooFinder:
    """A meta-path finder that finds nothing itself: it marks the loaders of :data:`MODULES`."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Ask the other finders for one of RL Zoo's modules; for every other module, decline at once."""
        if name not in MODULES:
            return None
        for finder in sys.meta_path:
            if finder is RLZooFinder or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _extend_after_import(spec.loader)
                return spec
        return None


def _extend_after_import(loader):
    """Shadow ``loader.exec_module``, on this one object, by a function that also calls ``sb3_gogepo.zoo``."""

    def exec_module(module):
        del loader.exec_module  # from here on the loader is as it was
        loader.exec_module(module)
        try:
            from sb3_gogepo.zoo.registration import extend

            extend(module)
        except Exception as error:
            print(f"sb3_gogepo could not register with RL Zoo ({module.__name__}): {error!r}", file=sys.stderr)

    if hasattr(loader, "exec_module") and hasattr(loader, "__dict__"):
        loader.exec_module = exec_module


if os.environ.get(SWITCH, "0") in ("", "0") and RLZooFinder not in sys.meta_path:
    sys.meta_path.insert(0, RLZooFinder)
