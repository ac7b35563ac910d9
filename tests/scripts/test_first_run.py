"""What a newcomer opens first: notebook, citation, container, workflow."""

import contextlib
import io
import json
import re
from types import SimpleNamespace

import pytest
import yaml
from tiny_runs import ROOT, TINY, run_here

NOTEBOOK = ROOT / "docs" / "first_run.ipynb"


def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def in_this_process(command, **options):
    """Run a script of the notebook as `subprocess.run` does, without importing PyTorch again."""
    _, *words = command
    script, *flags = words[1:] if words[0] == "-m" else words
    done = run_here(script, *flags)
    return SimpleNamespace(returncode=done.returncode, stdout=done.stdout + done.stderr)


def test_the_notebook_goes_from_a_folder_to_the_report(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = [*(str(word) for pair in TINY.items() for word in pair), "--cache-dir", str(tmp_path / "cache")]
    names = {}
    monkeypatch.setattr("subprocess.run", in_this_process)
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in cells():
            if cell["cell_type"] == "code":
                source = "".join(cell["source"]).replace("HERE /", f"Path({str(tmp_path)!r}) /")
                exec(source, names)
                if cell["metadata"].get("tags") == ["parameters"]:
                    names |= {"N_SYNTHETIC": 24, "TRAINING": flags}
    assert names["PAGE"].stat().st_size > 100_000 and names["REPORT"].is_file()
    assert re.search(r"demo-0001\.xml +0\.\d+ +[01]", names["scores"])


def test_the_notebook_is_kept_without_outputs_and_names_what_is_there():
    for cell in cells():
        source = "".join(cell["source"])
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
        for script in re.findall(r"\"(\w+\.py)\"", source):
            assert (ROOT / script).is_file()
        for link in re.findall(r"\]\(([\w./]+)", source):
            assert (NOTEBOOK.parent / link).is_file()


def test_the_citation_has_what_its_schema_requires():
    """The keys that version 1.2.0 of the Citation File Format requires of the top, a person, a reference."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    allowed = {
        "type",
        "version",
        "license",
        "keywords",
        "references",
        "cff-version",
        "message",
        "title",
        "authors",
    }
    assert citation.keys() <= allowed and citation["license"] == "MIT"
    assert (
        citation["version"] == re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    )
    for reference in citation["references"]:
        assert {"authors", "title", "type"} <= reference.keys()
        assert re.fullmatch(r"10\.\d{4,9}/\S+", reference["doi"])
    for author in [*citation["authors"], *(one for it in citation["references"] for one in it["authors"])]:
        assert "name" in author or "family-names" in author


def test_the_workflow_runs_targets_of_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    steps = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert steps and all(step.startswith("make ") and step.split()[1] in targets for step in steps)
    assert "make test" in steps


@pytest.mark.parametrize(
    "path", re.findall(r"^COPY (?:--\S+ )?(\S+) ", (ROOT / "Dockerfile").read_text(), re.M)
)
def test_the_container_copies_what_is_there(path):
    assert (ROOT / path).exists()
