"""No secret gets out: a whole life of six credentials, then a search of all that was left behind.

Every secret is known, since a tap sits on the wire to the services. What was written is searched
for each of them: the process's output, the errors that callers got, every row of every table at
several moments, and the texts of the core's own values.
"""

import base64
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
from flero_vault.migrations import known
from tests.refresh.helpers import SERVE, Rows, put_app, serving
from tests.secrets.search import find
from tests.secrets.tap import Tap, running_tapped
from tests.stack import USER, Emulator, Vault, refusal_of

from flero_vault.core.model import CredentialName
from flero_vault.core.ports import Client, Consent, SlotTokens, TokenAnswer
from flero_vault.core.sealing import ACCESS, REFRESH, seal_tokens
from flero_vault.core.secret import Secret
from flero_vault.core.tokens import AccessToken
from flero_vault.envelope.keys import Keys
from flero_vault.envelope.local import open_keyring
from flero_vault.oauth.catalogue import load as load_connectors
from flero_vault.store.postgres import PostgresStore
from flero_vault_client.v1 import credential_vault_pb2
from flero_vault_dev.commands import write_connectors

SERVICES = ("slack", "google", "microsoft", "salesforce", "hubspot", "oidc")


@dataclass
class Evidence:
    """What a run left behind, and the secrets to look for."""

    tap: Tap
    rows: Rows
    keyring: Path
    connectors: Path
    output: Path
    own: set[tuple[str, str]] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    reasons: set[str] = field(default_factory=set)
    tables: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def secrets(self) -> set[tuple[str, str]]:
        """Every secret there was."""
        return self.own | self.tap.secrets

    def canary(self, kind: str, length: int = 43) -> str:
        """Make a secret of our own."""
        text = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(length))
        self.own.add((kind, text))
        return text

    async def refusal(self, call: Coroutine[Any, Any, Any]) -> str:
        """Make a call that fails; keep all that its caller learns."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = caught.value
        trailing = [value for _, value in error.trailing_metadata() or ()]
        texts = [v.decode("latin-1") if isinstance(v, bytes) else v for v in trailing]
        self.errors += [str(error.details()), str(error.debug_error_string()), repr(error), *texts]
        reason = refusal_of(error).reason
        self.reasons.add(reason)
        return reason

    async def look_at_tables(self) -> None:
        """Keep every row of every table as it is now."""
        self.tables.append(await dump(self.rows))


async def dump(rows: Rows) -> str:
    """Return every column of every row, binary ones in hex and as characters."""
    tables = await rows.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    cells = []
    for table in tables:
        # A name out of the catalogue of our own database.
        for row in await rows.run(f'SELECT * FROM "{table["tablename"]}"'):  # noqa: S608
            for value in row.values():
                if isinstance(value, bytes):
                    cells += [value.hex(), value.decode("latin-1")]
                else:
                    cells.append(str(value))
    return "\n".join(cells)


class Life:
    """The life of one credential, with everything that can go wrong in it."""

    def __init__(self, vault: Vault, connector: str, evidence: Evidence) -> None:
        self.vault = vault
        self.connector = connector
        self.evidence = evidence
        self.binding = evidence.canary("browser_binding")

    @property
    def emulator(self) -> Emulator:
        """The services."""
        return self.vault.emulator

    def _know(self, authorize_url: str) -> None:
        query = parse_qs(urlsplit(authorize_url).query)
        for kind in ("state", "nonce"):
            if kind in query:
                self.evidence.own.add((kind, query[kind][0]))

    async def begin(self) -> Any:
        """Begin to authorize."""
        begun = await self.vault.begin(self.connector, browser_binding=self.binding)
        self._know(begun.authorize_url)
        self.evidence.names.append(begun.credential.name)
        return begun

    async def complete(self, back: dict[str, str], **fields: Any) -> Any:
        """Bring the callback."""
        return await self.vault.complete(
            self.connector, back, **({"browser_binding": self.binding} | fields)
        )

    async def token(self, name: str) -> Any:
        """Get a token, and know it."""
        answer = await self.vault.token(name)
        self.evidence.own.add(("access_token", answer.access_token))
        return answer

    async def over(self, name: str) -> None:
        """Let the token be over and the service be asked at once."""
        await self.evidence.rows.age(name, had=7200, left=-1)
        await self.evidence.rows.run("UPDATE grants SET retry_time = NULL")

    async def connect(self) -> str:
        """Connect, refresh and re-authenticate; return the name."""
        begun = await self.begin()
        await self.evidence.look_at_tables()  # the attempt is open
        back = await self.emulator.consent(begun.authorize_url)
        name: str = (await self.complete(back)).credential.name
        await self.token(name)
        await self.over(name)
        await self.token(name)
        again = await self.vault.rpc.Reauthenticate(
            credential_vault_pb2.ReauthenticateRequest(
                name=name, user=USER, browser_binding=self.binding
            )
        )
        self._know(again.authorize_url)
        await self.complete(await self.emulator.consent(again.authorize_url))
        await self.token(name)
        return name

    async def refused_callbacks(self) -> None:
        """Cancel, another browser, a wrong code, a service that fails during the exchange."""
        refusal = self.evidence.refusal
        cancelled = await self.begin()
        denied = await self.emulator.consent(cancelled.authorize_url, decision="deny")
        assert await refusal(self.complete(denied)) == "CONSENT_DENIED"
        begun = await self.begin()
        back = await self.emulator.consent(begun.authorize_url)
        other = self.evidence.canary("browser_binding")
        assert await refusal(self.complete(back, browser_binding=other)) == "STATE_INVALID"
        wrong = self.evidence.canary("code")
        assert await refusal(self.complete(back, code=wrong)) == "CODE_REJECTED"
        for fault in ("server_error_500", "html_502", "html_200"):
            begun = await self.begin()
            back = await self.emulator.consent(begun.authorize_url)
            await self.emulator.control(self.connector, fail=fault, fail_count=1)
            await refusal(self.complete(back))
            await self.emulator.control(self.connector, fail=None)

    async def oversized(self) -> None:
        """Send what is too long or in the wrong place."""
        refusal, canary = self.evidence.refusal, self.evidence.canary
        long = 100_000
        back = {"state": canary("state", long), "code": canary("code", long)}
        assert await refusal(self.complete(back)) == "INVALID_FIELD"
        back = {"state": f"acme.{canary('state')}", "code": canary("code")}
        await refusal(self.complete(back, extra_params={"code": canary("code")}))
        await refusal(self.vault.begin(self.connector, browser_binding=canary("binding", long)))
        await refusal(self.vault.token(canary("access_token")))
        await refusal(self.vault.begin(self.connector, request_id=canary("access_token")))

    async def end(self, name: str) -> None:
        """Fail to refresh in three ways, be refused as an app, expire."""
        for fault in ("server_error_500", "html_502", "html_200"):
            await self.over(name)
            await self.emulator.control(self.connector, fail=fault)
            assert await self.evidence.refusal(self.token(name)) == "SERVICE_UNAVAILABLE"
        await self.emulator.control(self.connector, fail=None)
        await put_app(self.vault, self.connector, self.evidence.canary("client_secret"))
        await self.over(name)
        assert await self.evidence.refusal(self.token(name)) == "OAUTH_APP_REJECTED"
        await self.evidence.look_at_tables()  # the canary of a client secret is stored
        await put_app(self.vault, self.connector)
        await self.over(name)
        await self.emulator.control(self.connector, fail="invalid_grant")
        assert await self.evidence.refusal(self.token(name)) == "CREDENTIAL_EXPIRED"
        await self.emulator.control(self.connector, fail=None)

    async def revoke_and_delete(self) -> None:
        """Revoke one at the service, delete another."""
        for stop in (self._revoke, self._delete):
            begun = await self.begin()
            back = await self.emulator.consent(begun.authorize_url, account="grace")
            name = (await self.complete(back)).credential.name
            await self.token(name)
            await stop(name)
            await self.evidence.refusal(self.token(name))

    async def _revoke(self, name: str) -> None:
        await self.vault.rpc.Revoke(
            credential_vault_pb2.RevokeRequest(name=name, user=USER, revoke_at_service=True)
        )

    async def _delete(self, name: str) -> None:
        await self.vault.rpc.DeleteCredential(
            credential_vault_pb2.DeleteCredentialRequest(name=name, user=USER)
        )


@asynccontextmanager
async def running_evidence(database_url: str, folder: Path) -> AsyncIterator[Evidence]:
    async with running_tapped() as (emulator, tap):
        evidence = Evidence(
            tap=tap,
            rows=Rows(database_url),
            keyring=folder / "keyring.json",
            connectors=write_connectors(folder / "connectors", emulator.origin),
            output=folder / "output.log",
        )
        settings = {
            "FLERO_VAULT_DATABASE_URL": database_url,
            "FLERO_VAULT_KEK": f"local:{evidence.keyring}",
            "FLERO_VAULT_CONNECTORS_DIR": str(evidence.connectors),
            "FLERO_VAULT_ALLOW_LOOPBACK_SERVICES": "true",
        }
        async with serving(SERVE, settings, emulator, evidence.output) as server:
            for connector in SERVICES:
                await put_app(server.vault, connector)
                life = Life(server.vault, connector, evidence)
                name = await life.connect()
                await life.refused_callbacks()
                await life.oversized()
                await life.end(name)
                await life.revoke_and_delete()
                await life.connect()  # one that is alive at the end
                await life.begin()  # and one on its way
        await evidence.look_at_tables()
        yield evidence


@pytest.fixture(scope="module")
async def evidence(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Evidence]:
    async with running_evidence(database_url, tmp_path_factory.mktemp("canary")) as evidence:
        yield evidence


def test_the_run_met_every_kind_of_secret_and_every_refusal(evidence: Evidence) -> None:
    kinds = {kind for kind, _ in evidence.secrets}
    assert kinds >= {
        "access_token", "browser_binding", "client_secret", "code", "code_verifier", "id_token",
        "nonce", "refresh_token", "state",
    }  # fmt: skip
    assert evidence.reasons >= {
        "CODE_REJECTED", "CONSENT_DENIED", "CREDENTIAL_EXPIRED", "CREDENTIAL_NOT_FOUND",
        "CREDENTIAL_REVOKED", "INVALID_FIELD", "OAUTH_APP_REJECTED", "SERVICE_UNAVAILABLE",
        "STATE_INVALID",
    }  # fmt: skip
    assert len(evidence.secrets) > 200


def test_no_line_of_the_log_holds_a_secret(evidence: Evidence) -> None:
    output = evidence.output.read_text()

    assert {"refresh.done", "refresh.refused", "callback.done"} <= set(output.split('"'))
    assert find({"the output": output}, evidence.secrets) == []


def test_no_error_that_a_caller_gets_holds_a_secret(evidence: Evidence) -> None:
    assert len(evidence.errors) > 100
    assert find({"an error": "\n".join(evidence.errors)}, evidence.secrets) == []


def test_no_row_of_any_table_holds_a_secret_that_is_not_sealed(evidence: Evidence) -> None:
    moments = {f"the tables at moment {n}": text for n, text in enumerate(evidence.tables)}

    assert find(moments, evidence.secrets) == []


async def test_no_value_of_the_core_prints_a_secret(evidence: Evidence) -> None:
    catalogue = load_connectors(evidence.connectors, allow_loopback=True)
    values: list[object] = []
    texts: list[Secret] = []
    async with PostgresStore.open(
        evidence.rows.database_url, prepared=True, revision=known()[-1]
    ) as store:
        sealer = Keys(store, open_keyring(evidence.keyring))
        for spelled in evidence.names:
            name = CredentialName.parse(spelled)
            values += [await store.load(name), await store.read_token(name, "")]
            for grant in await store.grants_of(name):
                if grant.access_token is None or grant.refresh_token is None:
                    continue
                access = await sealer.open(grant.seat, ACCESS, grant.access_token)
                refresh = await sealer.open(grant.seat, REFRESH, grant.refresh_token)
                texts += [access, refresh]
                connector = catalogue.find(grant.connector)
                assert connector is not None
                slot = SlotTokens(grant.slot, access, refresh, "Bearer", (), 3600, None)
                sealed = await seal_tokens(
                    sealer, grant.seat, slot, kept_refresh_token=refresh, kept_from=None,
                    scopes=(), connection={}, age=0,
                )  # fmt: skip
                values += [
                    grant, access, refresh, slot, sealed,
                    TokenAnswer((slot,), {}, {"id_token": access.reveal()}),
                    Client(connector, {}, "id", (refresh,), ()),
                    Consent("https://example.com/", access, refresh, refresh, (), ""),
                    AccessToken(access, "Bearer", None, (), {}, ""),
                ]  # fmt: skip
        values += list(await store.list_apps("_deployment", None, 100))
        for row in await evidence.rows.run("SELECT workspace_id, state_hash FROM attempts"):
            values += list(await store.attempt(row["workspace_id"], row["state_hash"]))
    printed = "\n".join(f"{value} {value!r} {[value]}" for value in values)
    known_secrets = {secret for _, secret in evidence.secrets}

    assert texts
    assert {text.reveal() for text in texts} <= known_secrets
    assert find({"a printed value": printed}, evidence.secrets) == []


# --- the search itself -------------------------------------------------------------------------

PLANTED: dict[str, Callable[[str], str]] = {
    "plain": str,
    "its end": lambda text: text[10:],
    "reversed": lambda text: text[::-1],
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 after one byte": lambda text: base64.b64encode(f"a{text}z".encode()).decode(),
    "base64 after two bytes": lambda text: base64.b64encode(f"ab{text}z".encode()).decode(),
    "base64 in a URL": lambda text: base64.urlsafe_b64encode(f"\xff{text}".encode()).decode(),
}


@pytest.mark.parametrize("written", PLANTED)
@pytest.mark.parametrize("length", [42, 43, 44])
def test_the_search_finds_a_secret_however_it_is_written(written: str, length: int) -> None:
    secret = secrets.token_urlsafe(64)[:length]

    found = find({"here": f'{{"k": "{PLANTED[written](secret)}"}}'}, [("planted", secret)])

    assert found == ["planted in here"]


async def test_the_search_finds_what_does_lie_in_rows_logs_and_errors(evidence: Evidence) -> None:
    name = evidence.names[-1].rpartition("/")[2]
    plain = [("a credential's id", name)]

    places = {"rows": evidence.tables[-1], "the output": evidence.output.read_text()}
    assert "My google" in evidence.tables[-1]
    assert find({"rows": places["rows"]}, plain) == ["a credential's id in rows"]
    logged = [("a log line's event", '"event": "refresh.done"')]
    assert find(places, logged) == ["a log line's event in the output"]
    said = [("a sentence", "no longer accepts “My google”")]
    assert find({"errors": "\n".join(evidence.errors)}, said) == ["a sentence in errors"]


async def test_the_search_finds_a_token_planted_in_a_row(evidence: Evidence) -> None:
    token = next(secret for kind, secret in evidence.secrets if kind == "refresh_token")
    planted = evidence.canary("planted")
    statement = "UPDATE credentials SET account_label = $1"
    await evidence.rows.run(statement, base64.b64encode(f"{token}".encode()).decode())
    with_label = await dump(evidence.rows)
    await evidence.rows.run(statement, "")
    await evidence.rows.run("UPDATE attempts SET code_hash = $1", planted.encode())
    with_bytes = await dump(evidence.rows)

    assert find({"rows": with_label}, [("token", token)]) == ["token in rows"]
    assert find({"rows": with_bytes}, [("planted", planted)]) == ["planted in rows"]
