"""What ``frontend_conf`` means: its keys and defaults, and what is made of it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_ensemble.errors import EnsembleError, name_keys
from espnet_ensemble.files import check_keys
from espnet_ensemble.upstream.registry import UpstreamConf

if TYPE_CHECKING:
    from espnet_ensemble.ensemble import Ensemble

#: What frozen upstreams can compute in, as torch calls it.
DTYPES = ("float32", "bfloat16", "float16")
# What the tag has, and what decides nothing.
_TAGGED = (
    "upstreams",
    "fusion",
    "normalize",
    "frozen",
    "download_dir",
    "feature_cache",
)


@dataclass(frozen=True)
class FrontendConf:
    """The content of ``frontend_conf``.

    Attributes:
        upstreams: What to combine.
        fusion: How, one of ``espnet_ensemble.fusion.FUSIONS``.
        fusion_conf: Options of the fusion.
        normalize: What brings every hidden state to one scale first, one of
            ``espnet_ensemble.normalization.NORMALIZATIONS``.
        feature_mask: Options of :class:`espnet_ensemble.masking.BandMask`, which hides some
            of each upstream's features in training; None: all are seen.
        member_dropout: Probability of hiding a whole upstream of an utterance in training
            (:class:`espnet_ensemble.masking.MemberDropout`).
        member_warmup: Options of :class:`espnet_ensemble.masking.MemberWarmup`, which hides
            all upstreams but one in the first batches of training; ``first`` is one of
            :attr:`member_names`, by default the first of them. None: all are seen at once.
        frame_rate: Frames per second that all upstreams are brought to: of fewer, frames are
            repeated; of more, they are put side by side. None: the lowest common multiple of
            theirs, by repetition.
        fs: Sample rate of the speech, in Hz.
        frozen: Whether upstreams keep their weights.
        dtype: Type that frozen upstreams compute in, one of :data:`DTYPES`. The features
            are float32 in any case.
        download_dir: Where to keep downloaded checkpoints; None: the default of S3PRL or
            transformers.
        feature_cache: Folder of features that ESPnet's training takes in place of the
            audio, and extracts where they are missing; None: it trains from the audio.

    Raises:
        EnsembleError: If one of them is wrong.

    Example:
        >>> FrontendConf.parse({"upstreams": ["wavlm_base"], "fs": "16k"}).fs
        16000
    """

    upstreams: tuple[UpstreamConf, ...]
    fusion: str = "concat"
    fusion_conf: Mapping[str, Any] = field(default_factory=dict)
    normalize: str = "none"
    feature_mask: Mapping[str, Any] | None = None
    member_dropout: float = 0.0
    member_warmup: Mapping[str, Any] | None = None
    frame_rate: float | None = None
    fs: int = 16000
    frozen: bool = True
    dtype: str = "float32"
    download_dir: str | None = None
    feature_cache: str | None = None

    def __post_init__(self):
        if not self.upstreams:
            raise EnsembleError("upstreams: expected at least one, found none")
        if self.dtype not in DTYPES:
            raise EnsembleError(
                f"dtype: expected {', '.join(DTYPES)}, found {self.dtype!r}"
            )
        if not self.frozen and self.dtype != "float32":
            raise EnsembleError(
                f"dtype: {self.dtype} is for frozen upstreams; to train them in mixed "
                "precision, use ESPnet's use_amp"
            )
        if self.feature_mask is not None:
            check_keys("feature_mask", self.feature_mask, [], ["num_mask", "max_share"])
        if self.member_warmup is not None:
            check_keys("member_warmup", self.member_warmup, ["num_batches"], ["first"])
        if self.frame_rate is not None and not self.frame_rate > 0:
            raise EnsembleError(
                f"frame_rate: expected frames per second, found {self.frame_rate}"
            )
        if self.fs < 1:
            raise EnsembleError(f"fs: expected a sample rate in Hz, found {self.fs}")

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> "FrontendConf":
        """Read what YAML gives.

        Args:
            conf: The mapping. Entries of ``upstreams`` are names or mappings; ``fs`` may
                be "16k".

        Raises:
            EnsembleError: If a key is unknown or a value is wrong.
        """
        known = [f.name for f in fields(cls)]
        check_keys("frontend_conf", conf, ["upstreams"], known[1:])
        values = {**conf, "fusion_conf": conf.get("fusion_conf") or {}}
        entries = values["upstreams"]
        if not isinstance(entries, (list, tuple)):
            raise EnsembleError(
                f"upstreams: expected a list of at least one, found {entries!r}"
            )
        values["upstreams"] = tuple(UpstreamConf.parse(entry) for entry in entries)
        if isinstance(values.get("fs"), str):
            values["fs"] = parse_fs(values["fs"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """What YAML holds: plain values that :meth:`parse` reads."""
        return {**asdict(self), "upstreams": [asdict(u) for u in self.upstreams]}

    def members(self) -> list["FrontendConf"]:
        """What each upstream needs to know by itself: what becomes of features, it need not.

        Example:
            >>> conf = FrontendConf.parse({"upstreams": ["a/b", "c/d"], "fusion": "sum"})
            >>> [(m.upstreams[0].name, m.fusion) for m in conf.members()]
            [('a/b', 'concat'), ('c/d', 'concat')]
        """
        return [
            replace(
                self,
                upstreams=(upstream,),
                fusion="concat",
                fusion_conf={},
                normalize="none",
                feature_mask=None,
                member_dropout=0.0,
                member_warmup=None,
                frame_rate=None,
                feature_cache=None,
            )
            for upstream in self.upstreams
        ]

    def absolute(self) -> "FrontendConf":
        """The same, also in another working directory."""
        return replace(self, upstreams=tuple(u.absolute() for u in self.upstreams))

    @property
    def member_names(self) -> list[str]:
        """What a user calls each upstream, shorter than its name; no two are alike.

        Example:
            >>> conf = FrontendConf.parse({"upstreams": ["up/wavlm", "up/hubert", "up/wavlm"]})
            >>> conf.member_names
            ['wavlm', 'hubert', 'wavlm-2']
        """
        tags = [_upstream_tag(upstream) for upstream in self.upstreams]
        numbers = [tags[:index].count(tag) + 1 for index, tag in enumerate(tags)]
        return [
            tag if number == 1 else f"{tag}-{number}"
            for tag, number in zip(tags, numbers, strict=True)
        ]

    def find_members(self, names: Iterable[str]) -> list[int]:
        """Find upstreams by what :attr:`member_names` calls them.

        Returns:
            Their places, in ascending order.

        Raises:
            EnsembleError: If there is none of a name, or no name.

        Example:
            >>> conf = FrontendConf.parse({"upstreams": ["up/wavlm", "up/hubert"]})
            >>> conf.find_members(["hubert"])
            [1]
        """
        known, names = self.member_names, set(names)
        unknown = sorted(names.difference(known))
        if unknown or not names:
            found = name_keys(unknown) if unknown else "none"
            raise EnsembleError(
                f"members: expected some of {', '.join(known)}, found {found}"
            )
        return [index for index, name in enumerate(known) if name in names]

    @property
    def _first_member(self) -> int:
        """The place of the upstream that training begins with."""
        name = (self.member_warmup or {}).get("first", self.member_names[0])
        if name not in self.member_names:
            raise EnsembleError(
                f"member_warmup: first: expected one of {', '.join(self.member_names)}, "
                f"found {name!r}"
            )
        return self.member_names.index(name)

    @property
    def tag(self) -> str:
        """What tells experiments with this frontend from others, for names of folders.

        It has the upstreams' names, and what is not default of the rest.

        Example:
            >>> upstreams = ["up/wavlm", {"name": "facebook/hubert-base", "layer": 8}]
            >>> FrontendConf.parse({"upstreams": upstreams, "fusion": "sum"}).tag
            'wavlm_hubert-base-layer8_sum'
        """
        parts = [_upstream_tag(upstream) for upstream in self.upstreams]
        if self.fusion != "concat":
            parts.append(self.fusion)
        if self.normalize != "none":
            parts.append(f"norm-{self.normalize.replace('_', '-')}")
        if not self.frozen:
            parts.append("trainable")
        return "_".join(parts)

    @property
    def untagged(self) -> dict[str, Any]:
        """What decides the features, is not default, and :attr:`tag` leaves out.

        Example:
            >>> FrontendConf.parse({"upstreams": ["a/b"], "dtype": "bfloat16"}).untagged
            {'dtype': 'bfloat16'}
        """
        found = _changed(self, FrontendConf(self.upstreams), _TAGGED)
        tagged = ("name", "layer", "path_or_url")
        options = [_changed(u, UpstreamConf(u.name), tagged) for u in self.upstreams]
        return {**found, "upstreams": options} if any(options) else found

    def build(self) -> "Ensemble":
        """Load the upstreams and make the ensemble.

        Raises:
            UpstreamError: If an upstream cannot be loaded.
            EnsembleError: If an option does not fit the upstreams.
        """
        from espnet_ensemble.ensemble import Ensemble

        return Ensemble(**self.load_parts())

    def load_parts(self) -> dict[str, Any]:
        """Load the upstreams, and make the other arguments of an ensemble.

        Raises:
            EnsembleError: As :meth:`build`.
        """
        # Who only reads a configuration need not wait for torch.
        import torch

        from espnet_ensemble.ensemble import find_stacking
        from espnet_ensemble.fusion import build_fusion
        from espnet_ensemble.masking import BandMask, MemberDropout, MemberWarmup
        from espnet_ensemble.upstream.registry import load_upstream

        upstreams = [load_upstream(conf, self.download_dir) for conf in self.upstreams]
        if self.dtype != "float32":
            for upstream in upstreams:
                upstream.probe()  # as exact as without, so that probes can be compared
                upstream.to(getattr(torch, self.dtype))
        stacking = find_stacking(upstreams, self.frame_rate)
        stacked = zip(upstreams, stacking.stacks, strict=True)
        sizes = [upstream.feature_size * stacks for upstream, stacks in stacked]
        num_layers = [len(upstream.layers) for upstream in upstreams]
        # Of upstreams whose frames are stacked, none is repeated.
        repeats = [max(1, step // stacking.num_grid_frames) for step in stacking.steps]
        fusion = build_fusion(
            self.fusion, sizes, num_layers, repeats, **self.fusion_conf
        )
        return {
            "upstreams": upstreams,
            "fusion": fusion,
            "fs": self.fs,
            "frozen": self.frozen,
            "normalize": self.normalize,
            "feature_mask": (
                None if self.feature_mask is None else BandMask(**self.feature_mask)
            ),
            "member_dropout": (
                MemberDropout(self.member_dropout) if self.member_dropout else None
            ),
            "member_warmup": (
                None
                if self.member_warmup is None
                else MemberWarmup(self.member_warmup["num_batches"], self._first_member)
            ),
            "frame_rate": self.frame_rate,
        }


def parse_fs(value: str) -> int:
    """Read a sample rate in Hz, such as "16k".

    Raises:
        EnsembleError: If it is none.

    Example:
        >>> parse_fs("16k")
        16000
    """
    import humanfriendly

    try:
        return humanfriendly.parse_size(value)
    except humanfriendly.InvalidSize as error:
        raise EnsembleError(f"fs: {error}") from error


def _changed(conf: Any, default: Any, left_out: Collection[str]) -> dict[str, Any]:
    """The fields of a dataclass that are not as those of another."""
    names = [f.name for f in fields(conf) if f.name not in left_out]
    found = {name: getattr(conf, name) for name in names}
    return {k: v for k, v in found.items() if v != getattr(default, k)}


def _upstream_tag(conf: UpstreamConf) -> str:
    tag = Path(conf.name).name
    if conf.path_or_url:
        tag += f"-{Path(conf.path_or_url).stem}"
    if conf.layer != "last":
        layers = conf.layer if isinstance(conf.layer, (list, tuple)) else [conf.layer]
        tag += "-layer" + "-".join(map(str, layers))
    return tag
