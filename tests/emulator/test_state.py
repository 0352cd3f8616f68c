import pytest

from flero_vault_dev.emulator.accounts import ADA
from flero_vault_dev.emulator.state import (
    Ask,
    Cause,
    Challenge,
    Issued,
    Ledger,
    Mint,
    RefusedError,
    Rules,
    Traits,
)

NOW = 1000.0
MINT = Mint(access_prefix="a-", refresh_prefix="r-")
ROTATING = Rules(rotate=True)
# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = Challenge(value="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", method="S256")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Traits())


def ask(challenge: Challenge | None = None) -> Ask:
    return Ask(
        client_id="client",
        redirect_uri="https://app/cb",
        state=None,
        scopes={"": ("read",)},
        challenge=challenge,
        nonce=None,
        extra={},
    )


def opened(ledger: Ledger) -> Issued:
    code = ledger.approve(ask(), ADA, {"": ("read",)}, NOW)
    approval = ledger.redeem(
        code, client_id="client", redirect_uri="https://app/cb", verifier=None, now=NOW
    )
    return ledger.open_grant(approval, "", rules=ROTATING, mint=MINT, refresh=True, now=NOW)


def test_a_code_of_another_client_is_unknown(ledger: Ledger) -> None:
    code = ledger.approve(ask(), ADA, {"": ("read",)}, NOW)

    with pytest.raises(RefusedError) as refused:
        ledger.redeem(
            code, client_id="thief", redirect_uri="https://app/cb", verifier=None, now=NOW
        )

    assert refused.value.cause is Cause.CODE_UNKNOWN


def test_a_refresh_token_of_another_client_is_unknown(ledger: Ledger) -> None:
    refresh = opened(ledger).refresh
    assert refresh

    with pytest.raises(RefusedError) as refused:
        ledger.renew(refresh.value, client_id="thief", rules=ROTATING, mint=lambda _: MINT, now=NOW)

    assert refused.value.cause is Cause.REFRESH_UNKNOWN
    assert refresh.spent_at is None


def test_a_refused_exchange_leaves_the_code_good(ledger: Ledger) -> None:
    code = ledger.approve(ask(CHALLENGE), ADA, {"": ("read",)}, NOW)
    with pytest.raises(RefusedError):
        ledger.redeem(
            code, client_id="client", redirect_uri="https://app/cb", verifier="wrong", now=NOW
        )

    approval = ledger.redeem(
        code, client_id="client", redirect_uri="https://app/cb", verifier=VERIFIER, now=NOW
    )

    assert approval.redeemed


@pytest.mark.parametrize("verifier", ["", "wrong", "Ünicode", VERIFIER[:-1]])
def test_only_the_right_verifier_meets_the_challenge(verifier: str) -> None:
    assert CHALLENGE.met_by(VERIFIER)
    assert not CHALLENGE.met_by(verifier)


def test_two_refreshes_of_one_generation_have_one_winner(ledger: Ledger) -> None:
    first = opened(ledger).refresh
    assert first
    second = ledger.renew(
        first.value, client_id="client", rules=ROTATING, mint=lambda _: MINT, now=NOW
    )

    with pytest.raises(RefusedError) as refused:
        ledger.renew(first.value, client_id="client", rules=ROTATING, mint=lambda _: MINT, now=NOW)

    assert refused.value.cause is Cause.REFRESH_SPENT
    assert second.grant.generation == 2


def test_no_representation_shows_a_token(ledger: Ledger) -> None:
    issued = opened(ledger)
    assert issued.refresh

    shown = f"{issued!r} {list(ledger.journal)!r}"

    assert issued.access.value not in shown
    assert issued.refresh.value not in shown
