"""What ``python -m sb3_gogepo.zoo`` corrects in RL Zoo's ``push_to_hub`` and ``load_from_hub``. It prints each correction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_gogepo.zoo.card import add_sections
from sb3_gogepo.zoo.registration import ALGORITHMS

INSTALL = "pip install rl_zoo3"
INSTALL_WITH_US = 'pip install "sb3-gogepo[zoo]"'


def restore_generate_metadata(push_to_hub: Any) -> None:
    """Give RL Zoo 2.9.2 a function that sb3-team-hf-integration 3.2 has renamed, and that returned a dict before.

    :param push_to_hub: the module ``huggingface_sb3.push_to_hub``.
    """
    if not hasattr(push_to_hub, "generate_metadata"):
        print("huggingface_sb3 has no generate_metadata, which RL Zoo needs: using _generate_metadata")
        push_to_hub.generate_metadata = lambda *args: push_to_hub._generate_metadata(*args).to_dict()


def remember_model(push_to_hub: Any) -> list[Any]:
    """A list into which the model goes that RL Zoo evaluates for the card.

    :param push_to_hub: the module ``huggingface_sb3.push_to_hub``.
    """
    models: list[Any] = []
    original = push_to_hub._evaluate_agent

    def evaluate_agent(model: Any, *args: Any, **kwargs: Any) -> Any:
        models.append(model)
        return original(model, *args, **kwargs)

    push_to_hub._evaluate_agent = evaluate_agent
    return models


def correct_model_cards(repocard: Any, models: Sequence[Any] = (), n_films: int = 0) -> None:
    """Let the cards of this package's models say how to install it, as RL Zoo alone cannot load them, and what they can.

    :param repocard: the module ``huggingface_hub.repocard``.
    :param models: of :func:`remember_model`. The last one's commands, pictures and films are on the card.
    :param n_films: number of commands that are filmed.
    """
    original = repocard.metadata_save

    def metadata_save(path: Path, metadata: dict[str, Any]) -> None:
        card = Path(path).read_text(encoding="utf-8")
        if any(f"--algo {name} " in card for name in ALGORITHMS):
            print(f"Model card: {INSTALL!r} becomes {INSTALL_WITH_US!r}")
            card = card.replace(INSTALL, INSTALL_WITH_US)
            if models:
                print("Model card: a report of the model's commands is added")
                card = add_sections(card, models[-1], Path(path).parent, n_films)
            Path(path).write_text(card, encoding="utf-8")
        original(path, metadata)

    repocard.metadata_save = metadata_save


class OfflineHub:
    """In place of ``HfApi`` in a dry run: the folder is written, and nothing is uploaded."""

    def create_repo(self, repo_id: str, **kwargs: Any) -> str:
        """Where the model could be seen."""
        return f"https://huggingface.co/{repo_id} (not uploaded: this was a dry run)"

    def snapshot_download(self, repo_id: str, local_dir: Path) -> None:
        """The folder, where files of an earlier run may lie."""
        Path(local_dir).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, repo_id: str, folder_path: Path, **kwargs: Any) -> None:
        """Say where the folder is."""
        print(f"Dry run: {Path(folder_path).resolve()} holds what would be uploaded to {repo_id}")


def report_missing_files(huggingface_sb3: Any) -> None:
    """Raise requests' HTTPError, as RL Zoo 2.9.2 expects, for a file that is not on the Hub.

    huggingface_hub 1.0 and later raise their own error. Without this, a model that was trained without VecNormalize cannot
    be loaded, because its ``vec_normalize.pkl`` is missing.

    :param huggingface_sb3: the module ``huggingface_sb3``.
    """
    from huggingface_hub import errors
    from requests.exceptions import HTTPError

    missing = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)
    original = huggingface_sb3.load_from_hub

    def load_from_hub(*args: Any, **kwargs: Any) -> str:
        try:
            return original(*args, **kwargs)
        except missing as error:
            print(f"The Hub says {error}: RL Zoo takes that for a file that need not be there")
            raise HTTPError(str(error)) from error

    huggingface_sb3.load_from_hub = load_from_hub
