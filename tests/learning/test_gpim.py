"""GPIM reaches held-out goals of every kind; minutes each."""

import pytest

from benchmarks.gpim.runs import make_model
from benchmarks.gpim.tasks import TASKS, evaluate, in_order

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("task", ["fixed", "image", "dynamic", "sequence"])
def test_gpim_reaches_held_out_goals(task):
    model = make_model(task, "gpim", seed=1).learn(20_000)
    untrained = make_model(task, "gpim", seed=2)
    trained, before = (
        evaluate(lambda observations, who=who: who.predict(observations, deterministic=True)[0], TASKS[task])
        for who in (model, untrained)
    )
    assert trained.normalized_distance < 0.6 < before.normalized_distance


def test_two_places_in_order_are_not_the_other_way_round():
    model = make_model("sequence", "gpim", seed=1).learn(20_000)
    result = evaluate(lambda observations: model.predict(observations, deterministic=True)[0], TASKS["sequence"])
    assert in_order(result.positions, result.targets).mean() > 0.75
