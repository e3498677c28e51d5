import pytest

from benchmarks.studies import learning_curves


@pytest.mark.parametrize("algo", learning_curves.ALGORITHMS)
def test_tables_of_the_docs_are_those_of_the_results(algo):
    pytest.importorskip("rliable")
    assert (learning_curves.TABLES / f"{algo}.md").read_text(encoding="utf-8") == learning_curves.table(algo)


def test_the_last_evaluations_make_a_row(monkeypatch, tmp_path):
    pytest.importorskip("rliable")
    monkeypatch.setattr(learning_curves, "RESULTS", tmp_path)
    for seed, value in ((3, 10.0), (12, 20.0)):
        lines = ["# a command --set batch_size=8", "# versions", "num_timesteps,eval_return", "30,1.0", f"60,{value}"]
        (tmp_path / f"udrlpg_CartPole-v1_60_seed{seed}_batch_size=8.csv").write_text("\n".join(lines))
    row = learning_curves.table("udrlpg").splitlines()[2]
    assert row == "| CartPole-v1 | 60 | `batch_size=8` | 10 (3), 20 (12) | 15.0 | 15.0 |"
