"""Where a run's hyperparameters come from: the script's block, YAML, flags, or the run that is resumed.

jsonargparse does the parsing: it checks YAML and flags against the types of ``declaration.py`` and
names the key that is wrong.
"""

import difflib
import json
import math
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace

from ecg.recording import LEADS
from hyperparameters.declaration import ABSENT, EXPECTED, LISTS, Hyperparameters
from metrics.threshold_policy import parse_policy
from runtime.errors import UserError, reason

SECTIONS = ("pretrained", "published")  # of a YAML file
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")  # suffixes
PLACES = (
    "data_dir",
    "labels",
    "patient_key",
    "cache_dir",
    "device",
    "folds_at_once",
)  # may be given again where a run is resumed


def read_hyperparameters(
    description: str,
    defaults: Mapping[str, Any],
    pretrained: Mapping[str, Any],
    published: Mapping[str, Any],
    arguments: Sequence[str] | None = None,
    *,
    without: Collection[str] = (),
    required: Collection[str] = (),
    file: Path | None = None,
) -> Hyperparameters:
    """Return the hyperparameters of a script: declared defaults < the script's < its sections < flags.

    Parameters
    ----------
    description : the script's docstring, for ``--help``.
    defaults : the script's own values.
    pretrained, published : its sections: what ``--init-from`` sets instead, and ``--recipe published``; where
        both do, the second counts.
    arguments : the command line; None reads ``sys.argv``.
    without : hyperparameters that the script does not have: they have no flag and are in no group.
    required : those that it needs and that have no declared default.
    file : where they stand, if not in the script; errors name it.

    Exits with one line that names the key where a key is unknown, a type is wrong or a value is out of range.
    With ``--resume`` every value comes from that run; other flags, except where its files lie, are an error.
    """
    parser = _parser(description, defaults, pretrained, without, required)
    where = f"{file}: " if file else ""
    defaults = _checked(parser, defaults, where)
    pretrained = _checked(parser, pretrained, f"{where}pretrained: ")
    published = _checked(parser, published, f"{where}published: ")
    given = _plain(parser.parse_args(arguments, defaults=False))
    if given.get("resume") is not None:
        values = _resumed_values(parser, given, {*defaults, *required})
    else:
        chosen = {**defaults, **given}
        sections = {
            **(pretrained if chosen.get("init_from") else {}),
            **(published if chosen.get("recipe") == "published" else {}),
        }
        if "epochs" in given:  # then exactly these
            sections.pop("min_steps", None)
        values = {**defaults, **sections, **given}
    _check_values(parser, given)
    for name in required:
        if name not in values:
            parser.error(f"{where}{name}: found none, expected {_expected(name)}")
    if "keep" in parser.names and values.get("keep") is None:
        first_version = given.get("resume") is not None  # then the best epoch was the rule
        values["keep"] = "last" if _ends_at_rest(values) and not first_version else "best"
    hyperparameters = Hyperparameters(**values, **dict.fromkeys(without, ABSENT))
    _check_together(parser, hyperparameters)
    return hyperparameters


def _ends_at_rest(values: Mapping[str, Any]) -> bool:
    """Return whether the learning rate ends near 0, so that the last epoch is as good as any."""
    return values.get("schedule", Hyperparameters.schedule) in ("one_cycle", "cosine")


def drops_leads(values: Mapping[str, Any]) -> bool:
    """Return whether a training with these values has shown its model ECGs that lack leads."""
    augmentation = values.get("augmentation")
    return augmentation == "published" or (augmentation == "independent" and values.get("lead_drop", 0) > 0)


