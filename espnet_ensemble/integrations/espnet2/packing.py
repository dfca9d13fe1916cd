"""Model zoo archives that work on any machine.

They name published upstreams by id, revision and fingerprint, and carry those that exist
only here. ESPnet packs the files that it is given, under their names relative to the working
directory, and where it unpacks them, it rewrites every string of a configuration that is
the name of a file in it. So all there is to do is to lay out the files under good names, name
them so in the configurations, and let ESPnet pack them there. What ESPnet does not write
is an entry for a folder, without which the name of a folder is not rewritten.
"""

import inspect
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import (
    PathLike,
    read_yaml,
    working_directory,
    write_text,
    write_yaml,
)
from espnet_ensemble.frontend_conf import FrontendConf
from espnet_ensemble.integrations.espnet2.contents import Contents, check_given
from espnet_ensemble.integrations.espnet2.manifest import MANIFEST, Manifest
from espnet_ensemble.integrations.espnet2.members import Member
from espnet_ensemble.integrations.espnet2.packed_config import (
    ENSEMBLE_WITH_ADVICE,
    check_config,
    files_of,
)
from espnet_ensemble.integrations.espnet2.packed_model import read_weights, weights_in
from espnet_ensemble.upstream import UpstreamConf
from espnet_ensemble.upstream.fingerprint import to_hex

#: What only training reads, from where it was.
TRAINING_FILES = (
    "config",
    "deepspeed_config",
    "dist_init_method",
    "init_param",
    "noise_scp",
    "output_dir",
    "pretrain_path",
    "rir_scp",
    "train_data_path_and_name_and_type",
    "train_shape_file",
    "valid_data_path_and_name_and_type",
    "valid_shape_file",
)
#: Options of decoding that name files which a packed model carries.
DECODING_FILES = ("hotwords", "lexicon", "ngram_file")
#: The model card, and the decoding configuration, in an archive.
CARD = "README.md"
DECODING = "conf/decode.yaml"


@dataclass(frozen=True)
class PackConf:
    """What an archive of a model with the frontend ``ensemble`` gets besides.

    Attributes:
        bundle_upstreams: Whether it carries published upstreams, too.
        decoding: The decoding configuration; None: no such file.
        write_card: Makes the model card; None: there is none.
    """

    bundle_upstreams: bool = False
    decoding: Mapping[str, Any] | None = None
    write_card: Callable[[Manifest], str] | None = None


def pack(
    yaml_files: Mapping[str, PathLike],
    files: Mapping[str, PathLike],
    option: Iterable[PathLike],
    outpath: PathLike,
    conf: PackConf | None = None,
) -> list[str]:
    """Pack a model as ``espnet2.bin.pack`` does, so that it works on any machine.

    In the archive, a file is called as it is relative to the working directory, or
    ``files/<name>`` if it is not in one of the folders there. A local upstream is
    ``upstreams/<name>``; published ones, which any machine can download, are named by their
    revision. ``ensemble.yaml`` tells where all of them come from.

    Args:
        yaml_files: Configurations, by the argument of ESPnet's inference that takes
            them: ``{"asr_train_config": "exp/asr/config.yaml"}``.
        files: Checkpoints, in the same way.
        option: Further files, and folders with all that is in them.
        outpath: The archive, ``.zip``. It is there when it is complete.
        conf: What it gets besides.

    Returns:
        The names in the archive.

    Raises:
        EnsembleError: If something is missing, a configuration cannot be read or names what
            no archive may, or an upstream is not the one that the model was trained over.
    """
    option, outpath, conf = list(option), Path(outpath), conf or PackConf()
    if outpath.suffix != ".zip":
        # Nothing can be added to a compressed tar, nor does ESPnet recognise one whose
        # name has further dots, as those of recipes have.
        raise EnsembleError(
            f"outpath: expected a name that ends in .zip, found {outpath}"
        )
    check_given([*yaml_files.items(), *files.items(), *(("option", o) for o in option)])

    contents = Contents()
    given = {key: contents.add(path) for key, path in {**yaml_files, **files}.items()}
    for path in option:
        contents.add(path)
    documents: dict[str, Mapping[str, Any] | str] = {}
    for key, path in yaml_files.items():
        config, members = _portable(read_yaml(path), path, contents, conf)
        if members:
            weights = files.get(key.replace("_train_config", "_model_file"))
            documents |= _documents(config, members, weights, contents, conf)
        if members and key == "asr_train_config":
            check_config(config, str(path), {*contents.files, *contents.folders})
        documents[given[key]] = config
    contents.check()
    return _write_archive(
        outpath,
        {key: given[key] for key in yaml_files},
        {key: given[key] for key in files},
        contents,
        documents,
    )


