import pytest

from tests.conftest import SMALL


@pytest.fixture(params=SMALL, ids=lambda algorithm: algorithm.__name__)
def algorithm(request):
    return request.param
