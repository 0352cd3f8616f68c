"""The settings, `FLERO_VAULT_*`: from the environment, or a TOML file that `_CONFIG` names.

The only reader of the environment. Every problem is reported at once, by the setting's name and
without its value, which may be a secret (a database URL holds a password).
"""

import ipaddress
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "FLERO_VAULT_"
_CONFIG = f"{PREFIX}CONFIG"


class SettingsInvalid(Exception):
    """Settings are wrong; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def split_bind(bind: str) -> tuple[str, int]:
    """Return host and port of `host:port`.

    Raises:
        ValueError: it has another form.

    """
    host, _, port = bind.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004 - the largest port
        raise ValueError("must be host:port")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(value: str) -> str:
    split_bind(value)
    return value


def _database_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        sound = not parts.geturl() or (
            parts.scheme in ("postgresql", "postgres") and (parts.port or 0) >= 0
        )
    except ValueError:
        sound = False
    if not sound:
        raise ValueError(
            "must be postgresql://user:password@host:port/database, "
            "with special characters in the password percent-encoded"
        )
    return value


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    secure = parts.scheme == "https" or (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    )
    if not secure or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be https://host[/path], or http:// on a loopback host")
    return value.rstrip("/")


def _kek(value: str) -> str:
    if not value.startswith("local:"):
        raise ValueError("must be local:PATH")
    return value


def _only_local_callers(value: str) -> str:
    if not is_loopback(split_bind(value)[0]):
        raise ValueError("must be a loopback address: callers are not authenticated yet")
    return value


Bind = Annotated[str, AfterValidator(_bind)]


class Settings(BaseSettings):
    """Every setting. Lengths are in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", hide_input_in_errors=True)

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        default=SecretStr(""), description="PostgreSQL URL; empty in `dev`: embedded"
    )
    database_prepared: Literal["auto", "off"] = Field(
        default="auto", description="`off` behind a pooler that loses prepared statements"
    )
    grpc_bind: Annotated[Bind, AfterValidator(_only_local_callers)] = Field(
        default="127.0.0.1:50051", description="where gRPC listens"
    )
    web_bind: Bind = Field(default="127.0.0.1:8080", description="where `dev` shows its dialog")
    emulator_bind: Bind = Field(
        default="127.0.0.1:9400", description="where `dev` runs the emulated services"
    )
    data_dir: Path = Field(
        default=Path(".flero-vault"), description="the folder of `dev`: database, key, connectors"
    )
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        default="http://127.0.0.1:8080",
        description="what callback URLs begin with, as the browser sees it",
    )
    kek: Annotated[str, AfterValidator(_kek)] | None = Field(
        default=None, description="key-encryption key: `local:PATH` of a keyring file"
    )
    connectors_dir: Path | None = Field(
        default=None, description="a folder of the deployment's own connector files"
    )
    allow_loopback_services: bool = Field(
        default=False, description="allow services on http://localhost; never in production"
    )
    refresh_lease: float = Field(
        default=24.0,
        ge=3.0,
        le=120.0,
        description="how long one process may hold the right to refresh a grant",
    )
    log_format: Literal["json", "text"] = Field(default="json", description="what stderr gets")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment wins over the TOML file; nothing else is read."""
        del dotenv_settings, file_secret_settings
        file = os.environ.get(_CONFIG)
        toml = (TomlConfigSettingsSource(settings_cls, Path(file)),) if file else ()
        return (init_settings, env_settings, *toml)


@dataclass(frozen=True, slots=True)
class Otlp:
    """Where OpenTelemetry's standard variables send each signal by; empty: nowhere."""

    traces: str = ""
    metrics: str = ""

    @property
    def wanted(self) -> bool:
        """Say whether anything is to be sent."""
        return bool(self.traces or self.metrics)


_PROTOCOLS = ("http/protobuf", "grpc")


def otlp() -> Otlp:
    """Read which signals are to be sent, and by which protocol. The SDK reads the rest.

    Raises:
        SettingsInvalid: a protocol that is not spoken.

    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Otlp()
    problems: list[str] = []
    chosen = Otlp(_protocol("TRACES", problems), _protocol("METRICS", problems))
    if problems:
        raise SettingsInvalid(problems)
    return chosen


def _protocol(signal: str, problems: list[str]) -> str:
    common = "OTEL_EXPORTER_OTLP"
    wanted = any(os.environ.get(f"{name}_ENDPOINT") for name in (common, f"{common}_{signal}"))
    if not wanted or os.environ.get(f"OTEL_{signal}_EXPORTER") == "none":
        return ""
    for name in (f"{common}_{signal}_PROTOCOL", f"{common}_PROTOCOL"):
        protocol = os.environ.get(name)
        if protocol:
            if protocol not in _PROTOCOLS:
                problems.append(f"{name} must be {' or '.join(_PROTOCOLS)}")
            return protocol
    return _PROTOCOLS[0]


def load() -> Settings:
    """Read the settings.

    Raises:
        SettingsInvalid: with every problem.

    """
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {_CONFIG}
    problems = [
        f"{name} is not a setting"
        for name in os.environ
        if name.startswith(PREFIX) and name not in known
    ]
    file = os.environ.get(_CONFIG)
    if file and not Path(file).is_file():
        problems.append(f"{_CONFIG} names no file")
    try:
        settings = Settings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError):
        raise SettingsInvalid([*problems, f"{_CONFIG} names no readable TOML file"]) from None
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False, include_context=False):
            where = "_".join(str(part) for part in problem["loc"]).upper()
            named = f"{PREFIX}{where} " if where else ""
            problems.append(named + problem["msg"].removeprefix("Value error, "))
        raise SettingsInvalid(problems) from None
    if problems:
        raise SettingsInvalid(problems)
    return settings
