"""Which ID tokens are believed."""

import base64
import hmac
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from tests.emulator.harness import FakeClock
from tests.oauth.harness import Monotonic, client_of, consent_of, plain_connector, unread

from flero_vault.core.connector import Identity, IdentitySource
from flero_vault.core.model import Account
from flero_vault.core.ports import Failure, TokenAnswer
from flero_vault.core.secret import Secret
from flero_vault.oauth.id_token import INVALID, NO_KEYS
from flero_vault.oauth.wire import HttpServers

ISSUER = "https://id.example.com"
NOW = 1_800_000_000
KEY = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "k1"})
NEXT = RSAKey.generate_key(2048, {"kid": "k2"})
CURVE = ECKey.generate_key("P-256", {"kid": "e1"})
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "someone",
    "aud": "flero-dev-plain",
    "exp": NOW + 600,
    "iat": NOW,
    "nonce": "planted-nonce-canary",
    "email": "someone@example.com",
}
CONNECTOR = plain_connector(
    issuer=ISSUER,
    jwks_uri=f"{ISSUER}/keys",
    identity=Identity(source=IdentitySource.ID_TOKEN),
    default_scopes=("openid",),
)


def signed(claims: dict[str, Any], key: Any = KEY, alg: str = "RS256", **header: Any) -> str:
    return jwt.encode({"alg": alg, "kid": key.kid, **header}, claims, key, algorithms=[alg])


class Issuer:
    """Answers the token endpoint with one ID token, and publishes keys."""

    def __init__(self, token: str, *keys: Any, connector: Any = CONNECTOR) -> None:
        self.token = token
        self.keys: list[Any] = [key.as_dict(private=False) for key in keys or (KEY,)]
        self.key_calls = 0
        self.clock = Monotonic()
        self.wall = FakeClock()
        self.connector = connector
        self.client = client_of(connector, origins=(ISSUER,))
        self.servers = HttpServers(self.clock, clients=self.http, wall=self.wall)

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.MockTransport(lambda request: unread(self.answer(request)))
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/keys":
            self.key_calls += 1
            return (
                httpx.Response(200, json={"keys": self.keys}) if self.keys else httpx.Response(500)
            )
        body = {"access_token": "t", "refresh_token": "r", "id_token": self.token}
        return httpx.Response(200, json=body)

    async def exchange(self) -> TokenAnswer | Failure:
        return await self.servers.exchange(
            self.client, consent_of(self.connector), Secret("code"), {}
        )


@pytest.mark.parametrize(
    ("key", "alg"), [(KEY, "RS256"), (KEY, "PS256"), (CURVE, "ES256")], ids=["rs", "ps", "es"]
)
async def test_a_genuine_token_names_the_account(key: Any, alg: str) -> None:
    issuer = Issuer(signed(CLAIMS, key, alg), key)
    answer = await issuer.exchange()
    assert isinstance(answer, TokenAnswer)
    account = await issuer.servers.identify(issuer.client, answer)
    assert account == Account("someone", "someone@example.com")


REFUSED: dict[str, dict[str, Any]] = {
    "other issuer": {"iss": "https://evil.example.com"},
    "issuer with a slash more": {"iss": f"{ISSUER}/"},
    "no issuer": {"iss": None},
    "other audience": {"aud": "another-app"},
    "no audience": {"aud": None},
    "not in the audience": {"aud": ["a", "b"]},
    "several audiences without azp": {"aud": ["flero-dev-plain", "b"]},
    "azp of another": {"azp": "b"},
    "expired": {"exp": NOW - 121},
    "no expiry": {"exp": None},
    "expiry is no number": {"exp": "later"},
    "issued in the future": {"iat": NOW + 121},
    "not yet valid": {"nbf": NOW + 121},
    "no time of issue": {"iat": None},
    "other nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
}


