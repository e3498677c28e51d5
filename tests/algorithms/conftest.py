import pytest

from sb3_gogepo import GoGePo
from tests.conftest import SMALL


@pytest.fixture(params=SMALL, ids=lambda algorithm: algorithm.__name__)
def algorithm(request):
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Ray takes ten seconds a training: one algorithm will do, but for `make test-slow`."""
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if parameters.get("backend") == "ray" and parameters.get("algorithm") is not GoGePo:
            item.add_marker(pytest.mark.slow)
