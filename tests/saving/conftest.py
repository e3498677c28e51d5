import pytest


@pytest.fixture
def saved(make_model, tmp_path):
    """A small trained model and its file."""
    model = make_model().learn(20)
    model.save(tmp_path / "model.zip")
    return model, tmp_path / "model.zip"
