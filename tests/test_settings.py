"""Settings: every problem at once, by name, without a value."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flero_vault.settings import PREFIX, Settings, SettingsInvalid, is_loopback, load, split_bind

Set = Callable[..., None]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Set settings in an environment that has no other of ours."""
    import os  # noqa: PLC0415 - only to find what the caller's shell has set

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)

    def put(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(PREFIX + name, value)

    return put


def problems() -> list[str]:
    with pytest.raises(SettingsInvalid) as refused:
        load()
    assert str(refused.value) == "\n".join(refused.value.problems)
    return refused.value.problems


def test_an_empty_environment_gives_the_defaults_of_the_contract(put: Set) -> None:
    put()
    found = load()
    assert found.grpc_bind == "127.0.0.1:50051"
    assert found.web_bind == "127.0.0.1:8080"
    assert found.emulator_bind == "127.0.0.1:9400"
    assert found.allow_loopback_services is False


def test_every_problem_is_named_at_once(put: Set) -> None:
    put(
        GRPC_BIND="nowhere",
        WEB_BIND="127.0.0.1:99999",
        PUBLIC_URL="ftp://flero.example",
        KEK="rot13:x",
        REFRESH_LEASE="1",
        LOG_FORMAT="xml",
        DATABASE_PREPARED="maybe",
        ALLOW_LOOPBACK_SERVICES="perhaps",
        TYPO="x",
    )
    found = problems()
    named = {problem.split()[0] for problem in found}
    assert named == {
        PREFIX + name
        for name in (
            "GRPC_BIND", "WEB_BIND", "PUBLIC_URL", "KEK", "REFRESH_LEASE", "LOG_FORMAT",
            "DATABASE_PREPARED", "ALLOW_LOOPBACK_SERVICES", "TYPO",
        )
    }  # fmt: skip
    assert len(found) == len(named)


def test_no_value_stands_in_a_problem(put: Set) -> None:
    planted = "planted-value"
    names = [name.upper() for name in Settings.model_fields if name.endswith("bind")]
    bad = dict.fromkeys(
        [*names, "PUBLIC_URL", "KEK", "REFRESH_LEASE", "LOG_FORMAT", "UNKNOWN_ONE"], planted
    )
    put(DATABASE_URL=f"postgresql://vault:{planted}@db/vault", **bad)
    assert planted not in "\n".join(problems())


def test_the_database_password_is_never_printed(put: Set) -> None:
    put(DATABASE_URL="postgresql://vault:planted@db/vault")
    found = load()
    assert "planted" not in repr(found) + str(found) + str(found.model_dump())
    assert "planted" in found.database_url.get_secret_value()


def test_a_problem_with_the_file_does_not_print_the_database_password(
    put: Set, tmp_path: Path
) -> None:
    file = tmp_path / "vault.toml"
    file.write_text('database_url = ["postgresql://vault:planted@db"]\nnonsense = "planted"\n')
    put(CONFIG=str(file))
    found = problems()
    assert {problem.split()[0] for problem in found} == {
        f"{PREFIX}DATABASE_URL",
        f"{PREFIX}NONSENSE",
    }
    assert "planted" not in "\n".join(found)


def test_a_file_that_is_no_toml_is_a_problem(put: Set, tmp_path: Path) -> None:
    file = tmp_path / "vault.toml"
    file.write_text('database_url = "planted\n')
    put(CONFIG=str(file), KEK="rot13:x")
    text = "\n".join(problems())
    assert f"{PREFIX}CONFIG" in text
    assert "planted" not in text


def test_the_environment_wins_over_the_file(put: Set, tmp_path: Path) -> None:
    file = tmp_path / "vault.toml"
    file.write_text('grpc_bind = "127.0.0.1:1111"\nweb_bind = "127.0.0.1:2222"\n')
    put(CONFIG=str(file), GRPC_BIND="127.0.0.1:3333")
    found = load()
    assert (found.grpc_bind, found.web_bind) == ("127.0.0.1:3333", "127.0.0.1:2222")


def test_a_config_that_names_no_file_is_a_problem_beside_the_others(
    put: Set, tmp_path: Path
) -> None:
    put(CONFIG=str(tmp_path / "absent.toml"), KEK="rot13:x")
    assert sorted(problem.split()[0] for problem in problems()) == [
        f"{PREFIX}CONFIG",
        f"{PREFIX}KEK",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "[::]", "example.com"])  # noqa: S104
def test_grpc_is_refused_where_others_could_reach_it(host: str, put: Set) -> None:
    put(GRPC_BIND=f"{host}:50051")
    assert [problem.split()[0] for problem in problems()] == [f"{PREFIX}GRPC_BIND"]


def test_a_bind_that_others_could_reach_is_named_beside_other_problems(put: Set) -> None:
    put(GRPC_BIND="0.0.0.0:50051", KEK="rot13:x")
    assert {problem.split()[0] for problem in problems()} == {
        f"{PREFIX}GRPC_BIND",
        f"{PREFIX}KEK",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_grpc_may_listen_on_every_loopback_address(host: str, put: Set) -> None:
    put(GRPC_BIND=f"{host}:50051")
    assert load().grpc_bind == f"{host}:50051"


def test_an_unknown_setting_is_named(put: Set) -> None:
    put(X="1", DATABASEURL="postgresql://vault:planted@db")
    assert sorted(problems()) == [
        f"{PREFIX}DATABASEURL is not a setting",
        f"{PREFIX}X is not a setting",
    ]


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://flero.example", True),
        ("https://flero.example/vault/", True),
        ("http://localhost:8080", True),
        ("http://flero.example", False),
        ("https://", False),
        ("https://flero.example?x=y", False),
        ("https://flero.example#x", False),
        ("flero.example", False),
    ],
)
def test_the_public_url_is_https_unless_it_is_this_machine(
    *, url: str, fine: bool, put: Set
) -> None:
    put(PUBLIC_URL=url)
    if fine:
        assert load().public_url == url.rstrip("/")
    else:
        assert [problem.split()[0] for problem in problems()] == [f"{PREFIX}PUBLIC_URL"]


@pytest.mark.parametrize("bind", ["", ":1", "host", "host:", "host:x", "host:65536", "host:-1"])
def test_a_bind_of_another_form_is_refused(bind: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_bind(bind)


def test_brackets_of_an_ipv6_address_are_taken_off() -> None:
    assert split_bind("[::1]:50051") == ("::1", 50051)
    assert is_loopback("::1")
    assert not is_loopback("localhost.example.com")


def test_a_password_that_breaks_the_database_url_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLERO_VAULT_DATABASE_URL", "postgresql://vault:s3cr/etPW@db/vault")

    with pytest.raises(SettingsInvalid) as caught:
        load()

    assert "FLERO_VAULT_DATABASE_URL" in str(caught.value)
    assert "s3cr" not in str(caught.value)
