"""What the Hub's packages raise, and what RL Zoo expects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sb3_gogepo.zoo import hub

errors = pytest.importorskip("huggingface_hub.errors")
requests = pytest.importorskip("requests")


def hub_that_raises(error: Exception) -> Any:
    def load_from_hub(repo_id: str, filename: str) -> str:
        if filename == "config.yml":
            return f"{repo_id}/{filename}"
        raise error

    module = SimpleNamespace(load_from_hub=load_from_hub)
    hub.report_missing_files(module)
    return module


def test_a_file_the_hub_has_not_is_the_error_rl_zoo_expects(capsys: pytest.CaptureFixture[str]) -> None:
    missing = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)  # before huggingface_hub 1.0
    module = hub_that_raises(missing.__new__(missing))  # its constructor wants a HTTP response
    assert module.load_from_hub("me/model", "config.yml") == "me/model/config.yml"
    with pytest.raises(requests.exceptions.HTTPError):
        module.load_from_hub("me/model", "vec_normalize.pkl")
    assert "need not be there" in capsys.readouterr().out


def test_other_errors_stay() -> None:
    with pytest.raises(TimeoutError, match="slow"):
        hub_that_raises(TimeoutError("slow")).load_from_hub("me/model", "vec_normalize.pkl")
