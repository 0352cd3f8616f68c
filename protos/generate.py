"""Generates the typed stubs in `client/flero_vault_client/v1`, and checks that they are fresh.

    python protos/generate.py            write them
    python protos/generate.py --check    exit 1 and name each file that differs
    python protos/generate.py --lint     buf lint, and buf breaking against main

protoc derives Python import paths from the `.proto` paths, which the contract fixes at
`flero/vault/v1`. The stubs live in the client's own package instead, so the one import prefix is
rewritten here, and nothing else: the descriptors keep their canonical names (ADR 0003).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
SOURCES = sorted(path.relative_to(PROTOS) for path in (PROTOS / "flero/vault/v1").glob("*.proto"))
STUBS = ROOT / "client/flero_vault_client/v1"
IMPORT = re.compile(r"^from flero\.vault\.v1 import ", re.MULTILINE)
PACKAGE = '"""Stubs generated from `protos/flero/vault/v1`; the only copy. Do not edit."""\n'


# protoc looks for its plugins on the path; they stand beside the interpreter that runs this.
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
}


def includes() -> list[str]:
    """Return the folders that hold google/api, google/rpc and google/protobuf protos."""
    common = Path(status_pb2.__file__).parent.parent.parent
    return [f"-I{common}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]


def protoc(protos: Path, *arguments: str) -> None:
    """Run the protoc that grpcio-tools brings over every source below `protos`."""
    sources = [str(path) for path in SOURCES if (protos / path).exists()]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *includes()]
    done = subprocess.run(
        [*command, *arguments, *sources],
        check=False,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    if done.returncode:
        sys.exit(done.stderr)


def generate() -> dict[str, str]:
    """Return the text of every stub by file name."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = ("python", "grpc_python", "mypy", "mypy_grpc")
        protoc(PROTOS, *(f"--{output}_out={folder}" for output in outputs))
        stubs = {"__init__.py": PACKAGE}
        for path in sorted((Path(folder) / "flero/vault/v1").iterdir()):
            text = path.read_text()
            serves = "_pb2_grpc" not in path.name or re.search(
                r"^class \w+Stub\b", text, re.MULTILINE
            )
            if serves:  # protoc writes an empty grpc module for a file without a service
                stubs[path.name] = IMPORT.sub("from flero_vault_client.v1 import ", text)
        return stubs


def stale(stubs: dict[str, str]) -> list[str]:
    """Return the names of the stubs that are missing, different or left over."""
    present = {p.name: p.read_text() for p in STUBS.glob("*.py*") if p.is_file()}
    return sorted(
        name for name in stubs.keys() | present.keys() if stubs.get(name) != present.get(name)
    )


def image(protos: Path, target: Path) -> Path:
    """Write the descriptor set that buf reads, so that buf needs no network and no cache."""
    protoc(protos, f"--descriptor_set_out={target}", "--include_imports", "--include_source_info")
    return target


def git(*arguments: str) -> str:
    """Return what git prints; empty if it refuses."""
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def baseline() -> str:
    """Return the commit to compare with: main, or on main the one before the last proto change."""
    main = next(
        (ref for ref in ("origin/main", "main") if git("rev-parse", "-q", "--verify", ref)), ""
    )
    changed = git("status", "--porcelain", "--", "protos/flero") or git(
        "diff", "--name-only", main, "--", "protos"
    )
    if changed:
        return main
    earlier = git("log", "--format=%H", "--max-count=2", main, "--", "protos/flero").split()
    return earlier[1] if len(earlier) > 1 else ""


def lint() -> int:
    """Run buf's lint, and its breaking-change rules against `baseline`."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        now = image(PROTOS, work / "now.binpb")
        config = str(PROTOS / "buf.yaml")
        buf = str(Path(sys.executable).parent / "buf")
        failed = subprocess.run([buf, "lint", str(now), "--config", config], check=False).returncode
        base = baseline()
        old = work / "old"
        for path in SOURCES:
            text = git("show", f"{base}:protos/{path}") if base else ""
            if text:
                (old / path).parent.mkdir(parents=True, exist_ok=True)
                (old / path).write_text(text + "\n")
        if not old.exists():
            print("buf breaking: main has no earlier protos to compare with")
            return failed
        then = image(old, work / "then.binpb")
        command = [buf, "breaking", str(now), "--against", str(then), "--config", config]
        return failed | subprocess.run(command, check=False).returncode


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lint", action="store_true")
    arguments = parser.parse_args()
    if arguments.lint:
        return lint()
    stubs = generate()
    different = stale(stubs)
    if arguments.check:
        for name in different:
            print(f"stale: {STUBS.relative_to(ROOT) / name} (run `make protos`)")
        return 1 if different else 0
    STUBS.mkdir(parents=True, exist_ok=True)
    for name in different:
        if name in stubs:
            (STUBS / name).write_text(stubs[name])
        else:
            (STUBS / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
