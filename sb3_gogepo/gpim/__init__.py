"""GPIM, its policy class, and what it acts in."""

from sb3_gogepo.gpim.goal_wrapper import GoalWrapper
from sb3_gogepo.gpim.gpim import GPIM
from sb3_gogepo.gpim.navigation import Navigation2D, register_navigation
from sb3_gogepo.gpim.policies import GPIMPolicy

__all__ = ["GPIM", "GPIMPolicy", "GoalWrapper", "Navigation2D", "register_navigation"]
