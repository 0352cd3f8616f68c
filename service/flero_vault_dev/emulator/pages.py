"""What a person sees: the consent page and the page for a request that cannot be answered.

- No script at all, one stylesheet, and a policy that says so.
- Everything that came in from outside is escaped on its way into the page.
- `form-action` names the app's origin too: Chromium applies it to the redirect after the form.
"""

import re
from collections.abc import Collection, Mapping
from html import escape
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import HTMLResponse

from flero_vault_dev.emulator.accounts import ACCOUNTS, Account
from flero_vault_dev.emulator.state import Ask

STYLESHEET: Final = "/_static/emulator.css"
APP_NAME: Final = "Flero"
_NETLOC: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


def callback_origin(redirect_uri: str | None, connector: str) -> str | None:
    """Return the origin of a redirect URI that this emulator accepts, else None.

    Any http(s) address will do whose path ends as the vault's callbacks do. The origin goes into a
    header, so nothing but a plain host and port gets through.
    """
    if not redirect_uri or not redirect_uri.isprintable() or "#" in redirect_uri:
        return None
    parts = urlsplit(redirect_uri)
    if parts.scheme not in {"http", "https"} or not _NETLOC.fullmatch(parts.netloc):
        return None
    if not parts.path.endswith(f"/oauth/callback/{connector}"):
        return None
    return f"{parts.scheme}://{parts.netloc}"


def consent(
    *,
    connector: str,
    title: str,
    ask: Ask,
    request_id: str,
    preselected: Account,
    tickable: Collection[str],
    slot_names: Mapping[str, str],
) -> HTMLResponse:
    """Return the page on which a person allows or refuses what the app asks for."""
    origin = callback_origin(ask.redirect_uri, connector) or ""
    groups = "".join(
        _scopes(slot_names[slot], scopes, tickable) for slot, scopes in ask.scopes.items() if scopes
    )
    note = (
        "Untick what you do not want to share."
        if tickable
        else f"{title} grants all of this or nothing."
    )
    body = f"""
<h1>{APP_NAME} asks for access to your {escape(title)} account</h1>
<form method="post" action="/{escape(connector)}/_consent">
<input type="hidden" name="request" value="{escape(request_id)}">
<fieldset>
<legend>Which account?</legend>
{"".join(_account(account, checked=account is preselected) for account in ACCOUNTS.values())}
</fieldset>
{groups}
<p class="note">{escape(note)}</p>
<div class="buttons">
<button type="submit" name="decision" value="allow" class="primary">Allow</button>
<button type="submit" name="decision" value="deny">Cancel</button>
</div>
</form>
<p class="note">Either way you go back to <strong>{escape(origin)}</strong>.</p>
"""
    return _page(title, f"Allow {APP_NAME} to use {title}?", body, 200, origin)


def problem(title: str, message: str) -> HTMLResponse:
    """Return the page for a request that must not lead back to the app (RFC 6749, 4.1.2.1)."""
    body = f"""
<h1>This request cannot be answered</h1>
<p>{escape(message)}</p>
<p class="note">Go back to the app and start again.</p>
"""
    return _page(title, "This request cannot be answered", body, 400, "")


def _account(account: Account, *, checked: bool) -> str:
    return f"""<label class="choice">
<input type="radio" name="account" value="{account.key}"{" checked" if checked else ""}>
<span>{escape(account.name)} <small>{escape(account.email)}</small></span>
</label>
"""


def _scopes(heading: str, scopes: Collection[str], tickable: Collection[str]) -> str:
    boxes = "".join(
        f"""<label class="choice">
<input type="checkbox" name="scope" value="{escape(scope)}" checked\
{"" if scope in tickable else " disabled"}>
<code>{escape(scope)}</code>
</label>
"""
        for scope in scopes
    )
    return f"<fieldset>\n<legend>{escape(heading)}</legend>\n{boxes}</fieldset>\n"


def _page(title: str, heading: str, body: str, status: int, form_target: str) -> HTMLResponse:
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(heading)}</title>
<link rel="stylesheet" href="{STYLESHEET}">
</head>
<body>
<main>
<p class="banner">Emulated <strong>{escape(title)}</strong>, for development. \
Nothing on this page reaches the real service.</p>
{body}</main>
</body>
</html>
"""
    policy = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self' {form_target}"
    )
    return HTMLResponse(
        html,
        status,
        headers={
            "Content-Security-Policy": policy.rstrip(),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )
