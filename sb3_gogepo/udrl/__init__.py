"""UDRL and its policy class."""

from sb3_gogepo.udrl.policies import UDRLPolicy
from sb3_gogepo.udrl.udrl import UDRL

__all__ = ["UDRL", "UDRLPolicy"]
