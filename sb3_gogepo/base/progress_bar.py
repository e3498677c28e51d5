"""The progress bar of ``learn(progress_bar=True)``."""

from __future__ import annotations

from stable_baselines3.common.callbacks import ProgressBarCallback


class CountedStepsProgressBarCallback(ProgressBarCallback):
    """SB3's progress bar, which shows ``num_timesteps``: an env that waits for others makes steps that do not count."""

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.first_num_timesteps = self.model.num_timesteps

    def _on_step(self) -> bool:
        self.pbar.update(self.model.num_timesteps - self.first_num_timesteps - self.pbar.n)
        return True
