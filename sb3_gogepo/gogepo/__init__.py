"""GoGePo and its policy class."""

from sb3_gogepo.gogepo.gogepo import GoGePo
from sb3_gogepo.gogepo.policies import GoGePoPolicy

__all__ = ["GoGePo", "GoGePoPolicy"]
