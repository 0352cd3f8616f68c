from pathlib import Path

import pytest
from tests.emulator.harness import ORIGIN
from tests.oauth.harness import OIDC_FILE, World

from flero_vault.oauth.catalogue import FileCatalogue, load

SHIPPED = ("slack", "google", "microsoft", "salesforce", "hubspot")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> FileCatalogue:
    """The shipped connectors, moved to the emulator, and a generic OpenID one."""
    folder: Path = tmp_path_factory.mktemp("connectors")
    for key in SHIPPED:
        (folder / f"{key}.toml").write_text(f'extends = "{key}"\norigin = "{ORIGIN}/{key}"\n')
    (folder / "oidc.toml").write_text(OIDC_FILE)
    return load(folder, allow_loopback=True)


@pytest.fixture
def world() -> World:
    return World()