@pytest.mark.parametrize("case", REFUSED)
async def test_claims_that_are_not_ours(case: str) -> None:
    claims = {k: v for k, v in {**CLAIMS, **REFUSED[case]}.items() if v is not None}
    assert await Issuer(signed(claims)).exchange() == INVALID


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW - 100},
        {"iat": NOW + 100},
        {"aud": ["flero-dev-plain"]},
        {"aud": ["flero-dev-plain", "b"], "azp": "flero-dev-plain"},
    ],
)
async def test_claims_that_are_just_right(change: dict[str, Any]) -> None:
    assert isinstance(await Issuer(signed({**CLAIMS, **change})).exchange(), TokenAnswer)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def test_signatures_that_are_not_the_issuers() -> None:
    head, body, _ = signed(CLAIMS).split(".")
    # The two classics, made by hand: the library refuses to make them.
    unsigned = f"{_b64(json.dumps({'alg': 'none'}).encode())}.{body}."
    by_hmac = f"{_b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{body}"
    mac = hmac.digest(KEY.as_pem(private=False), by_hmac.encode(), "sha256")
    by_hmac = f"{by_hmac}.{_b64(mac)}"
    forged = [
        signed(CLAIMS, OTHER),
        unsigned,
        by_hmac,
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
        "not a token",
        "a.b.c",
        "a.b.c.d.e",
        signed(CLAIMS, KEY, "RS512"),
    ]
    for token in forged:
        assert await Issuer(token).exchange() == INVALID, token


async def test_an_unknown_key_is_fetched_once_a_minute_at_most() -> None:
    issuer = Issuer(signed(CLAIMS))
    assert isinstance(await issuer.exchange(), TokenAnswer)
    assert isinstance(await issuer.exchange(), TokenAnswer)
    assert issuer.key_calls == 1
    issuer.token = signed(CLAIMS, NEXT)
    assert await issuer.exchange() == INVALID  # the keys are younger than a minute
    assert issuer.key_calls == 1
    issuer.clock.now = 61
    issuer.keys.append(NEXT.as_dict(private=False))
    assert isinstance(await issuer.exchange(), TokenAnswer)
    assert issuer.key_calls == 2
    issuer.clock.now = 3662
    await issuer.exchange()
    assert issuer.key_calls == 3


async def test_a_key_that_nobody_understands_does_not_cost_the_others() -> None:
    issuer = Issuer(signed(CLAIMS))
    issuer.keys = [{"kty": "AKP", "kid": "pq"}, {"kty": "RSA", "kid": "bad"}, 7, *issuer.keys]
    assert isinstance(await issuer.exchange(), TokenAnswer)


async def test_without_keys_nobody_is_believed() -> None:
    issuer = Issuer(signed(CLAIMS))
    issuer.keys = []
    assert await issuer.exchange() == NO_KEYS


async def test_without_a_declared_issuer_the_token_is_ignored() -> None:
    connector = replace(CONNECTOR, issuer="", jwks_uri="")
    issuer = Issuer(signed(CLAIMS, OTHER), connector=connector)
    answer = await issuer.exchange()
    assert isinstance(answer, TokenAnswer)
    assert answer.identity == {}
    assert await issuer.servers.identify(issuer.client, answer) is None


async def test_a_refresh_does_not_look_at_it() -> None:
    issuer = Issuer(signed(CLAIMS, OTHER))
    answer = await issuer.servers.refresh(issuer.client, "", Secret("r"), 5)
    assert isinstance(answer, TokenAnswer)
    assert issuer.key_calls == 0


@pytest.mark.parametrize(
    ("tid", "accepted"),
    [("5a1f9c2e-0b7d", True), ("../x", False), ("a/b", False), ("", False), (7, False)],
)
async def test_the_issuer_may_hold_a_claim(tid: object, accepted: bool) -> None:  # noqa: FBT001
    connector = replace(CONNECTOR, issuer=ISSUER + "/{tid}/v2.0")
    claims = {**CLAIMS, "tid": tid, "iss": f"{ISSUER}/{tid}/v2.0"}
    answer = await Issuer(signed(claims), connector=connector).exchange()
    assert isinstance(answer, TokenAnswer) if accepted else answer == INVALID
