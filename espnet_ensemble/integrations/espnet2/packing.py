"""Model zoo archives that carry the upstreams that exist only on this machine.

ESPnet packs the files that it is given, under their names relative to the working
directory, and where it unpacks them, it rewrites every string of a configuration that is
the name of a file in it. So all there is to do is to lay out the files under good names, name
them so in the configurations, and let ESPnet pack them there. What ESPnet does not write
is an entry for a folder, without which the name of a folder is not rewritten.
"""

import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from espnet2.main_funcs import pack_funcs

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, read_yaml, write_yaml
from espnet_ensemble.upstream import UpstreamConf
from espnet_ensemble.upstream.checkpoint_files import checkpoint_files

#: What makes the things that are packed: stages of asr.sh, by option or file name.
MADE_BY = {
    "asr_train_config": "stage 11, training",
    "asr_model_file": "stage 11, training",
    "images": "stage 11, training",
    "lm_train_config": "stage 7, LM training",
    "lm_file": "stage 7, LM training",
    "RESULTS.md": "stage 13, scoring",
    "feats_stats.npz": "stage 10, statistics",
    "bpe.model": "stage 5, token list",
}


def pack(
    yaml_files: Mapping[str, PathLike],
    files: Mapping[str, PathLike],
    option: Iterable[PathLike],
    outpath: PathLike,
) -> list[str]:
    """Pack a model as ``espnet2.bin.pack`` does, with its local upstreams.

    In the archive, a file is called as it is relative to the working directory, or
    ``files/<name>`` if it is not in one of the folders there. A local upstream is
    ``upstreams/<name>``; published ones, which any machine can download, are not packed.

    Args:
        yaml_files: Configurations, by the argument of ESPnet's inference that takes
            them: ``{"asr_train_config": "exp/asr/config.yaml"}``.
        files: Checkpoints, in the same way.
        option: Further files, and folders with all that is in them.
        outpath: The archive, ``.zip``. It is there when it is complete.

    Returns:
        The names in the archive.

    Raises:
        EnsembleError: If something is missing, or a configuration cannot be read.
    """
    option, outpath = list(option), Path(outpath)
    if outpath.suffix != ".zip":
        # Nothing can be added to a compressed tar, nor does ESPnet recognise one whose
        # name has further dots, as those of recipes have.
        raise EnsembleError(
            f"outpath: expected a name that ends in .zip, found {outpath}"
        )
    _check_given(
        [*yaml_files.items(), *files.items(), *(("option", o) for o in option)]
    )

    contents = _Contents()
    given = {key: contents.add(path) for key, path in {**yaml_files, **files}.items()}
    for path in option:
        contents.add(path)
    configs = {
        given[key]: _portable(read_yaml(path), path, contents)
        for key, path in yaml_files.items()
    }
    contents.check()

    outpath.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{outpath.name}.", dir=outpath.parent) as temp:
        root, archive = Path(temp, "content"), Path(temp, outpath.name).absolute()
        contents.lay_out(root)
        for name, config in configs.items():
            write_yaml(root / name, config)
        with _working_directory(root), redirect_stdout(None):
            pack_funcs.pack(
                yaml_files={key: given[key] for key in yaml_files},
                files={key: given[key] for key in files},
                option=sorted(set(contents.files) - set(given.values())),
                outpath=archive,
            )
        names = _add_folders(archive, root, contents.folders)
        os.replace(archive, outpath)
    return names


def _add_folders(archive: Path, root: Path, folders: list[str]) -> list[str]:
    with zipfile.ZipFile(archive, "a") as file:
        for folder in folders:
            file.write(root / folder, folder)
        return file.namelist()


