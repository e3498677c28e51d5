"""``rl_zoo3 train -i``: with its replay buffer, a run goes on exactly; without, as RL Zoo goes on with any algorithm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch as th

from sb3_gogepo import GoGePo

FOLDER = Path("logs/gogepo")
TRAIN = "rl_zoo3 train --algo gogepo --env CartPole-v1 --eval-freq -1"
COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_candidate_num", "best_return", "worst_return", "run_seed")


def load(folder: Path) -> GoGePo:
    model = GoGePo.load(folder / "CartPole-v1.zip")
    model.load_replay_buffer(folder / "replay_buffer.pkl")
    return model


def assert_equal(one: object, two: object) -> None:
    """Bit-equal, for nested dicts and lists of tensors."""
    if isinstance(one, dict):
        assert isinstance(two, dict)
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert isinstance(two, (list, tuple))
        for part, other in zip(one, two, strict=True):
            assert_equal(part, other)
    elif isinstance(one, th.Tensor):
        assert isinstance(two, th.Tensor)
        assert th.equal(one, two)
    else:
        assert one == two


def test_continued_runs(zoo: Callable[..., str], tmp_path: Path) -> None:
    """Run 1 is whole; 2 goes on from its checkpoint, 3 from its end, 4 from its end without the buffer."""
    logs = tmp_path / FOLDER
    zoo(f"{TRAIN} -n 300 --seed 1 --save-freq 100 --save-replay-buffer")
    whole = load(logs / "CartPole-v1_1")
    assert whole._n_updates > 0

    # As if it had been killed: the checkpoint was made in the middle of an episode
    printed = zoo(f"{TRAIN} -n 300 --save-replay-buffer -i {FOLDER}/CartPole-v1_1/rl_model_200_steps.zip")
    assert "Going on after 1" in printed  # the last episode boundary before 200 steps
    continued = load(logs / "CartPole-v1_2")
    assert {key: getattr(continued, key) for key in COUNTERS} == {key: getattr(whole, key) for key in COUNTERS}
    assert_equal(continued.get_parameters(), whole.get_parameters())
    assert_equal(continued.replay_buffer.state_dict(), whole.replay_buffer.state_dict())

    printed = zoo(f"{TRAIN} -n 100 -i {FOLDER}/CartPole-v1_1/CartPole-v1.zip")
    assert "Loading replay buffer" in printed
    assert f"Going on after {whole.num_timesteps} env steps, for 100 more" in printed
    longer = GoGePo.load(logs / "CartPole-v1_3" / "CartPole-v1.zip")
    assert longer.num_timesteps >= whole.num_timesteps + 100
    assert longer._episode_num > whole._episode_num

    (logs / "CartPole-v1_1" / "replay_buffer.pkl").unlink()
    printed = zoo(f"{TRAIN} -n 100 -i {FOLDER}/CartPole-v1_1/CartPole-v1.zip")
    assert "Loading pretrained agent" in printed
    assert "Going on after" not in printed
    anew = GoGePo.load(logs / "CartPole-v1_4" / "CartPole-v1.zip")
    assert anew.num_timesteps >= 100
    assert anew._episode_num < whole._episode_num  # counted from 0
