"""Reads Markdown as far as the tests need it."""

import re
from collections.abc import Iterator
from pathlib import Path

from docs.generate import slug

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings; one that is there again gets a number."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        plain = slug(_LINK.sub(lambda link: link[0].partition("]")[0][1:], heading))
        name, again = plain, 0
        while name in found:
            again += 1
            name = f"{plain}-{again}"
        found.add(name)
    return found


def links(text: str) -> list[str]:
    """Return the targets of a page's links, without those that lead elsewhere."""
    found = _LINK.findall(_CODE.sub("`code`", _FENCED.sub("", text)))
    return [target for target in found if not _ELSEWHERE.match(target)]


def broken(page: Path) -> Iterator[str]:
    """Yield every link of a page to a file or heading that is not there."""
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and (
            target.suffix != ".md" or anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            yield f"{link}: no such heading"
