"""ResumableCheckpointCallback: SB3's CheckpointCallback for runs that must go on exactly where they stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_gogepo.base.command_algorithm import CommandAlgorithm
from sb3_gogepo.checks import check_number
from sb3_gogepo.saving.checkpoints import list_checkpoints, remove_leftovers, steps_of
from sb3_gogepo.saving.run_state import generator_states


class ResumableCheckpointCallback(BaseCallback):
    """Save a checkpoint now and then, when training ends, and when the process is asked to terminate: GoGePo, UDRLPG, UDRL.

    See :meth:`~sb3_gogepo.saving.picklefree_algorithm.PicklefreeAlgorithm.save_checkpoint` for what is in it and
    :meth:`~sb3_gogepo.saving.picklefree_algorithm.PicklefreeAlgorithm.load_checkpoint` for how to go on.

    On a signal, the run as of its last episode boundary is saved: at once while episodes run, else after the training that
    is going on. Then ``learn`` stops and the signal is sent once more, to whoever handled it before: SIGTERM ends the process.
    A second signal is handed on at once.
    Signals are handled in the main thread only, which is where Python delivers them.

    :param save_freq: env steps, all envs together, between two checkpoints; each is made at an episode boundary.
    :param save_path: folder of the checkpoints, of this run alone.
    :param keep_last: checkpoints that stay.
    :param signals: on which to save and stop; SLURM's ``--signal`` may send others.
    :raises ValueError: for a ``save_freq`` or ``keep_last`` that is no integer >= 1; when training starts, for any other
        algorithm, and if ``save_path`` holds checkpoints with more steps than the model has made.
    """

    def __init__(
        self,
        save_freq: int,
        save_path: str | os.PathLike[str],
        keep_last: int = 2,
        signals: Sequence[int] = (signal.SIGTERM,),
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        check_number("save_freq", save_freq, minimum=1, integer=True)
        check_number("keep_last", keep_last, minimum=1, integer=True)
        self.save_freq, self.save_path, self.keep_last, self.signals = save_freq, save_path, keep_last, tuple(signals)
        self._saved_at = -1  # env steps
        self._is_saving = False
        self._received: int | None = None
        self._old_handlers: dict[int, Any] = {}

    def _init_callback(self) -> None:
        if not isinstance(self.model, CommandAlgorithm):
            raise ValueError(
                f"ResumableCheckpointCallback works with GoGePo, UDRLPG and UDRL, got {type(self.model).__name__}"
            )

    def _on_training_start(self) -> None:
        remove_leftovers(self.save_path)
        ahead = [path for path in list_checkpoints(self.save_path) if steps_of(path) > self.model.num_timesteps]
        if ahead:
            raise ValueError(
                f"save_path holds '{ahead[-1].name}', but the model has made {self.model.num_timesteps} env steps: "
                f"load it with load_checkpoint('{self.save_path}', env) and learn(..., reset_num_timesteps=False), "
                "or choose another folder"
            )
        self._saved_at = self.model.num_timesteps if list_checkpoints(self.save_path) else -1
        self._received = None
        if threading.current_thread() is threading.main_thread():
            self._old_handlers = {number: signal.signal(number, self._receive) for number in self.signals}

    def _receive(self, number: int, frame: Any) -> None:
        assert isinstance(self.model, CommandAlgorithm)
        if self._received is not None or self.model._collector is None:  # asked twice, or learn was left by an exception
            self._received = number
            self._hand_on()
            return
        self._received = number
        if not self._is_saving:  # at once while episodes run: the env's processes may have had the signal, too
            self._save()

    def _hand_on(self) -> None:
        """Put the old handlers back, and let them have the signal that came."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._old_handlers = {}
        if self._received is not None:
            received, self._received = self._received, None
            os.kill(os.getpid(), received)

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, CommandAlgorithm)
        start = self.model._iteration_start
        if start is not None and self._old_handlers:  # a signal may come during an episode
            self.model._iteration_start = start._replace(run_state={**generator_states(), **start.run_state})
        is_due = self.model.num_timesteps - max(self._saved_at, 0) >= self.save_freq
        if is_due or self._received is not None:
            self._save()

    def _on_step(self) -> bool:
        if self._received is None:
            return True
        self._save()
        return False

    def _on_training_end(self) -> None:
        self._save()
        self._hand_on()

    def _save(self) -> None:
        """Save the last episode boundary, unless that was done, or training was interrupted between two boundaries."""
        assert isinstance(self.model, CommandAlgorithm)
        start = self.model._iteration_start
        if start is None or start.counters["num_timesteps"] <= self._saved_at:
            return
        self._is_saving = True
        try:
            path = self.model.save_checkpoint(self.save_path, keep_last=self.keep_last)
        finally:
            self._is_saving = False
        self._saved_at = steps_of(path)
        if self.verbose >= 1:
            print(f"Saved {path}")
