from pathlib import Path

import pytest

from benchmarks.studies import learning_curves

DOCS = Path(__file__).parents[2] / "docs" / "learning_curves"


@pytest.mark.parametrize("algo", learning_curves.ALGORITHMS)
def test_tables_of_the_docs_are_those_of_the_results(algo):
    pytest.importorskip("rliable")
    assert (DOCS / f"{algo}.md").read_text(encoding="utf-8") == learning_curves.table(algo)


def test_runs_and_their_table(monkeypatch, tmp_path):
    pytest.importorskip("rliable")
    monkeypatch.setattr(learning_curves, "RESULTS", tmp_path)
    for seed in (3, 12):
        settings = ["gradient_steps=1", "batch_size=8"]
        path = learning_curves.run("udrlpg", "CartPole-v1", steps=60, seed=seed, eval_freq=30, settings=settings)
        assert path.read_text().startswith(
            "# python -m benchmarks.studies.learning_curves run udrlpg CartPole-v1 --steps 60 --seeds"
        )
    _, rows = learning_curves.read(path)
    assert [row["eval_episodes"] for row in rows][-1] == 20
    low, high = sorted(learning_curves.read(path)[1][-1]["eval_return"] for path in tmp_path.glob("*.csv"))
    row = learning_curves.table("udrlpg").splitlines()[2]
    assert row.startswith("| CartPole-v1 | 60 | `gradient_steps=1 batch_size=8` | ")
    assert row.endswith(f" (12) | {(low + high) / 2:.1f} | {(low + high) / 2:.1f} |")
