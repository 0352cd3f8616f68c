"""Client of the Flero credential vault.

    async with VaultClient("vault:50051", tls=Tls(ca=...)) as vault:
        token = await vault.get_access_token("workspaces/demo/credentials/…", user="demo")
        await http.get(url, headers=token.headers)

- `VaultClient` and the values and errors that its methods return and raise are here.
- `flero_vault_client.testing` is a vault in memory, for the tests of those who use this.
- `flero_vault_client.web` is the callback page for a Starlette frontend: extra `[web]`.
- `flero_vault_client.v1` are the generated stubs.
"""

from flero_vault_client._channel import Tls, bearer_from
from flero_vault_client._client import VaultClient
from flero_vault_client._errors import (
    AccountMismatch,
    AdminApprovalRequired,
    AppNotVerified,
    CallerNotAllowed,
    CallerUnauthenticated,
    CodeRejected,
    ConnectorNotFound,
    ConsentDenied,
    CredentialExpired,
    CredentialNotFound,
    CredentialPending,
    CredentialRevoked,
    DeadlineExceeded,
    EtagMismatch,
    InvalidField,
    MethodNotServed,
    OAuthAppNotConfigured,
    OAuthAppNotFound,
    OAuthAppRejected,
    RefreshPending,
    RequestIdReused,
    ScopesMissing,
    ServiceRateLimited,
    ServiceUnavailable,
    StateInvalid,
    VaultError,
    VaultInternal,
    VaultOverloaded,
    VaultUnavailable,
    VaultUnreachable,
)
from flero_vault_client._values import (
    AccessToken,
    Account,
    Begun,
    Completed,
    ConnectionParam,
    Connector,
    Credential,
    CredentialScope,
    CredentialStatus,
    Permission,
    Revoked,
    ServiceRevocation,
    StatusReason,
    TokenRequest,
    Verification,
)

__version__ = "0.1.0"

__all__ = [
    "AccessToken",
    "Account",
    "AccountMismatch",
    "AdminApprovalRequired",
    "AppNotVerified",
    "Begun",
    "CallerNotAllowed",
    "CallerUnauthenticated",
    "CodeRejected",
    "Completed",
    "ConnectionParam",
    "Connector",
    "ConnectorNotFound",
    "ConsentDenied",
    "Credential",
    "CredentialExpired",
    "CredentialNotFound",
    "CredentialPending",
    "CredentialRevoked",
    "CredentialScope",
    "CredentialStatus",
    "DeadlineExceeded",
    "EtagMismatch",
    "InvalidField",
    "MethodNotServed",
    "OAuthAppNotConfigured",
    "OAuthAppNotFound",
    "OAuthAppRejected",
    "Permission",
    "RefreshPending",
    "RequestIdReused",
    "Revoked",
    "ScopesMissing",
    "ServiceRateLimited",
    "ServiceRevocation",
    "ServiceUnavailable",
    "StateInvalid",
    "StatusReason",
    "Tls",
    "TokenRequest",
    "VaultClient",
    "VaultError",
    "VaultInternal",
    "VaultOverloaded",
    "VaultUnavailable",
    "VaultUnreachable",
    "Verification",
    "bearer_from",
]
