"""Pictures and films of a trained generator of policies. Needs the extra ``plots``."""

from sb3_gogepo.analysis.film_files import draw_film_strip, films_to_gif
from sb3_gogepo.analysis.films import Film, film_commands
from sb3_gogepo.analysis.plots import plot_command_sweep, plot_learning_curve, plot_policy_map, plot_probing_states
from sb3_gogepo.analysis.policy_map import PolicyMap, ProbingStates, map_policies, rank_probing_states
from sb3_gogepo.analysis.report import write_report
from sb3_gogepo.analysis.stages import Stage, StageCallback, load_stages, save_stages

__all__ = [
    "Film",
    "PolicyMap",
    "ProbingStates",
    "Stage",
    "StageCallback",
    "draw_film_strip",
    "film_commands",
    "films_to_gif",
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
