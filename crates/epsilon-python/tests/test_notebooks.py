"""The notebooks of examples/python: they run, and what is stored in them is what they print."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

SCRIPT = Path(__file__).parent.parent / "make_notebooks.py"
spec = importlib.util.spec_from_file_location("make_notebooks", SCRIPT)
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)

#: An absolute path, of Unix or Windows.
MACHINE_PATH = re.compile(r"(?:^|[\s\"'(=\[,:])(?:/(?!/)\w[\w.-]*/|~/|[A-Za-z]:\\)", re.M)
LABEL = re.compile(r"(plain|striped|dotted|checkered|ringed|hollow) (circle|square|triangle|star|heart|cross)")


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """What kinds of outputs a cell has."""
    return [(output.output_type, sorted(output.get("data", {}))) for output in cell.outputs]


def text(cell):
    """The text that a cell printed and showed."""
    shown = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(shown)


def masked(text):
    """Text without what another processor's rounding may change: figures, and which labels and pictures come first."""
    text = re.sub(r"\[\(?'.*\]", "[...]", text)
    text = re.sub(r"(?:<rdf:li>.*</rdf:li>\s*)+", "<rdf:li>...</rdf:li> ", text)
    text = LABEL.sub("label", text)
    text = re.sub(r"\b(right|wrong|seen|unseen)\n", "\n", text)
    text = re.sub(r"[-+]?\d[\d.,]*", "0", text)
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("path", make.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    stored = nbformat.read(path, as_version=4)
    ran = make.run(path, tmp_path)
    for before, after in zip(code(stored), code(ran), strict=True):
        said = f"{path.name}, {after.id}: run python {SCRIPT.name}"
        assert kinds(before) == kinds(after), said
        assert masked(text(before)) == masked(text(after)), said


@pytest.mark.parametrize("path", make.NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_whole_small_and_of_no_machine(path):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    assert path.stat().st_size < 150_000
    assert [cell.execution_count for cell in code(stored)] == list(range(1, len(code(stored)) + 1))
    for cell in code(stored):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr", text(cell)
        assert "execution" not in cell.metadata
        for said in (text(cell), cell.source):
            assert not MACHINE_PATH.search(said), MACHINE_PATH.search(said)
    assert stored.metadata.keys() <= {"kernelspec", "language_info"}


@pytest.mark.parametrize("path", make.NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    prose = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", prose) if "://" not in link]
    assert links
    for link in links:
        assert (path.parent / link).exists(), link


def test_there_are_notebooks():
    assert [path.stem for path in make.NOTEBOOKS] == ["photographs", "researcher"]


@pytest.mark.parametrize("said", ["in /home/ann/x", "'/tmp/a'", '("/root/x")', "~/x", "C:\\x", "a\n/usr/bin"])
def test_machine_paths_are_found(said):
    assert MACHINE_PATH.search(said)


@pytest.mark.parametrize("said", ["runs/x", "</dc:subject>", 'xmlns:dc="http://purl.org/dc/"', "1 / 2", "a/b"])
def test_other_text_is_none(said):
    assert not MACHINE_PATH.search(said)
