"""Runs the notebooks of examples/python and stores what they print in them:

    python crates/epsilon-python/make_notebooks.py

Each runs in a temporary folder, so that nothing of this machine is stored. `tests/test_notebooks.py` says when a notebook is out of date.
"""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
NOTEBOOKS = sorted((HERE.parent.parent / "examples/python").glob("*.ipynb"))


def run(path, folder):
    """The notebook with the outputs of a run in a folder; raises CellExecutionError at the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    # Without the times of day at which cells ran.
    NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, record_timing=False, coalesce_streams=True).execute()
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def main():
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(path, folder)
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main()
