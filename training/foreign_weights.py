"""Start from the weights of another model, in a .safetensors file: what fits by name and shape is loaded.

Their names are seldom ours: ``--map`` says which prefix of theirs stands for which of ours. Nothing is
unpickled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from run_folder.foreign_weights import record_of
from runtime.errors import UserError, one_line

SHOWN = 4  # names of each kind that are printed
HEAD = "head"  # always new
DIGITS = 16  # of a SHA-256 in the terminal; environment.json has all


@dataclass
class Match:
    """How a file's tensors fit a model.

    Attributes
    ----------
    theirs : for each name of the model that a tensor fits, the name of that tensor.
    new : names of the model, the head's left out, for which the file has nothing.
    differing : a line for each pair of names that belong together and whose shapes differ.
    unused : names of the file that stand for nothing in the model.
    """

    theirs: dict[str, str] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def load_foreign(model: nn.Module, file: Path, prefixes: Sequence[str]) -> frozenset[str]:
    """Load what fits from a file of another model's weights, and print what does and what does not.

    A kernel (n, m, k) of a Conv1d fits one (n, m, 1, k) of a Conv2d of height 1, whose arithmetic is the
    same. Half and double precision become that of the model.

    Parameters
    ----------
    prefixes : "OWN=THEIRS", of names of parameters in the model and in the file. The longest OWN counts; a
        name without one stands for the same name. An empty side means the whole model or file.

    Returns
    -------
    names of the parameters that were loaded.

    Raises
    ------
    UserError : a file that cannot be read, or is a run's; a prefix of nothing; nothing that fits; values
        that are not finite.
    """
    if (file.parent / "model.json").exists():
        raise UserError(
            f"{file}: found the weights of a run, expected its folder, which says what they have seen: "
            f"--init-from {file.parent}"
        )
    own = {name: tensor for name, tensor in model.state_dict().items() if not _is_in(name, HEAD)}
    record = record_of(file)
    try:
        with safe_open(file, "pt") as weights:
            shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
            match = match_names(own, shapes, _parse(prefixes, list(own), list(shapes)))
            loaded = {name: weights.get_tensor(theirs) for name, theirs in match.theirs.items()}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file}: found no usable weights ({one_line(error)}), expected .safetensors"
        ) from None
    parameters = frozenset(name for name, _ in model.named_parameters() if name in match.theirs)
    if not parameters:
        raise UserError(f"{file}: {_nothing_fits(match)}")
    model.load_state_dict({name: _as(own[name], loaded[name], file) for name in loaded}, strict=False)
    for line in _report(match, record, len(own)):
        print(line)
    return parameters


def match_names(
    own: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], prefixes: Mapping[str, str]
) -> Match:
    """Return which of a file's tensors, by name and shape, fit those of a model, by name.

    Parameters
    ----------
    prefixes : THEIRS by OWN.
    """
    match, met = Match(), set()
    for name, tensor in own.items():
        theirs = _translate(name, prefixes)
        met.add(theirs)
        if theirs not in shapes:
            match.new.append(name)
        elif _fits(shapes[theirs], tuple(tensor.shape)):
            match.theirs[name] = theirs
        else:
            same = "" if theirs == name else f" {theirs}"
            match.differing.append(f"{name} {tuple(tensor.shape)}, the file's{same} {shapes[theirs]}")
    match.unused = [name for name in shapes if name not in met]
    return match


def _parse(prefixes: Sequence[str], own: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Return THEIRS by OWN; a UserError where one of them is the beginning of no name."""
    parsed = dict(pair.split("=") for pair in prefixes)
    for pair, (one, other) in zip(prefixes, parsed.items(), strict=True):
        for prefix, names, whose in ((one, own, "the model's"), (other, theirs, "the file's")):
            if not any(_is_in(name, prefix) for name in names):
                modules = dict.fromkeys(name.split(".")[0] for name in names)
                raise UserError(
                    f"map: found {pair}, expected a prefix of {whose} names, which begin with "
                    f"{_some(list(modules))}" + (f" ({HEAD} is always new)" if _is_in(prefix, HEAD) else "")
                )
    return parsed


def _is_in(name: str, prefix: str) -> bool:
    """Return whether a parameter's name begins with the modules of a prefix; with "" each does."""
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def _translate(name: str, prefixes: Mapping[str, str]) -> str:
    """Return the name in the file for one of the model."""
    longest = max((prefix for prefix in prefixes if _is_in(name, prefix)), key=len, default=None)
    if longest is None:
        return name
    rest = name[len(longest) :].removeprefix(".")
    return ".".join(filter(None, (prefixes[longest], rest)))


def _fits(theirs: tuple[int, ...], own: tuple[int, ...]) -> bool:
    is_row = len(own) == 4 and own[2] == 1
    return theirs == own or (is_row and theirs == (own[0], own[1], own[3]))


def _as(own: torch.Tensor, theirs: torch.Tensor, file: Path) -> torch.Tensor:
    """Return a tensor of the file in type and shape of the model's."""
    if theirs.is_floating_point() != own.is_floating_point():
        raise UserError(f"{file}: found weights of type {theirs.dtype}, expected those of {own.dtype}")
    theirs = theirs.to(own.dtype)
    if not torch.isfinite(theirs).all():
        raise UserError(f"{file}: found weights that are not finite in {own.dtype}, expected finite ones")
    return theirs.reshape(own.shape)


def _some(names: Sequence[str], comma: str = ", ") -> str:
    """Return the first few of some names: 'a, b, c, d, …'."""
    return comma.join([*names[:SHOWN], *(["…"] if len(names) > SHOWN else [])])


def _nothing_fits(match: Match) -> str:
    found = f"found nothing that fits: its names begin with {_some(match.unused) or 'those of other shapes'}"
    if match.differing:
        found += f"; other shapes: {match.differing[0]}"
    return f"{found}; expected names like {_some(match.new) or 'ours'}: --map OWN=THEIRS"


def _report(match: Match, record: Mapping[str, Any], n_own: int) -> Iterator[str]:
    """Yield the lines that say what was loaded and what was not."""
    modules = ", ".join(dict.fromkeys(name.split(".")[0] for name in match.theirs))
    yield (
        f"init        {len(match.theirs)} of the model's {n_own} tensors, in {modules}, from "
        f"{record['file']} (SHA-256 {record['sha256'][:DIGITS]}…); new: {HEAD}"
    )
    kinds = (
        ("the model's, new", match.new, ", "),
        ("the file's, unused", match.unused, ", "),
        ("of other shapes, new", match.differing, "; "),
    )
    for kind, names, comma in kinds:
        if names:
            yield f"            {len(names)} {kind}: {_some(names, comma)}"
    yield "note        nobody here knows which ECGs these weights have seen: those tested may be among them"
