"""Reads the Dockerfile and .dockerignore, and carries the build stage out in a folder.

No container engine is needed: the folder stands for the image's root, the machine's Python for the
image's. What the build copies is what the COPY lines name and .dockerignore leaves in.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SYSTEM_PATH = "/usr/bin:/bin"
_ABSOLUTE = re.compile(r"(?<![\w./])/(?=(?:opt|src)\b)")


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: `RUN`, and what follows it, on one line."""

    word: str
    rest: str

    @property
    def texts(self) -> list[str]:
        """The strings of the exec form: `["flero-vault"]`."""
        texts: list[str] = json.loads(self.rest)
        return texts


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    steps: tuple[Step, ...]

    def all(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]

    def only(self, word: str) -> Step:
        (step,) = self.all(word)
        return step

    def env(self) -> dict[str, str]:
        pairs = (pair for step in self.all("ENV") for pair in step.rest.split())
        return dict(pair.split("=", 1) for pair in pairs)


def instructions(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        yield Step(word, rest.strip())


def stages(text: str) -> list[Stage]:
    found: list[Stage] = []
    defaults = dict[str, str]()
    for step in instructions(text):
        if step.word == "FROM":
            base, _, name = step.rest.partition(" AS ")
            for key, value in defaults.items():
                base = base.replace(f"${{{key}}}", value)
            found.append(Stage(base, name, ()))
        elif not found:
            key, _, value = step.rest.partition("=")
            defaults[key] = value
        else:
            last = found[-1]
            found[-1] = Stage(last.base, last.name, (*last.steps, step))
    return found


def dockerfile() -> list[Stage]:
    return stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))


class Ignored:
    """What .dockerignore keeps out: of the patterns that match a path or a parent, the last one."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines()]
        self._rules = [
            (not line.startswith("!"), _pattern(line.lstrip("!").strip("/")))
            for line in lines
            if line and not line.startswith("#")
        ]

    def __call__(self, path: str) -> bool:
        out = False
        for excludes, pattern in self._rules:
            if pattern.fullmatch(path):
                out = excludes
        return out


def _pattern(text: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*|\?)", text)
    regex = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(regex.get(p, re.escape(p)) for p in parts) + "(?:/.*)?")


def sent(sources: list[str], ignored: Ignored, root: Path = ROOT) -> Iterator[tuple[Path, str]]:
    """Yield every file that a COPY takes, and where it goes below the destination."""
    for source in sources:
        whole = root / source
        files = [whole] if whole.is_file() else sorted(p for p in whole.rglob("*") if p.is_file())
        taken = [p for p in files if not ignored(p.relative_to(root).as_posix())]
        assert taken, f"COPY {source}: nothing in the context"
        for path in taken:
            yield path, path.name if whole.is_file() else path.relative_to(whole).as_posix()


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: `root` stands for its root folder."""

    root: Path
    env: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    health: str
    elsewhere: Path

    def start(self, command: list[str], settings: dict[str, str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            env=self.env | settings,
            cwd=self.elsewhere,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        with self.start(list(command), settings) as process:
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def vault(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return self.run(*self.entrypoint, *arguments, **settings)

    def healthcheck(self, **settings: str) -> int:
        return self.run("/bin/sh", "-c", self.health, **settings).returncode

    @property
    def site_packages(self) -> Path:
        (found,) = (self.root / "opt/vault/lib").glob("python3.*/site-packages")
        return found


def machine(python: Path) -> dict[str, str]:
    """The environment to build in: the machine's, so that pip finds its index and certificates."""
    python.mkdir()
    shim = python / "python"
    real = Path(sys.base_prefix, "bin", "python3")
    shim.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "FLERO_VAULT_", "VIRTUAL_ENV"))
    }
    return kept | {"PATH": f"{python}:{os.environ.get('PATH', SYSTEM_PATH)}"}


def build(folder: Path) -> Image:
    """Carry out the first stage below `folder`; take what the last one sets."""
    first, last = dockerfile()
    root = folder / "root"
    (root / "opt").mkdir(parents=True)
    environment = machine(folder / "machine")
    ignored = Ignored((ROOT / ".dockerignore").read_text(encoding="utf-8"))
    here = root
    for step in first.steps:
        moved = _ABSOLUTE.sub(f"{root}/", step.rest)
        match step.word:
            case "WORKDIR":
                here = Path(moved)
                here.mkdir(parents=True, exist_ok=True)
            case "COPY":
                *sources, target = moved.split()
                for path, name in sent(sources, ignored):
                    (here / target / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, here / target / name)
            case "RUN":
                done = subprocess.run(
                    ["/bin/sh", "-c", moved],
                    cwd=here,
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{step.rest}\n{done.stdout}\n{done.stderr}"
            case word:
                raise AssertionError(f"a build stage with {word} cannot be carried out here")
    copied = last.only("COPY").rest
    assert copied == "--from=build /opt/vault /opt/vault", "what runs must be what is tested"
    env = {key: _ABSOLUTE.sub(f"{root}/", value) for key, value in last.env().items()}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return Image(
        root=root,
        env=env | {"PATH": env["PATH"].replace("$PATH", SYSTEM_PATH), "HOME": ""},
        entrypoint=last.only("ENTRYPOINT").texts,
        command=last.only("CMD").texts,
        health=last.only("HEALTHCHECK").rest.partition("CMD ")[2],
        elsewhere=elsewhere,
    )
