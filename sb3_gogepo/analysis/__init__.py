"""What only a generator of policies can show. Needs the extra ``plots``."""

from sb3_gogepo.analysis.plots import plot_command_sweep, plot_learning_curve

__all__ = ["plot_command_sweep", "plot_learning_curve"]
