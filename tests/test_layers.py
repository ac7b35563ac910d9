"""The rows of the house: an import goes to a row below, and no room has a circle of imports."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = [  # from the lowest; a room is a package or a module of the root
    {"ecg", "metrics", "runtime", "focal_loss"},
    {"models", "hyperparameters", "cohorts", "xml_loader", "metrics_and_performance", "data_augmentation"},
    {"dataset", "run_folder"},
    {"inference"},
    {"training", "explanations"},
    {"reporting"},
    {"train_atten", "train_baseline", "train_main_ecg", "train_spectrogram", "pretrain", "search"}
    | {"inspect_ecgs", "predict", "evaluate", "export"},
    {"benchmarks"},
]
ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.glob("**/*.py")
    if path.relative_to(ROOT).parts[0].removesuffix(".py") in ROW_OF
}


def imported_by(path):
    """Return what a module imports of ours, within functions and by name too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and node.value in MODULES and "." in str(node.value):
            names.add(node.value)  # importlib.import_module("…"), python -m …
    return names & set(MODULES)


IMPORTS = {name: imported_by(path) for name, path in MODULES.items()}


def room(module):
    return module.split(".")[0]


def test_every_python_file_stands_in_a_row():
    tracked = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.glob("*.py")}
    tracked |= {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("[a-z]*/**/*.py")}
    assert tracked - {"tests"} == set(ROW_OF)


def test_an_import_goes_to_a_row_below():
    upward = {
        (module, name)
        for module, names in IMPORTS.items()
        for name in names
        if room(name) != room(module) and ROW_OF[room(name)] >= ROW_OF[room(module)]
    }
    assert upward == set()


def test_no_room_has_a_circle():
    for room_name in ROW_OF:
        inside = {module: names for module, names in IMPORTS.items() if room(module) == room_name}
        TopologicalSorter(inside).prepare()  # a CycleError names the circle
