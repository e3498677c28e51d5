"""UDRLPG and its policy class."""

from sb3_gogepo.udrlpg.policies import UDRLPGPolicy
from sb3_gogepo.udrlpg.udrlpg import UDRLPG

__all__ = ["UDRLPG", "UDRLPGPolicy"]
