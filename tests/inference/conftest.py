"""Exported runs that several tests look at."""

import pytest

from tests.inference.exported import CASES, Exported, make


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make(CASES[request.param], tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make(CASES["bert"], tmp_path_factory.mktemp("export"))