def _write_archive(
    outpath: Path,
    yaml_files: Mapping[str, str],
    files: Mapping[str, str],
    contents: Contents,
    documents: Mapping[str, Mapping[str, Any] | str],
) -> list[str]:
    """Let ESPnet pack what has been laid out in a folder of its own."""
    from espnet2.main_funcs import pack_funcs

    listed = {*yaml_files.values(), *files.values()}
    outpath.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{outpath.name}.", dir=outpath.parent) as temp:
        root, archive = Path(temp, "content"), Path(temp, outpath.name).absolute()
        contents.lay_out(root)
        for name, document in documents.items():
            _write(root / name, document)
        with working_directory(root), redirect_stdout(None):
            # Not what recipes.packing has put in its place.
            inspect.unwrap(pack_funcs.pack)(
                yaml_files=yaml_files,
                files=files,
                option=sorted({*contents.files, *documents} - listed),
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


def _portable(
    config: dict[str, Any], path: PathLike, contents: Contents, conf: PackConf
) -> tuple[dict[str, Any], list[Member]]:
    """The configuration with the names that files and upstreams have in the archive."""
    for option, file in files_of(config).items():
        check_given([(option, file)])
        contents.add(file)
    renamed = {
        key: value if key == "token_list" else contents.rename(value)
        for key, value in config.items()
    }
    for key in renamed.keys() & TRAINING_FILES:
        # Where they were says nothing to another machine, and it may be private.
        renamed[key] = [] if isinstance(renamed[key], list) else None
    if config.get("frontend") != "ensemble":
        return renamed, []
    frontend = dict(config.get("frontend_conf") or {})
    if not frontend.get("upstreams"):
        raise EnsembleError(f"{path}: expected upstreams in frontend_conf, found none")
    download_dir = frontend.pop("download_dir", None)
    frontend.pop("feature_cache", None)
    entries = frontend["upstreams"]
    try:
        confs = [UpstreamConf.parse(entry) for entry in entries]
        bundle = conf.bundle_upstreams
        members = [Member.add(c, contents, download_dir, bundle) for c in confs]
    except ValueError as error:
        raise EnsembleError(f"{path}: {error}") from error
    frontend["upstreams"] = [
        member.entry(entry) for entry, member in zip(entries, members, strict=True)
    ]
    named = {"frontend": ENSEMBLE_WITH_ADVICE, "frontend_conf": frontend}
    return {**renamed, **named}, members


def _documents(
    config: Mapping[str, Any],
    members: Sequence[Member],
    weights: PathLike | None,
    contents: Contents,
    conf: PackConf,
) -> dict[str, Mapping[str, Any] | str]:
    """What is written about a model: name in the archive -> content."""
    contents.check()
    pairs = zip(members, find_fingerprints(weights, len(members)), strict=True)
    manifest = Manifest(
        fs=FrontendConf.parse(config["frontend_conf"]).fs,
        upstreams=tuple(member.describe(expected) for member, expected in pairs),
        decoding=None if conf.decoding is None else DECODING,
    )
    documents: dict[str, Mapping[str, Any] | str] = {MANIFEST: manifest.to_dict()}
    if conf.decoding is not None:
        documents[DECODING] = _portable_decoding(conf.decoding, contents)
    if conf.write_card is not None:
        documents[CARD] = conf.write_card(manifest)
    return documents


def find_fingerprints(weights: PathLike | None, number: int) -> list[str | None]:
    """Those of the upstreams that a model was trained over.

    Args:
        weights: Of the model; None: it has none that could be looked at.
        number: Of its upstreams.

    Returns:
        Hexadecimal, or None where upstreams trained with the model.

    Raises:
        EnsembleError: If it was trained over another number of upstreams.
    """
    content = weights_in({} if weights is None else read_weights(weights))
    for key, value in content.items():
        if key.endswith("frontend.fingerprints"):
            if len(value) != number:
                raise EnsembleError(
                    f"{weights}: trained over {len(value)} upstreams, frontend_conf has "
                    f"{number}"
                )
            return [to_hex(row) for row in value]
    return [None] * number


def _portable_decoding(
    decoding: Mapping[str, Any], contents: Contents
) -> dict[str, Any]:
    found = dict(decoding)
    for option in found.keys() & DECODING_FILES:
        if found[option] is not None:
            check_given([(option, found[option])])
            found[option] = contents.add(found[option])
    return found


def _write(path: Path, document: Mapping[str, Any] | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(document, str):
        write_text(path, document)
    else:
        write_yaml(path, document)
