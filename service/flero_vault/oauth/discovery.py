"""Resolves a client's endpoints: from the connector's file, and from metadata it points to.

- `Resolver.resolve` returns `Endpoints`; what the file says comes before what the metadata says.
- `Documents` fetches JSON by URL and keeps it for an hour. A failure is not kept.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flero_vault.core.connector import ClientAuth, Verdict
from flero_vault.core.ports import Client, Delivery, Failure
from flero_vault.oauth.answers import read_object
from flero_vault.oauth.transport import Transport
from flero_vault.oauth.urls import UnfilledError, fill

DOCUMENT_AGE_S: Final = 3600.0
DOCUMENTS_MAX: Final = 512
"""Bounds the cache where a discovery URL holds connection parameters."""
_WELL_KNOWN: Final = re.compile(
    r"(?P<host>https?://[^/]+)"
    r"(?:(?P<before>/.*)?/\.well-known/openid-configuration"
    r"|/\.well-known/oauth-authorization-server(?P<after>/.*)?)"
)
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a client's requests go; empty: there is none."""

    authorization: str
    token: str
    revocation: str
    probe: str
    issuer: str
    jwks_uri: str
    client_auth: ClientAuth


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched JSON object and when it came."""

    body: Mapping[str, object]
    time: float


class Documents:
    """Fetches public JSON documents and remembers them."""

    def __init__(self, transport: Transport, monotonic: Callable[[], float]) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._kept: OrderedDict[str, Document] = OrderedDict()

    async def get(
        self, url: str, until: float, *, younger_than: float = DOCUMENT_AGE_S
    ) -> Mapping[str, object] | Failure:
        """Return a document, fetched anew if it is older than asked for.

        Whatever goes wrong is NOT_SENT: the request that needed the document was not made.
        """
        kept = self._kept.get(url)
        if kept is not None and self._monotonic() - kept.time < younger_than:
            return kept.body
        answer = await self._transport.send("GET", url, until=until)
        if isinstance(answer, Failure):
            return Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, answer.code)
        body = read_object(answer.body) if answer.status == _OK else None
        if body is None:
            return Failure(
                Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "metadata_unreadable", answer.retry_after
            )
        self._kept[url] = Document(body, self._monotonic())
        self._kept.move_to_end(url)
        while len(self._kept) > DOCUMENTS_MAX:
            self._kept.popitem(last=False)
        return body


class Resolver:
    """Finds the endpoints of a client."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def resolve(self, client: Client, until: float) -> Endpoints | Failure:
        """Return the endpoints, with connection parameters filled in."""
        connector = client.connector

        def filled(template: str) -> str:
            return fill(template, client.params, connector.connection_params)

        try:
            stated = Endpoints(
                authorization=filled(connector.authorization.endpoint),
                token=filled(connector.token.endpoint),
                revocation=filled(connector.revocation.endpoint),
                probe=filled(connector.identity.probe.endpoint),
                issuer=filled(connector.issuer),
                jwks_uri=filled(connector.jwks_uri),
                client_auth=connector.token.client_auth,
            )
            discovery = filled(connector.discovery)
        except UnfilledError:
            return Failure(Delivery.NOT_SENT, Verdict.APP_REFUSED, "connection_param_invalid")
        if not discovery:
            return stated
        metadata = await self._documents.get(discovery, until)
        if isinstance(metadata, Failure):
            return metadata
        if not _is_issued_by(metadata.get("issuer"), discovery, stated.issuer):
            return Failure(Delivery.NOT_SENT, Verdict.SERVICE_DOWN, "issuer_mismatch")
        return _completed(stated, metadata)


def _is_issued_by(issuer: object, discovery: str, stated: str) -> bool:
    """Check that the metadata speaks for the place it was fetched from.

    RFC 8414, section 3.3, and OpenID Connect Discovery, section 4.3: otherwise a server could
    claim another's issuer and have our codes sent to itself.
    """
    if stated:
        return "{" in stated or issuer == stated
    match = _WELL_KNOWN.fullmatch(discovery)
    if match is None or not isinstance(issuer, str):
        return False
    prefix = match["host"] + (match["before"] or match["after"] or "")
    # Discovery, section 4: a terminating "/" of the issuer is dropped before the path is added.
    return issuer in {prefix, f"{prefix}/"}


def _completed(stated: Endpoints, metadata: Mapping[str, object]) -> Endpoints:
    def said(name: str) -> str:
        value = metadata.get(name)
        return value if isinstance(value, str) else ""

    return Endpoints(
        authorization=stated.authorization or said("authorization_endpoint"),
        token=stated.token or said("token_endpoint"),
        revocation=stated.revocation or said("revocation_endpoint"),
        probe=stated.probe or said("userinfo_endpoint"),
        issuer=stated.issuer or said("issuer"),
        jwks_uri=stated.jwks_uri or said("jwks_uri"),
        client_auth=_client_auth(
            stated.client_auth, metadata.get("token_endpoint_auth_methods_supported")
        ),
    )


def _client_auth(stated: ClientAuth, methods: object) -> ClientAuth:
    """Fall back to the form where Basic is not listed (RFC 8414, section 2)."""
    if stated is not ClientAuth.BASIC or not isinstance(methods, list):
        return stated
    only_post = "client_secret_basic" not in methods and "client_secret_post" in methods
    return ClientAuth.POST if only_post else stated
