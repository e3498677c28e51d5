"""Goal-conditioned generators of deep policies for Stable-Baselines3."""

from sb3_gogepo import presets
from sb3_gogepo._version import __version__
from sb3_gogepo.base.callbacks import ResumableCheckpointCallback
from sb3_gogepo.envs import register_legacy_ids
from sb3_gogepo.gogepo import GoGePo
from sb3_gogepo.gpim import GPIM, register_navigation
from sb3_gogepo.networks.policies import GeneratedPolicy
from sb3_gogepo.saving.checkpoints import latest_checkpoint
from sb3_gogepo.saving.untrusted import InvalidFileError
from sb3_gogepo.udrl import UDRL
from sb3_gogepo.udrlpg import UDRLPG

__all__ = [
    "GPIM",
    "GeneratedPolicy",
    "GoGePo",
    "UDRL",
    "UDRLPG",
    "InvalidFileError",
    "ResumableCheckpointCallback",
    "latest_checkpoint",
    "presets",
    "__version__",
]

register_legacy_ids()
register_navigation()
