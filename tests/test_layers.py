"""The rows of the house: an import goes to a row below, no room has a circle, none leans on the tests."""

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


OF_TESTS = {"tests", "conftest"} | {path.stem for path in ROOT.glob("tests/support/*.py")}
BY_NAME = {"import_module", "__import__", "run_module", "run_path"}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported_by(module):
    """Return what a module imports, within functions and by name too."""
    names = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and node.value in MODULES and "." in str(node.value):
            names.add(node.value)  # python -m …
    return names


ALL_IMPORTS = {module: imported_by(module) for module in MODULES}
IMPORTS = {module: names & set(MODULES) for module, names in ALL_IMPORTS.items()}


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


def test_the_product_does_not_lean_on_the_tests():
    leaning = {module for module, names in ALL_IMPORTS.items() if OF_TESTS & {room(name) for name in names}}
    assert leaning == set()


def loaded_by_name(module):
    """Yield the beginning of each name by which a module loads others; "" where it is computed."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            name = node.args[0]
            name = name.values[0] if isinstance(name, ast.JoinedStr) else name
            yield str(name.value) if isinstance(name, ast.Constant) else ""


def test_no_module_of_ours_is_loaded_by_name():
    ours = {"", *ROW_OF, *OF_TESTS}
    loading = {module for module in MODULES for name in loaded_by_name(module) if room(name) in ours}
    assert loading == {"search"}  # a command that runs scripts, which it is given by their paths
