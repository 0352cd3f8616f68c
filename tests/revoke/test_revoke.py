"""Revocations that meet a fault of another's, or a consent that is just being accepted."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
from flero_vault.migrations import known
from tests.refresh.helpers import Rows, eventually
from tests.refresh.test_refresh import answer_for, grant_of
from tests.stack import BINDING, USER, Vault, refusal_of

from flero_vault.core.authorize import hash_state
from flero_vault.core.model import Attempt, CredentialName, ServiceRevocation, Status
from flero_vault.core.ports import Activated, Activation, NewTokens
from flero_vault.core.secret import Secret
from flero_vault.store.postgres import PostgresStore
from flero_vault_client.v1 import credential_pb2, credential_vault_pb2

pytestmark = pytest.mark.usefixtures("reset")
REVOKED = credential_pb2.CREDENTIAL_STATUS_REVOKED
MINUTE = timedelta(minutes=1)
ROUNDS = 30


@pytest.fixture
def rows(database_url: str) -> Rows:
    return Rows(database_url)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    async with PostgresStore.open(database_url, prepared=True, revision=known()[-1]) as store:
        yield store


async def at_service(store: PostgresStore, name: str) -> ServiceRevocation:
    """Return what became of a credential at its service."""
    credential = await store.load(CredentialName.parse(name))
    assert credential is not None
    return credential.service_revocation


# --- one that does not open ---------------------------------------------------------------------


async def queued(vault: Vault, store: PostgresStore, rows: Rows, workspace: str) -> tuple[str, str]:
    """Revoke a credential so that its service is not told yet; return its name and token."""
    name = (await vault.connect("google", parent=f"workspaces/{workspace}")).name
    token = (await vault.token(name)).access_token
    grant = await grant_of(store, name)
    # As if a refresh were under way: its answer is awaited.
    assert await store.lease(grant, uuid4(), timedelta(hours=1), hinted=False)
    assert await store.revoke(CredentialName.parse(name), at_service=True, supported=True)
    assert await rows.run("SELECT FROM revocations WHERE grant_id = $1", grant.id)
    return name, token


async def corrupt(rows: Rows, workspace: str, *, hours_ago: int) -> None:
    """Let a revocation be older, and the last byte of its access token another one."""
    await rows.run(
        "UPDATE revocations SET create_time = create_time - make_interval(hours => $2),"
        " sealed_access_token = set_byte(sealed_access_token, last, 255 - old)"
        " FROM (SELECT workspace_id AS broken, octet_length(sealed_access_token) - 1 AS last,"
        "   get_byte(sealed_access_token, octet_length(sealed_access_token) - 1) AS old"
        "   FROM revocations) AS present"
        " WHERE workspace_id = $1 AND broken = $1",
        workspace,
        hours_ago,
    )


async def test_a_revocation_that_does_not_open_delays_no_other_and_is_given_up_after_a_day(
    vault: Vault, store: PostgresStore, rows: Rows
) -> None:
    fresh, _ = await queued(vault, store, rows, "broken")
    old, _ = await queued(vault, store, rows, "long-broken")
    sound, token = await queued(vault, store, rows, "sound")
    await corrupt(rows, "broken", hours_ago=0)
    await corrupt(rows, "long-broken", hours_ago=25)
    # All in one batch, those that do not open first.
    await rows.run(
        "UPDATE revocations SET next_time = clock_timestamp() - CASE workspace_id"
        " WHEN 'sound' THEN interval '1 second' ELSE interval '1 minute' END"
    )

    # Revoking another has what is due delivered at once.
    another = await vault.connect("google", parent="workspaces/another")
    revoked = await vault.rpc.Revoke(
        credential_vault_pb2.RevokeRequest(name=another.name, user=USER, revoke_at_service=True)
    )

    async def told() -> bool:
        outcomes = [await at_service(store, name) for name in (old, sound, another.name)]
        return outcomes == [
            ServiceRevocation.FAILED,
            ServiceRevocation.DONE,
            ServiceRevocation.DONE,
        ]

    await eventually(told)
    assert revoked.credential.status == REVOKED
    assert not await vault.emulator.accepts("google", token)
    assert await at_service(store, fresh) is ServiceRevocation.PENDING
    assert len(await rows.run("SELECT FROM revocations")) == 1


# --- a consent that is just being accepted ------------------------------------------------------


async def exchanging(store: PostgresStore, like: Attempt) -> Attempt:
    """Return a new attempt like this one, taken for exchange."""
    begun = await store.begin(replace(like, state_hash=os.urandom(32)), None, None)
    assert begun is not None
    assert await store.consume(begun, b"code", uuid4(), MINUTE)
    return begun


async def test_revoking_while_a_consent_is_accepted_never_fails_and_leaves_no_token(
    vault: Vault, store: PostgresStore, rows: Rows
) -> None:
    name = (await vault.connect("oidc")).name
    parsed = CredentialName.parse(name)
    grant = await grant_of(store, name)
    tokens: NewTokens = answer_for(grant, grant.refresh_fingerprint)
    begun = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(name=name, user=USER, browser_binding=BINDING)
    )
    back = await vault.emulator.consent(begun.authorize_url)
    like, _ = await store.attempt(parsed.workspace, hash_state(Secret(back["state"])))
    assert like is not None

    for number in range(ROUNDS):
        first = Activation(await exchanging(store, like), None, [(grant.id, tokens)], {})
        assert await store.activate(first) is Activated.DONE
        racing = Activation(await exchanging(store, like), None, [(grant.id, tokens)], {})
        revoking = store.revoke(parsed, at_service=False, supported=True)
        activating = store.activate(racing)

        if number % 2:
            revoked, activated = await asyncio.gather(revoking, activating)
        else:
            activated, revoked = await asyncio.gather(activating, revoking)

        row = await rows.grant(name)
        credential = await store.load(parsed)
        assert credential is not None
        assert revoked
        assert activated in {Activated.DONE, Activated.GONE}
        assert credential.status is Status.REVOKED
        assert row["sealed_access_token"] is row["sealed_refresh_token"] is row["key_id"] is None


async def test_revoking_again_stops_a_consent_that_was_begun_since(vault: Vault) -> None:
    credential = await vault.connect("google")
    revoke = credential_vault_pb2.RevokeRequest(name=credential.name, user=USER)
    await vault.rpc.Revoke(revoke)
    begun = await vault.rpc.Reauthenticate(
        credential_vault_pb2.ReauthenticateRequest(
            name=credential.name, user=USER, browser_binding=BINDING
        )
    )
    back = await vault.emulator.consent(begun.authorize_url)

    await vault.rpc.Revoke(revoke)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await vault.complete("google", back)
    assert refusal_of(caught.value).reason == "STATE_INVALID"
