"""The Python of README.md and of the pages on the package: the blocks of a page are a program, and print what stands under them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("python*.md"))]
#: A block to run, and the output that stands under it. Blocks that need more than what is drawn are marked `py` and are not run.
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$(?:\s*^```text\n(?P<printed>.*?)^```$)?", re.M | re.S)
END = "-- end of a block --\n"


def program(page):
    """The program of a page, with each block on its own lines of the page, which a traceback then names; and what the blocks print, or None."""
    text, printed = "", []
    for block in BLOCK.finditer(page):
        text += "\n" * (page[: block.start("code")].count("\n") - text.count("\n"))
        text += f"{block['code']}print({END.strip()!r})\n"
        printed.append(block["printed"])
    return text, printed


def without_figures(printed):
    """The words of an output, its lines in any order: on another processor the figures may differ, and with them the order."""
    return sorted(re.sub(r"[-+]?\d[\d.,]*", "0", line).split() for line in printed.splitlines())


@pytest.fixture
def folder(pictures, drawn, tmp_path):
    """The folder that the pages are written for: what is drawn, and runs/quickstart."""
    folder = tmp_path / "pages"
    shutil.copytree(drawn, folder)
    (folder / "runs").mkdir()
    (folder / "runs/quickstart").symlink_to(pictures)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs(page, folder):
    text, expected = program(page.read_text(encoding="utf-8"))
    assert expected, f"{page.name} has no block of Python"
    (folder / page.name).write_text(text)
    command = [sys.executable, "-W", "error", page.name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    for printed, stands in zip(done.stdout.split(END), expected):
        assert stands is None or without_figures(printed) == without_figures(stands)


def test_blocks_are_found():
    page = "a\n```python\nx = 1\nprint(x)\n```\n\n```text\n1\n```\n```py\nno\n```\n```sh\nls\n```\n```python\nx = 2\n```\nb\n"
    end = f"print({END.strip()!r})"
    # `x = 2` stands in line 17 of the page.
    assert program(page) == (f"\n\nx = 1\nprint(x)\n{end}\n" + "\n" * 11 + f"x = 2\n{end}\n", ["1\n", None])
