"""The callback page: where a service sends the browser back to, for any Starlette frontend.

The frontend mounts the routes and says who is signed in; the vault does the rest::

    vault = CredentialVaultStub(grpc.aio.secure_channel(...))
    app = Starlette(routes=[*callback_routes(vault, user_of=signed_in_user), ...])

    async def begin(request: Request) -> Response:      # the frontend's own dialog
        binding = browser_binding(request)
        answer = await vault.BeginAuthorize(
            BeginAuthorizeRequest(..., browser_binding=binding.value), timeout=10
        )
        response = JSONResponse({"authorize_url": answer.authorize_url})
        binding.set_cookie(response)
        return response

Rules that hold here:

- `state` and `code` leave the address bar, the history and the Referer at once: every callback is
  answered with 303 to `/oauth/result/{random id}`. They are never logged, and no cookie of ours
  holds them. Switch off your server's access log for `/oauth/callback/`, or keep its query out.
- What the result page says travels in a cookie that lives for a minute, belongs to that one path
  and is authenticated with the browser's binding. So no other site can put words on this page, any
  replica can show it, and it is shown once.
- The browser's binding is a `__Host-` cookie: the one who comes back is the one who left.
- The page runs no inline script, shows text only as text, and cannot be framed.
- Without a signed-in user or a binding the vault is not even asked.

The result page announces itself on `BroadcastChannel("flero-oauth")` with `{credential, connected,
reason, sentence}`. The dialog may use that to show why nothing was connected; what is connected it
learns from WatchCredential, which works even if the tab was closed on the way.
"""

from flero_vault_client._refusal import Refusal, refusal_of
from flero_vault_client.web._binding import BrowserBinding, browser_binding
from flero_vault_client.web._callback import callback_routes
from flero_vault_client.web._headers import SecurityHeaders

__all__ = [
    "BrowserBinding",
    "Refusal",
    "SecurityHeaders",
    "browser_binding",
    "callback_routes",
    "refusal_of",
]
