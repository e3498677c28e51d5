"""The model card: RL Zoo's, with our sections before its usage, whose code runs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sb3_gogepo import GPIM, UDRL, GoGePo
from sb3_gogepo.zoo import hub
from sb3_gogepo.zoo.card import add_sections, read_names
from tests.conftest import SMALL

#: what RL Zoo's card has
CARD = """# **GoGePo** Agent playing **CartPole-v1**

## Usage (with SB3 RL Zoo)
pip install rl_zoo3
python -m rl_zoo3.load_from_hub --algo {algo} --env CartPole-v1 -orga me -f logs/
"""


def make(algorithm: Any, **kwargs: Any) -> Any:
    return algorithm("MlpPolicy", "CartPole-v1", **SMALL[algorithm], **kwargs).learn(200)


def python_block(card: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    return block


@pytest.mark.parametrize("algorithm", [GoGePo, UDRL])
def test_code_on_the_card_runs(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    folder, name = tmp_path / "a-model", algorithm.__name__.lower()
    folder.mkdir()
    (folder / "README.md").write_text(CARD.format(algo=name))
    (folder / "env_kwargs.yml").write_text("render_mode: rgb_array\nsutton_barto_reward: false\n")
    model = make(algorithm)
    model.save(folder / f"{name}-CartPole-v1.zip")
    saved: list[Any] = []
    repocard = SimpleNamespace(metadata_save=lambda path, metadata: saved.append(metadata))
    hub.correct_model_cards(repocard, [None, model])
    repocard.metadata_save(folder / "README.md", {"tags": []})

    card = (folder / "README.md").read_text()
    assert saved == [{"tags": []}]
    assert 'pip install "sb3-gogepo[zoo]"' in card
    assert "pip install rl_zoo3" not in card
    assert card.index("## One model, any return") < card.index("## Usage\n") < card.index("## Usage (with SB3 RL Zoo)")
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", card)
    assert pictures == ["report/commands.png"]
    assert all((folder / picture).is_file() for picture in pictures)
    assert (folder / "report" / "index.html").is_file()
    rows = re.findall(r"^\| (-?[\d.,]+) \| -?[\d.,]+ ± [\d.,]+ \| [\d,]+ \|$", card, flags=re.MULTILINE)
    assert len(rows) == 11
    assert float(rows[-1]) == pytest.approx(model.best_return, abs=0.05)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file: str(tmp_path / repo.removeprefix("me/") / file))
    capsys.readouterr()
    exec(python_block(card), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_films_are_on_the_card(tmp_path: Path) -> None:
    pytest.importorskip("pygame")
    model = make(GoGePo)
    card = add_sections(CARD.format(algo="gogepo"), model, tmp_path, n_films=2)
    assert "](report/films.gif)" in card
    assert (tmp_path / "report" / "films.gif").stat().st_size > 1000


def test_other_cards_stay(tmp_path: Path) -> None:
    card = CARD.format(algo="gpim")
    assert read_names(card) == ("gpim", "CartPole-v1", "me")
    assert read_names("# a card of somebody else") is None
    untrained = GoGePo("MlpPolicy", "CartPole-v1", **SMALL[GoGePo])
    for model in (GPIM.__new__(GPIM), untrained):
        assert add_sections(card, model, tmp_path, n_films=5) == card
    assert not list(tmp_path.iterdir())


def test_dry_run_uploads_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offline = hub.OfflineHub()
    assert "not uploaded" in offline.create_repo(repo_id="me/a-model", private=False)
    for _ in range(2):
        offline.snapshot_download(repo_id="me/a-model", local_dir=tmp_path / "hub" / "a-model")
    offline.upload_folder(repo_id="me/a-model", folder_path=tmp_path / "hub" / "a-model", commit_message="")
    assert f"{tmp_path / 'hub' / 'a-model'} holds what would be uploaded to me/a-model" in capsys.readouterr().out
