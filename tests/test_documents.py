"""What README.md and docs/*.md name is there: links, headings, pictures, files, commands and flags.

No address of the web is fetched.
"""

import ast
import functools
import re
import shlex

import pytest
from tiny_runs import ROOT, run_here

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
IN_BACKTICKS = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
COMMAND = re.compile(r"(\w+=\S+ )*(\S*python3?|torchrun|make) ")
OPTION = re.compile(r"^  (?:-\w, )?(--[\w-]+)", re.MULTILINE)  # of a help text
FOLDERS = {path.name for path in ROOT.glob("[a-z]*") if path.is_dir()} - {"runs", "cache", "demo_cohort"}
SCRIPTS = {path.name for path in ROOT.glob("*.py")}
OTHERS_FLAGS = {"--help", "--user", "--ask-password"}  # of every script, and of wget


def each(find):
    """Return a decorator that runs a test for each thing that is found in each document."""
    found = dict.fromkeys((document, thing) for document in DOCUMENTS for thing in find(document))
    names = [f"{document.stem}: {thing}" for document, thing in found]
    return pytest.mark.parametrize(("document", "thing"), found, ids=names)


@functools.cache
def text_of(path):
    return path.read_text(encoding="utf-8")


def prose_of(document):
    return FENCE.sub("", text_of(document))


def spans_in(document):
    """Return what stands in backticks in the text, each in one line."""
    return [" ".join(span.split()) for span in IN_BACKTICKS.findall(prose_of(document))]


def links_in(document):
    links = ["".join(groups) for groups in LINK.findall(prose_of(document))]
    return [link for link in links if "://" not in link]


def files_in(document):
    """Return the words in backticks that name a Python file, or a path in a folder of the repository."""
    words = [word for span in spans_in(document) for word in span.split() if re.fullmatch(r"[\w./-]+", word)]
    paths = [word for word in words if word.endswith(".py") or word.partition("/")[0] in FOLDERS - {word}]
    return [path for path in paths if path != "__init__.py"]


def names_in(document):
    """Return the functions and classes in backticks with the module that they are of."""
    dotted = [span for span in spans_in(document) if re.fullmatch(r"\w+(\.\w+)+", span)]
    inside = [
        name for name in dotted if name.split(".")[0] in FOLDERS or name.split(".")[0] + ".py" in SCRIPTS
    ]
    return [name for name in inside if not name.endswith((".py", ".yml", ".json"))]


def commands_in(document):
    """Return the commands that run Python or make, of the blocks and of the text."""
    blocks = "\n".join(block.group() for block in FENCE.finditer(text_of(document)))
    lines = [*blocks.replace("\\\n", " ").splitlines(), *spans_in(document)]
    commands = [part.strip() for line in lines for part in line.removeprefix("$ ").split("&&")]
    return [command for command in commands if COMMAND.match(command) and "<" not in command]


def flags_in(document):
    return [span.split()[0].partition("=")[0] for span in spans_in(document) if re.match(r"--\w", span)]


@functools.cache
def anchors_of(document):
    """Return the anchors of a document's headings, as the usual forges make them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def flags_of(script):
    """Return the flags that the help of a script, or of a room's module, lists."""
    outcome = run_here(script, "--help")
    assert outcome.returncode == 0, outcome.stderr
    return set(OPTION.findall(outcome.stdout))


def all_flags():
    rooms = [*ROOT.glob("cohorts/*.py"), *ROOT.glob("benchmarks/*/*.py")]
    programs = [path for path in [*ROOT.glob("*.py"), *rooms] if "__main__" in text_of(path)]
    return OTHERS_FLAGS.union(*(flags_of(str(path.relative_to(ROOT))) for path in programs))


def script_of(command):
    """Return the script or module that a command runs, and the words that follow."""
    program, *words = [word for word in shlex.split(command, comments=True) if not re.match(r"\w+=", word)]
    while program == "torchrun" and words[0].startswith("--"):
        del words[0]
    return (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])


def file_of(script):
    return ROOT / (script if script.endswith(".py") else f"{script.replace('.', '/')}.py")


def check_flags(script, words):
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert not flags or flags <= flags_of(script) | OTHERS_FLAGS


@each(links_in)
def test_a_link_leads_somewhere(document, thing):
    file, _, anchor = thing.partition("#")
    target = (document.parent / file).resolve() if file else document
    assert target.is_file()
    assert not anchor or anchor in anchors_of(target)


@each(files_in)
def test_a_file_is_there(document, thing):
    assert (ROOT / thing).exists()


@each(names_in)
def test_a_function_is_there(document, thing):
    *module, name = thing.split(".")
    statements = ast.parse(text_of(ROOT.joinpath(*module).with_suffix(".py"))).body
    assert name in {getattr(statement, "name", None) for statement in statements}


@each(commands_in)
def test_a_command_can_be_typed(document, thing):
    script, words = script_of(thing)
    if "make " in COMMAND.match(thing).group():
        assert re.search(rf"^{re.escape(script)}:", text_of(ROOT / "Makefile"), re.MULTILINE)
    elif script != "venv":
        assert file_of(script).is_file()
        end = words.index("--") if "--" in words else len(words)  # what follows is for the script that trains
        check_flags(script, words[:end])
        check_flags(next((word for word in words[:1] if word in SCRIPTS), "train_atten.py"), words[end + 1 :])


@each(flags_in)
def test_a_flag_is_one_of_a_script(document, thing):
    assert thing in all_flags()
