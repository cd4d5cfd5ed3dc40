"""The Python of README.md and of the pages on the package: every block runs, and prints what stands under it."""

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("python*.md"))]


class Block(NamedTuple):
    """A block of Python of a page, and the output that stands under it, if one does."""

    line: int
    code: str
    printed: str | None


def blocks(text):
    """The blocks of Python of a page."""
    fence = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\s*^```text\n(?P<printed>.*?)^```$)?", re.M | re.S)
    return [
        Block(text[: found.start()].count("\n") + 1, found["code"], found["printed"])
        for found in fence.finditer(text)
    ]


def without_figures(printed):
    """The words of an output, in any order of its lines: on another processor the figures may differ, and with them the order."""
    lines = (re.sub(r"[-+]?\d[\d.,]*", "0", line).split() for line in printed.splitlines())
    return sorted(lines)


@pytest.fixture
def folder(pictures, drawn, tmp_path, monkeypatch):
    """The folder that the pages are written for: what is drawn, and runs/quickstart."""
    folder = tmp_path / "pages"
    shutil.copytree(drawn, folder)
    (folder / "runs").mkdir()
    (folder / "runs/quickstart").symlink_to(pictures)
    Image.open(folder / "photo.png").convert("RGB").save(folder / "photo.jpg")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page, folder):
    names = {"__name__": "__main__"}
    given = blocks(page.read_text(encoding="utf-8"))
    assert given, f"{page.name} has no block of Python"
    for block in given:
        printed = io.StringIO()
        # Python's own traceback then names page and line.
        code = compile("\n" * block.line + block.code, str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        if block.printed is not None:
            assert without_figures(printed.getvalue()) == without_figures(block.printed), f"{page.name}:{block.line}"


def test_blocks_are_found():
    text = "a\n```python\nprint(1)\n```\n\n```text\n1\n```\n```sh\nls\n```\n```python\nx = 2\n```\nb\n"
    assert blocks(text) == [Block(2, "print(1)\n", "1\n"), Block(12, "x = 2\n", None)]
