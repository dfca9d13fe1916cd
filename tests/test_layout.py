"""The package's rooms: what each may import, and what importing the package costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import espnet_ensemble

PACKAGE = Path(espnet_ensemble.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom to the top; rooms that share a level do not import one another. The
# package's own __init__.py, which only exports, is above all that it exports.
LEVELS = [
    ["errors", "version"],
    ["extras", "featurizer", "files", "frames", "threads"],
    [
        "data",
        "decorrelation",
        "fusion",
        "layers",
        "masking",
        "normalization",
    ],
    ["upstream"],
    ["ensemble"],
    ["frontend_conf"],
    ["feature_cache"],
    ["decoding"],
    ["analysis", "serving"],
    ["integrations", "testing"],
    ["espnet_ensemble"],
    ["recipes"],
    ["bin"],
]
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
WITH_ESPNET = {"integrations", "recipes", "bin"}
ESPNET = {"espnet", "espnet2", "espnet3", "espnet_model_zoo"}


class Import(NamedTuple):
    """One imported module, unpacked in loops: its dotted name, and where this is."""

    module: str
    where: str


def room_of(module: str) -> str:
    """The room of a module's dotted name; of the package itself: its own name."""
    return [*module.split("."), "espnet_ensemble"][1]


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, also in functions, but for those under TYPE_CHECKING."""
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        where = f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 1)}"
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, where) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: an import that starts with a dot"
            if node.module == "espnet_ensemble":
                yield from (Import(_of_root(alias), where) for alias in node.names)
            else:
                yield Import(node.module, where)


def _of_root(alias: ast.alias) -> str:
    """What ``from espnet_ensemble import name`` reaches: a room, or the package."""
    is_room = alias.name in LEVEL_OF
    return f"espnet_ensemble.{alias.name}" if is_room else "espnet_ensemble"


def room_of_file(path: Path) -> str:
    """The room that a file is in, or is."""
    inside = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "espnet_ensemble" if inside == "__init__" else inside


def inner_imports() -> Iterator[tuple[Path, str, Import]]:
    """Imports of the package's own modules: the file, its room, the import."""
    for path in MODULES:
        for found in imports_of(path):
            if found.module.split(".")[0] == "espnet_ensemble":
                yield path, room_of_file(path), found


def test_every_room_has_a_level():
    assert {room_of_file(path) for path in MODULES} == set(LEVEL_OF)


def test_imports_run_down_never_up():
    wrong = [
        f"{found.where}: {room} imports {found.module}, which is not below it"
        for path, room, found in inner_imports()
        if room_of(found.module) != room
        and LEVEL_OF[room_of(found.module)] >= LEVEL_OF[room]
        and path.parent.name != "autoload"  # loads the whole plugin, as its one job
    ]
    assert not wrong, "\n".join(wrong)


def test_stand_ins_for_corpora_and_upstreams_are_only_for_tests_and_smoke_runs():
    smoke = PACKAGE / "recipes" / "tables" / "smoke.py"
    wrong = [
        f"{found.where}: imports {found.module}"
        for path, room, found in inner_imports()
        if room_of(found.module) == "testing" and room != "testing" and path != smoke
    ]
    assert not wrong, "\n".join(wrong)


def test_espnet_is_imported_only_where_the_plugin_meets_it():
    wrong = [
        f"{found.where}: {room_of_file(path)} imports {found.module}"
        for path in MODULES
        for found in imports_of(path)
        if found.module.split(".")[0] in ESPNET
        and room_of_file(path) not in WITH_ESPNET
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_the_package_imports_nothing_heavy():
    program = (
        "import sys; before = set(sys.modules); import espnet_ensemble; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    foreign = set(run.stdout.split()) - set(sys.stdlib_module_names)
    assert foreign <= {"espnet_ensemble", "wrapt"}


@pytest.mark.parametrize("command", ["asr_names", "data_dir", "show_asr_result"])
def test_commands_that_compute_nothing_do_not_wait_for_torch(command):
    program = (
        f"import sys, espnet_ensemble.bin.{command}; print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


@pytest.mark.parametrize("name", espnet_ensemble.__all__)
def test_every_public_name_is_there(name):
    assert getattr(espnet_ensemble, name) is not None
