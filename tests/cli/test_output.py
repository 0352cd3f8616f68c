"""The layout, where a vault would be needed only to carry the words."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from flero_vault.commands.output import WIDTH, facts, how_long, lines, plain, printable, when


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    rows = list(lines([("A", "B"), ("東京", "x"), ("e\u0301", "y")], (9, 9)))

    assert rows == ["A     B", "東京  x", "e\u0301     y"]


def test_a_cell_is_cut_where_it_does_not_fit() -> None:
    assert list(lines([("abcdefgh", "z")], (5, 5))) == ["abcd…  z"]
    assert list(lines([("東京都", "z")], (5, 5))) == ["東京…  z"]


def test_a_cell_stays_on_its_line() -> None:
    assert list(lines([("a\nb\x1b[1m", "z")], (9, 9))) == ["a b\N{REPLACEMENT CHARACTER}[1m  z"]


def test_long_facts_are_wrapped_under_themselves_and_never_broken_where_one_copies() -> None:
    url = "https://example.com/" + "a" * WIDTH
    shown = facts([("label", "word " * 40), ("at", url), ("absent", "")]).splitlines()

    assert all(len(line) <= WIDTH for line in shown[:-1])
    assert all(line.startswith(("label  word", "       word")) for line in shown[:-1])
    assert shown[-1] == f"at     {url}"


def test_no_character_that_a_terminal_obeys_is_printable() -> None:
    obeyed = "\x00\x07\x08\r\x1b\x7f\x9b\u200e\u202e\u2066"
    assert set(printable(obeyed)) == {"\N{REPLACEMENT CHARACTER}"}
    assert printable("Zoë 東京") == "Zoë 東京"


def test_times_are_utc_for_people_and_programs() -> None:
    time = datetime(2026, 11, 24, 3, 4, 5, 600000, UTC)

    assert when(time) == "2026-11-24 03:04Z"
    assert when(time, "seconds") == "2026-11-24 03:04:05Z"
    assert when(None) == ""
    assert plain(time) == "2026-11-24T03:04:05.600000Z"
    elsewhere = time.astimezone(timezone(timedelta(hours=5)))
    assert plain(elsewhere) == plain(time)
    assert when(elsewhere) == when(time)


def test_what_is_unsaid_is_null_and_what_is_empty_stays_so() -> None:
    assert plain({"a": None, "b": "", "c": (), "d": False, "e": {}}) == {
        "a": None, "b": None, "c": [], "d": False, "e": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "json", "people"),
    [
        (15_552_000, "15552000s", "180 days"),
        (3600, "3600s", "1 hour"),
        (5400, "5400s", "90 minutes"),
        (0.5, "0.5s", "0 seconds"),
        (61, "61s", "61 seconds"),
        (0, "0s", "0 seconds"),
    ],
)
def test_lengths_of_time(seconds: float, json: str, people: str) -> None:
    assert plain(timedelta(seconds=seconds)) == json
    assert how_long(timedelta(seconds=seconds)) == people


def test_an_unknown_length_of_time_says_so() -> None:
    assert how_long(None) == "unknown"
