"""What the result page says: as a value, sealed into a cookie, and as HTML.

- Words for a person stand in tables here, by reason; the vault's own sentence comes first.
- A sealed outcome opens only with the binding of the browser that it was sealed for and under the
  page id it was sealed for. Without that, a neighbouring subdomain could plant a cookie and make
  this page say what it likes.
- Everything is escaped on its way into HTML, whoever wrote it.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import grpc

from flero_vault_client._refusal import Refusal

# A browser keeps 4,096 bytes of name, value and attributes. Base64 makes four of three, and a
# character may be four bytes of UTF-8.
SENTENCE_MAX_CHARS: Final = 400
HELP_URL_MAX_CHARS: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One page: what happened, why, and what the person can do now."""

    status: int
    title: str
    sentence: str
    advice: str = ""
    reason: str = ""
    help_url: str = ""
    credential: str = ""
    connected: bool = False


SHOWN_ALREADY: Final = Outcome(
    status=HTTPStatus.OK,
    title="Nothing to see here any more",
    sentence="This page has been shown already. You can close this tab.",
)
SIGNED_OUT: Final = Outcome(
    status=HTTPStatus.FORBIDDEN,
    title="You are not signed in",
    sentence="Flero does not know who you are in this browser, so nothing was connected.",
    advice="Sign in to Flero and start again from there.",
)
OTHER_BROWSER: Final = Outcome(
    status=HTTPStatus.FORBIDDEN,
    title="Not started in this browser",
    sentence="A connection has to be finished in the browser it was started in, within a day.",
    advice="Start again from Flero, in this browser.",
)
UNREADABLE: Final = Outcome(
    status=HTTPStatus.BAD_REQUEST,
    title="This address is not complete",
    sentence="The service sent you back with an answer that Flero cannot read.",
    advice="Start again from Flero. If it happens again, tell whoever looks after Flero.",
)

_START_AGAIN: Final = "Go back to Flero and start again."
_LATER: Final = "Wait a few minutes, then start again from Flero."
_ASK_KEEPER: Final = "Tell whoever looks after Flero at your company."

# For each reason a title and an advice.
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "CONSENT_DENIED": ("Not connected", "Changed your mind? Go back to Flero and try again."),
    "ADMIN_APPROVAL_REQUIRED": (
        "An administrator has to approve",
        "Forward this to your administrator. Once approved, continue from Flero.",
    ),
    "APP_NOT_VERIFIED": ("The service does not let Flero in yet", _ASK_KEEPER),
    "ACCOUNT_MISMATCH": (
        "This is another account",
        "The connection is as it was. Go back to Flero and choose the account it belongs to.",
    ),
    "STATE_INVALID": ("This page can no longer be used", _START_AGAIN),
    "CODE_REJECTED": ("Not connected", _START_AGAIN),
    "OAUTH_APP_NOT_CONFIGURED": ("Flero is not set up for this service", _ASK_KEEPER),
    "OAUTH_APP_REJECTED": ("The service does not accept Flero", _ASK_KEEPER),
    "SERVICE_UNAVAILABLE": ("The service does not answer", _LATER),
    "SERVICE_RATE_LIMITED": ("The service is busy", _LATER),
    "VAULT_UNAVAILABLE": ("Flero cannot do this right now", _LATER),
    "VAULT_OVERLOADED": ("Flero cannot do this right now", _LATER),
}

_LATER_CODES: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


def connected(credential: str) -> Outcome:
    """Say that it worked."""
    return Outcome(
        status=HTTPStatus.OK,
        title="Connected!",
        sentence="You can close this tab.",
        credential=credential,
        connected=True,
    )


def refused(refusal: Refusal) -> Outcome:
    """Say what the vault said."""
    if refusal.code in _LATER_CODES:
        status, title, advice = (
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Flero cannot do this right now",
            _LATER,
        )
        sentence = "Flero could not finish the connection."
    else:
        status, title, advice = HTTPStatus.CONFLICT, "Not connected", _START_AGAIN
        sentence = "Something went wrong, and nothing was connected."
    title, advice = _WORDS.get(refusal.reason, (title, advice))
    help_url = refusal.help_url if len(refusal.help_url) <= HELP_URL_MAX_CHARS else ""
    return Outcome(
        status=status,
        title=title,
        sentence=(refusal.sentence or sentence)[:SENTENCE_MAX_CHARS],
        advice=advice,
        reason=refusal.reason,
        # Only what a click may follow: no `javascript:` whatever the policy of the page says.
        help_url=help_url if urlsplit(help_url).scheme in {"https", "http"} else "",
        credential=refusal.metadata.get("credential", ""),
    )


def seal(outcome: Outcome, *, binding: str, page_id: str) -> str:
    """Make a cookie value of an outcome."""
    words = json.dumps(asdict(outcome), ensure_ascii=False, separators=(",", ":"))
    payload = base64.urlsafe_b64encode(words.encode()).decode().rstrip("=")
    return f"{payload}.{_tag(payload, binding=binding, page_id=page_id)}"


def unseal(unverified_value: str, *, binding: str, page_id: str) -> Outcome:
    """Open a cookie value. Whatever does not open has nothing to say: SHOWN_ALREADY."""
    payload, _, unverified_tag = unverified_value.partition(".")
    tag = _tag(payload, binding=binding, page_id=page_id)
    if not hmac.compare_digest(tag.encode(), unverified_tag.encode()):
        return SHOWN_ALREADY
    try:
        return Outcome(**json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    except (binascii.Error, ValueError, TypeError):
        # Authentic, but of another version of this program, during a roll-out.
        return SHOWN_ALREADY


def page(outcome: Outcome, *, static: str) -> str:
    """Render an outcome; `static` is the URL path of the folder with style and script."""
    tone = "good" if outcome.connected else "bad" if outcome.advice else "plain"
    advice = f"<p>{escape(outcome.advice)}</p>" if outcome.advice else ""
    more = (
        f'<p><a href="{escape(outcome.help_url)}" target="_blank" rel="noopener noreferrer">'
        "What to do at the service</a></p>"
        if outcome.help_url
        else ""
    )
    reference = (
        f'<p class="reference">Reference: <code>{escape(outcome.reason)}</code></p>'
        if outcome.reason
        else ""
    )
    # A page that has nothing new to say announces nothing.
    script = f'<script type="module" src="{escape(static)}/result.js"></script>'
    script = "" if tone == "plain" else script
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(outcome.title)} · Flero</title>
<link rel="icon" href="{escape(static)}/icon.svg">
<link rel="stylesheet" href="{escape(static)}/result.css">
{script}
</head>
<body>
<main class="{tone}" data-connected="{str(outcome.connected).lower()}"
 data-credential="{escape(outcome.credential)}" data-reason="{escape(outcome.reason)}">
<span class="mark" aria-hidden="true"></span>
<h1>{escape(outcome.title)}</h1>
<p id="sentence">{escape(outcome.sentence)}</p>
{advice}
{more}
{reference}
</main>
</body>
</html>
"""


def _tag(payload: str, *, binding: str, page_id: str) -> str:
    signed = f"{page_id}.{payload}".encode()
    return hmac.new(binding.encode(), signed, hashlib.sha256).hexdigest()
