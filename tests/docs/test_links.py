"""Every relative link leads somewhere."""

from pathlib import Path

import pytest
from tests.docs.markdown import PAGES, ROOT, anchors, broken, links


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_every_link_of_a_page_leads_to_a_file_and_heading_that_exist(page: Path) -> None:
    assert list(broken(page)) == []


def test_the_pages_that_people_start_from_are_among_them() -> None:
    names = {p.relative_to(ROOT).as_posix() for p in PAGES}

    assert {"README.md", "docs/architecture.md", "docs/reference/api.md"} <= names
    assert links((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "link", ["gone.md", "there.md#gone", "#gone", "../gone/", "there.txt#anchor"]
)
def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path, link: str) -> None:
    (tmp_path / "there.md").write_text("# There\n", encoding="utf-8")
    (tmp_path / "there.txt").touch()
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\nSee [it]({link}).\n", encoding="utf-8")

    assert len(list(broken(page))) == 1


@pytest.mark.parametrize(
    "link",
    ["there.md", "there.md#its-anchor-2nd", "#page", "#page-1", "folder", "https://e.example/x#y"],
)
def test_a_link_that_leads_somewhere_is_not(tmp_path: Path, link: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "there.md").write_text("# Its `anchor`: 2nd\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n## Page\n\nSee [it]({link}).\n", encoding="utf-8")

    assert list(broken(page)) == []


def test_what_stands_in_code_is_neither_link_nor_heading() -> None:
    text = "# A\n\n```sh\n# B\n[x](y)\n```\n\n`[x](z)`\n"

    assert anchors(text) == {"a"}
    assert links(text) == []