def read_yaml(path: str | Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the defaults of a YAML file, its ``pretrained`` section and its ``published`` section.

    Raises
    ------
    UserError : the file cannot be read, or has a key twice.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise UserError(f"{path}: found no such file, expected hyperparameters") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {reason(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: found {type(content).__name__}, expected keys and values")
    sections = [content.pop(name, None) or {} for name in SECTIONS]
    for name, section in zip(SECTIONS, sections, strict=True):
        if not isinstance(section, dict):
            raise UserError(f"{path}: {name}: found {section!r}, expected keys and values")
    return content, *sections


class _UniqueKeys(yaml.SafeLoader):
    """Reads YAML, and refuses a key that is there twice; PyYAML would take the second."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                line = node.value[number][0].start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: {key}: found a second time, expected each key once")
        return super().construct_mapping(node, deep)


def to_yaml(hyperparameters: Hyperparameters) -> str:
    """Return every value under its group's heading, in a form that ``read_yaml`` reads."""
    lines = []
    for group in dict.fromkeys(declaration.metadata["group"] for declaration in fields(Hyperparameters)):
        values = hyperparameters.group(group)
        lines += [f"# {group}"] if values else []
        for name, value in values.items():
            text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
            lines.append(f"{name}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"


def _expected(name: str) -> str:
    """Return in words which values a hyperparameter, or each element of a list, may have."""
    kind = LISTS.get(name, get_type_hints(Hyperparameters)[name])
    or_null = isinstance(kind, UnionType)
    kind = get_args(kind)[0] if or_null else kind
    choices = [str(choice) for choice in get_args(kind)]
    words = f"{', '.join(choices[:-1])} or {choices[-1]}" if choices else EXPECTED[kind]
    return f"{words}, or null" if or_null else words


class _Parser(ArgumentParser):
    """An ArgumentParser whose errors are one line.

    Attributes
    ----------
    names : the hyperparameters that the script has.
    where : what stands before an error: the file and section that are being checked.
    """

    names: tuple[str, ...] = ()
    where = ""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = self.where + _in_our_words(" ".join(str(message).split()))
        print(f"{self.prog}: {line} (--help lists the hyperparameters)", file=sys.stderr)
        sys.exit(2)


def _in_our_words(message: str) -> str:
    """Return jsonargparse's message about a wrong value in the form of ours: key, found, expected."""
    key = re.match(r'Parser key "(\w+)"', message)
    if not key:
        return message
    places = (  # where the value stands in it
        r"Given value: (.*)",
        r"Got value: (.*)",
        r"of type \w+: (.*) does not match",
        r": (\S+) (?:does not conform|not a number)",
        r"(?:base 10|to float): '(.*)'",
        r", not '(.*)'",
    )
    found = next(filter(None, (re.search(place, message) for place in places)), None)
    value = found[1].replace("NoneType", "null") or "nothing" if found else "something else"
    return f"{key[1]}: found {value}, expected {_expected(key[1])}"


def _parser(
    description: str,
    defaults: Mapping[str, Any],
    pretrained: Mapping[str, Any],
    without: Collection[str],
    required: Collection[str],
) -> _Parser:
    """Return the parser of one script; what has no declared default is there only if its block names it."""
    parser = _Parser(
        prog=Path(sys.argv[0]).name,
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
        usage="%(prog)s [--HYPERPARAMETER VALUE ...]",
        allow_abbrev=False,
    )
    types = get_type_hints(Hyperparameters)
    headings = {}
    for declaration in fields(Hyperparameters):
        name, group = declaration.name, declaration.metadata["group"]
        if name in without or (declaration.default is ABSENT and name not in {*defaults, *required}):
            continue
        if group not in headings:
            headings[group] = parser.add_argument_group(group)
        headings[group].add_argument(
            "--" + name.replace("_", "-"),
            type=LISTS.get(name, types[name]),
            nargs="+" if name in LISTS else None,
            help=_help(declaration, defaults, pretrained).replace("%", "%%"),
        )
        parser.names += (name,)
    return parser


def _help(declaration: Field, defaults: Mapping[str, Any], pretrained: Mapping[str, Any]) -> str:
    """Return the line of help, with the value that counts where neither recipe nor flag gives one."""
    default = defaults.get(declaration.name, _default(declaration))
    if default is None or default is ABSENT:
        return declaration.metadata["help"]
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    if declaration.name in pretrained:
        shown = f"{shown}; with --init-from {pretrained[declaration.name]}"
    return f"{declaration.metadata['help']} [{shown}]"


def _default(declaration: Field) -> Any:
    return declaration.default if declaration.default is not MISSING else declaration.default_factory()


def _checked(parser: _Parser, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a script's or a YAML file's values with names and types checked."""
    parser.where = where
    for key in map(str, values):
        if key not in parser.names:
            near = difflib.get_close_matches(key, parser.names, n=1)
            parser.error(f"{key}: found no such hyperparameter, expected {near[0] if near else 'one'}")
    values = {
        key: [value] if key in LISTS and value is not None and not isinstance(value, list) else value
        for key, value in values.items()
    }
    values = _plain(parser.parse_object(values, defaults=False))
    _check_values(parser, values)
    parser.where = ""
    return values


def _plain(namespace: Namespace) -> dict[str, Any]:
    """Return parsed values as Python's own str, int and float instead of jsonargparse's restricted ones."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(element) for element in value]
        bases = (kind for kind in (bool, int, float, str) if isinstance(value, kind))
        return next(bases, lambda unchanged: unchanged)(value)

    return {key: plain(value) for key, value in vars(namespace).items()}


def _resumed_values(parser: _Parser, given: dict[str, Any], needed: Collection[str]) -> dict[str, Any]:
    """Return the values of the run that is resumed; where its files lie may be given again."""
    if others := [key for key in given if key not in ("resume", *PLACES)]:
        flags = ", ".join("--" + key.replace("_", "-") for key in others)
        parser.error(f"--resume continues a run with its own hyperparameters: remove {flags}")
    if not given["resume"]:
        parser.error("--resume: found nothing, expected the folder of a run")
    folder = Path(given["resume"])
    _check_is_run(parser, folder)
    values, *_ = read_yaml(folder / "hyperparameters.yml")
    _check_script(parser, folder, values, needed)
    values = _checked(parser, values, f"{folder / 'hyperparameters.yml'}: ")
    for name in ("data_dir", "labels", "patient_key"):
        if name not in given and (place := values.get(name)) and not Path(place).exists():
            parser.error(
                f"--resume: {name}: found no {place} here, expected what the run was started with; go to "
                f"the folder where it was started, or give --{name.replace('_', '-')}"
            )
    return {**values, **given}


def _check_is_run(parser: _Parser, folder: Path) -> None:
    """Check that a folder is one that can be resumed."""
    if (folder / "hyperparameters.yml").exists():
        return
    if (folder.parent / "hyperparameters.yml").exists() and folder.is_dir():
        parser.error(f"--resume: {folder}: found a fold, expected its run: --resume {folder.parent}")
    found = "no hyperparameters.yml in it" if folder.is_dir() else "no such folder"
    parser.error(f"--resume: {folder}: found {found}, expected the folder of a run")


def _check_script(parser: _Parser, folder: Path, values: Mapping[str, Any], needed: Collection[str]) -> None:
    """Check that a run has the hyperparameters of this script: no two of our scripts have the same."""
    others = sorted(needed - values.keys()) or [str(key) for key in values if key not in parser.names]
    if not others:
        return
    try:
        text = (folder / "environment.json").read_text(encoding="utf-8")
        script = Path(json.loads(text)["command"][0]).name
    except (OSError, ValueError, LookupError, TypeError):
        script = parser.prog
    if script != parser.prog:
        parser.error(f"--resume: {folder}: found a run of {script}, expected one of {parser.prog}")
    has = "has no" if needed - values.keys() else "has"
    parser.error(f"--resume: {folder}: {has} {', '.join(others)}; is it a run of another script or version?")


def _check_values(parser: _Parser, values: Mapping[str, Any]) -> None:
    """Check what the parser lets pass: a key without a value in a script or YAML file, and infinity."""
    for declaration in fields(Hyperparameters):
        name = declaration.name
        if name in values and values[name] is None and _default(declaration) is not None:
            parser.error(f"{name}: found no value (null), expected {_expected(name)}")
        if values.get(name) == math.inf:
            parser.error(f"{name}: found infinity, expected a finite number")


def _check_together(parser: _Parser, hyperparameters: Hyperparameters) -> None:
    """Check what no single type can express."""
    if hyperparameters.data_dir == "":
        parser.error("data_dir: found nothing, expected a folder")
    if hyperparameters.labels and not hyperparameters.data_dir:
        parser.error("labels: a labels table needs --data-dir, the folder of its files")
    if hyperparameters.init_from is None and hyperparameters.freeze_epochs:
        parser.error("freeze_epochs: found some, expected --init-from: there is nothing to freeze")
    _check_transfer(parser, hyperparameters)
    if hyperparameters.keep == "last" and hyperparameters.patience:
        parser.error(
            f"patience: found {hyperparameters.patience}, expected --keep best: where the last is kept, "
            "training goes on to the end of its schedule"
        )
    if hyperparameters.min_leads < len(LEADS) and not drops_leads(hyperparameters.present()):
        parser.error(
            f"min_leads: found {hyperparameters.min_leads} without lead dropout, expected --lead-drop, such "
            "as 0.5: the model must learn that leads may be missing"
        )
    if hyperparameters.folds == 1:
        parser.error("folds: found 1, expected 2 or more, or 0 for a single split")
    for name in ("repeats", "folds_at_once"):
        number = hyperparameters.present().get(name, 1)
        if number > 1 and not hyperparameters.folds:
            parser.error(f"{name}: found {number}, expected --folds: a single split has one")
    _check_decision(parser, hyperparameters)
    milestones = hyperparameters.milestones
    if milestones != sorted(set(milestones)):
        parser.error(f"milestones: found {milestones}, expected rising epochs")


def _check_transfer(parser: _Parser, hyperparameters: Hyperparameters) -> None:
    """Check what the weights to start from are, as far as the name says, and the form of ``map``."""
    file, prefixes = hyperparameters.init_from, hyperparameters.map
    if file is ABSENT:
        return
    if file and Path(file).suffix.lower() in PICKLED:
        parser.error(
            f"init_from: found {file}, a pickled file, which can run code when it is read; expected "
            f'.safetensors: safetensors.torch.save_file(torch.load("{Path(file).name}", weights_only=True), '
            f'"{Path(file).stem}.safetensors") converts it, see docs/training.md'
        )
    if prefixes and Path(file or "").suffix.lower() != ".safetensors":
        found = f"--init-from {file}, whose names are our own" if file else "no --init-from"
        parser.error(f"map: found {found}, expected --init-from FILE.safetensors")
    own = [pair.partition("=")[0] for pair in prefixes or []]
    for pair in prefixes or []:
        if pair.count("=") != 1 or own.count(pair.partition("=")[0]) > 1:
            parser.error(f"map: found {pair!r}, expected OWN=THEIRS, each OWN once, such as trunk=encoder")


def _check_decision(parser: _Parser, hyperparameters: Hyperparameters) -> None:
    """Check the threshold policy, and that the scores have the level that it needs."""
    policy = hyperparameters.threshold_policy
    if policy is ABSENT:
        return
    try:
        parse_policy(policy)
    except ValueError:
        expected = "expected prevalence, youden, or for example 'sensitivity>=0.95' or 'specificity>=0.9'"
        parser.error(f"threshold_policy: found {policy!r}, {expected}")
    has_level = hyperparameters.calibration in ("shrunken", "platt")
    if policy == "prevalence" and not has_level and (hyperparameters.alpha or hyperparameters.gamma):
        parser.error(
            f"threshold_policy: found prevalence with --calibration {hyperparameters.calibration} and a "
            "focal loss, whose scores are no probabilities; expected --calibration shrunken or platt"
        )