class _Contents:
    """What goes into an archive, under which names.

    Attributes:
        files: Name in the archive -> file.
        folders: Names of folders that configurations mention.
    """

    def __init__(self):
        self.files: dict[str, Path] = {}
        self.folders: list[str] = []
        self._names: dict[str, str] = {}  # real path -> name in the archive
        self._upstreams: dict[str, str] = {}
        self._problems: list[str] = []

    def add(self, path: PathLike) -> str:
        """Add a file, or a folder with all that is in it; return its name."""
        real = os.path.realpath(path)
        if real not in self._names:
            self._names[real] = name = self._unused(_name(path))
            files = [f for f in Path(path).rglob("*") if f.is_file()]
            for file in files if os.path.isdir(path) else [Path(path)]:
                self.files[str(name / file.relative_to(path))] = file
        return self._names[real]

    def add_upstream(self, path: str) -> str:
        """Add what loading an upstream reads of its file or folder; return its name."""
        real = os.path.realpath(path)
        if real not in self._upstreams:
            self._upstreams[real] = name = self._unused(f"upstreams/{_basename(path)}")
            self._add_checkpoint(name, Path(path))
        return self._upstreams[real]

    def _add_checkpoint(self, name: str, path: Path) -> None:
        if path.is_file():
            self.files[name] = path
            return
        try:
            if not path.is_dir():
                raise EnsembleError(f"upstream {path}: there is no such file or folder")
            for file in checkpoint_files(path):
                self.files[f"{name}/{file}"] = path / file
            self.folders.append(name)
        except EnsembleError as problem:
            self._problems.append(str(problem))

    def _unused(self, name: str) -> str:
        path, number = Path(name), 1
        while any(Path(name) in (Path(m), *Path(m).parents) for m in self.files):
            number += 1
            name = str(path.with_name(f"{path.stem}_{number}{path.suffix}"))
        return name

    def rename(self, value: Any) -> Any:
        """Replace every string in plain data that is the path of something added."""
        if isinstance(value, dict):
            return {key: self.rename(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.rename(item) for item in value]
        if isinstance(value, str):
            return self._names.get(os.path.realpath(value), value)
        return value

    def check(self) -> None:
        """Raise EnsembleError if an upstream lacks something."""
        if self._problems:
            raise EnsembleError("\n".join(self._problems))

    def lay_out(self, root: Path) -> None:
        """Copy everything below a folder, under the names it has in the archive."""
        for name, file in self.files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            # Copies, because ESPnet names what a link points to.
            shutil.copyfile(file, root / name)


def _name(path: PathLike) -> str:
    relative = Path(os.path.relpath(path))
    # A name without folder could also be a word of a token list, which ESPnet would
    # take for the file.
    if len(relative.parts) > 1 and relative.parts[0] != "..":
        return str(relative)
    return f"files/{_basename(path)}"


def _basename(path: PathLike) -> str:
    return os.path.basename(os.path.abspath(path))


def _check_given(given: Iterable) -> None:
    missing = [(key, path) for key, path in given if not os.path.exists(path)]
    if missing:
        raise EnsembleError("\n".join(_not_found(key, path) for key, path in missing))


def _not_found(key: str, path: PathLike) -> str:
    made_by = MADE_BY.get(key) or MADE_BY.get(_basename(path))
    advice = f"; {made_by}, makes it" if made_by else ""
    return f"--{key} {path}: there is no such file or folder{advice}"


def _portable(
    config: dict[str, Any], path: PathLike, contents: _Contents
) -> dict[str, Any]:
    """The configuration with the names that files and upstreams have in the archive."""
    renamed = {
        key: value if key == "token_list" else contents.rename(value)
        for key, value in config.items()
    }
    if config.get("frontend") != "ensemble":
        return renamed
    frontend = config.get("frontend_conf") or {}
    if not frontend.get("upstreams"):
        raise EnsembleError(f"{path}: expected upstreams in frontend_conf, found none")
    try:
        upstreams = [_carry(entry, contents) for entry in frontend["upstreams"]]
    except ValueError as error:
        raise EnsembleError(f"{path}: {error}") from error
    # Where this machine keeps downloads says nothing to another one.
    others = {key: value for key, value in frontend.items() if key != "download_dir"}
    return {**renamed, "frontend_conf": {**others, "upstreams": upstreams}}


def _carry(entry: str | dict[str, Any], contents: _Contents) -> str | dict[str, Any]:
    conf = UpstreamConf.parse(entry)
    option = conf.local_option
    if option is None:
        return entry
    name = contents.add_upstream(getattr(conf, option))
    return name if isinstance(entry, str) else {**entry, option: name}


@contextmanager
def _working_directory(path: PathLike) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
