"""One build for all: it installs everything from the index and takes a while."""

from pathlib import Path

import pytest
from tests.install.dockerfile import Image, build


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the Dockerfile builds."""
    return build(Path(tmp_path_factory.mktemp("image")))
