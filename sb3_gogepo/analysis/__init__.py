"""Pictures of a trained generator of policies. Needs the extra ``plots``."""

from sb3_gogepo.analysis.plots import plot_command_sweep, plot_learning_curve, plot_policy_map, plot_probing_states
from sb3_gogepo.analysis.policy_map import PolicyMap, ProbingStates, map_policies, rank_probing_states
from sb3_gogepo.analysis.report import write_report
from sb3_gogepo.analysis.stages import Stage, StageCallback, load_stages, save_stages

__all__ = [
    "PolicyMap",
    "ProbingStates",
    "Stage",
    "StageCallback",
    "load_stages",
    "map_policies",
    "plot_command_sweep",
    "plot_learning_curve",
    "plot_policy_map",
    "plot_probing_states",
    "rank_probing_states",
    "save_stages",
    "write_report",
]
