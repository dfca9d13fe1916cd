"""Names of ``asr.sh``'s folders and files: everybody asks here, ``asr.sh`` too."""

import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from espnet_ensemble.frontend_conf import parse_fs
from espnet_ensemble.recipes.options import frontend_arguments, split_words
from espnet_ensemble.recipes.training_config import TrainingConfig, hash_tag


@dataclass(frozen=True)
class NamingOptions:
    """Those options of ``asr.sh`` that names depend on, and its defaults.

    Attributes:
        dumpdir: Folder for formatted audio and features.
        expdir: Folder for experiments.
        feats_type: What is dumped, for names.
        speed_perturb_factors: Such as "0.9 1.0 1.1"; "": training is not perturbed.
        token_type: "char", "word" or "bpe".
        nbpe: Number of BPE pieces.
        bpemode: SentencePiece's kind of model.
        lang: Language; "noinfo": not in the names.
        fs: Sample rate.
        cleaner: Text cleaner.
        g2p: Grapheme-to-phoneme conversion.
        asr_args: Options that override the training configuration.
        asr_tag: Name of the experiment; "": made from configuration and options.
        asr_exp: Folder of the experiment; "": ``<expdir>/asr_<asr_tag>``.
        asr_stats_dir: Folder of the statistics; "": made from the options.
        feats_normalize: "global_mvn": statistics are of features, not of lengths alone.
        pretrained_model: Initial parameters; "": none.
        use_ngram: "true": decoding is with an n-gram language model.
        ngram_exp: Its folder; "": ``<expdir>/ngram``.
        ngram_num: Words in its longest n-grams.
        ngram_token_type: What it is of.
        inference_ngram: The file there to decode with; "": ``<ngram_num>gram.arpa``.
        inference_config: Decoding configuration; "": none.
        inference_args: Options that override it.
        inference_tag: Name of the decoding; "": made from configuration and options.
        inference_asr_model: Checkpoint to decode with.
    """

    dumpdir: str = "dump"
    expdir: str = "exp"
    feats_type: str = "raw"
    speed_perturb_factors: str = ""
    token_type: str = "char"
    nbpe: str = "30"
    bpemode: str = "unigram"
    lang: str = "noinfo"
    fs: str = "16k"
    cleaner: str = "none"
    g2p: str = "none"
    asr_args: str = ""
    asr_tag: str = ""
    asr_exp: str = ""
    asr_stats_dir: str = ""
    feats_normalize: str = "utt_mvn"
    pretrained_model: str = ""
    use_ngram: str = "false"
    ngram_exp: str = ""
    ngram_num: str = "3"
    ngram_token_type: str = "word"
    inference_ngram: str = ""
    inference_config: str = ""
    inference_args: str = ""
    inference_tag: str = ""
    inference_asr_model: str = "valid.cer_ctc.ave.pth"


@dataclass(frozen=True)
class AsrNames:
    """What ``asr.sh`` calls its folders and files; paths are from the recipe's folder.

    Attributes:
        data_feats: Folder of formatted data.
        token_dir: Folder of the token list.
        token_list: The token list.
        bpemodel: The SentencePiece model; "none" where tokens are no BPE pieces.
        asr_tag: Name of the experiment.
        asr_exp: Folder of the experiment.
        asr_stats_dir: Folder of the training set's statistics.
        ngram_exp: Folder of the n-gram language model.
        ngram_file: The n-gram language model to decode with.
        inference_tag: Name of the decoding, a folder of the experiment.
        packed_model: Archive for the model zoo.

    Example:
        >>> config = TrainingConfig("train_asr_ctc_wavlm", {})
        >>> names = AsrNames.of(NamingOptions(lang="en"), config)
        >>> names.asr_exp, names.token_list
        ('exp/asr_train_asr_ctc_wavlm_raw_en_char', 'data/en_token_list/char/tokens.txt')
    """

    data_feats: str
    token_dir: str
    token_list: str
    bpemodel: str
    asr_tag: str
    asr_exp: str
    asr_stats_dir: str
    ngram_exp: str
    ngram_file: str
    inference_tag: str
    packed_model: str

    @classmethod
    def of(cls, options: NamingOptions, config: TrainingConfig) -> "AsrNames":
        """Make the names.

        Those of experiment and statistics get a short hash of the settings that they
        depend on and that nothing else in the name tells, where these are not the
        defaults.

        Args:
            options: Options of ``asr.sh``.
            config: The training configuration with its frontend.
        """
        token_dir = _token_dir(options)
        asr_tag = options.asr_tag or _asr_tag(options, config)
        asr_exp = options.asr_exp or f"{options.expdir}/asr_{asr_tag}"
        model = _without_suffix(options.inference_asr_model)
        is_bpe = options.token_type == "bpe"
        return cls(
            data_feats=f"{options.dumpdir}/{options.feats_type}",
            token_dir=token_dir,
            token_list=f"{token_dir}/tokens.txt",
            bpemodel=f"{token_dir}/bpe.model" if is_bpe else "none",
            asr_tag=asr_tag,
            asr_exp=asr_exp,
            asr_stats_dir=options.asr_stats_dir or _stats_dir(options, config),
            ngram_exp=_ngram_exp(options),
            ngram_file=f"{_ngram_exp(options)}/{_inference_ngram(options)}",
            inference_tag=options.inference_tag or _inference_tag(options),
            packed_model=f"{asr_exp}/{asr_exp.rpartition('/')[2]}_{model}.zip",
        )

    def to_shell(self) -> str:
        """The names as assignments, one a line, which a shell may evaluate.

        Example:
            >>> options = NamingOptions(asr_exp="my exp")
            >>> print(AsrNames.of(options, TrainingConfig("x", {})).to_shell())
            ... # doctest: +ELLIPSIS
            data_feats=dump/raw
            ...
            asr_exp='my exp'
            ...
        """
        return "\n".join(f"{k}={shlex.quote(v)}" for k, v in asdict(self).items())


def dataset_of(decoded: str) -> str:
    """The set whose decoding is called so: that of the validation set is ``org/<set>``.

    Example:
        >>> dataset_of("org/dev"), dataset_of("test_clean")
        ('dev', 'test_clean')
    """
    return decoded.removeprefix("org/")


def _token_dir(options: NamingOptions) -> str:
    lang = "" if options.lang == "noinfo" else options.lang
    kind = options.token_type
    if kind == "bpe":
        kind += f"_{options.bpemode}{options.nbpe}"
    return "/".join(["data", "_".join(filter(None, [lang, "token_list"])), kind])


def _data_tag(options: NamingOptions) -> str:
    """What tells the data of experiments: features, language and tokens."""
    lang = [] if options.lang == "noinfo" else [options.lang]
    tag = "_".join([options.feats_type, *lang, options.token_type])
    return tag + (options.nbpe if options.token_type == "bpe" else "")


def _perturbed(options: NamingOptions) -> str:
    return "_sp" if options.speed_perturb_factors else ""


def _asr_tag(options: NamingOptions, config: TrainingConfig) -> str:
    left_out = {**_left_out_of_stats(options), **config.untagged}
    if options.feats_normalize == "global_mvn":
        left_out["feats_normalize"] = options.feats_normalize
    if options.pretrained_model:
        left_out["pretrained_model"] = options.pretrained_model
    tag = f"{config.name}_{_data_tag(options)}{tag_of(options.asr_args)}"
    return tag + hash_tag(left_out) + _perturbed(options)


def _stats_dir(options: NamingOptions, config: TrainingConfig) -> str:
    name = f"asr_stats_{_data_tag(options)}{_perturbed(options)}"
    left_out = _left_out_of_stats(options)
    if options.feats_normalize == "global_mvn":
        # These statistics are of features.
        name += f"_{config.name}"
        left_out.update(config.untagged)
        words = split_words("asr_args", options.asr_args)
        if frontend_arguments(words):
            left_out["asr_args"] = frontend_arguments(words)
    return f"{options.expdir}/{name}{hash_tag(left_out)}"


def _left_out_of_stats(options: NamingOptions) -> dict[str, Any]:
    """What lengths of audio and text depend on, is not default, and names leave out."""
    left_out: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("cleaner", "g2p")
        if getattr(options, name) != getattr(NamingOptions, name)
    }
    if parse_fs(options.fs) != parse_fs(NamingOptions.fs):
        left_out["fs"] = parse_fs(options.fs)
    return left_out


def _ngram_exp(options: NamingOptions) -> str:
    kind = options.ngram_token_type
    tag = "" if kind == "word" else f"_{kind}"
    return options.ngram_exp or f"{options.expdir}/ngram{tag}"


def _inference_ngram(options: NamingOptions) -> str:
    return options.inference_ngram or f"{options.ngram_num}gram.arpa"


def _inference_tag(options: NamingOptions) -> str:
    tag = "inference"
    if options.inference_config:
        tag = Path(options.inference_config).name.removesuffix(".yaml")
    if options.use_ngram == "true":
        name = _without_suffix(_inference_ngram(options)).replace("/", "_")
        ngram = f"_ngram_{Path(_ngram_exp(options)).name}_{name}"
    else:
        ngram = ""
    model = tag_of(_without_suffix(options.inference_asr_model))
    return f"{tag}{tag_of(options.inference_args)}{ngram}_asr_model_{model}"


def tag_of(options: str) -> str:
    """What ESPnet makes of options in a folder's name.

    Example:
        >>> tag_of("--max_epoch 10 --optim_conf lr=0.1")
        '_max_epoch10_optim_conflr0.1'
    """
    return re.sub("[ |=/'\"]", "", options.replace("--", "_"))


def _without_suffix(name: str) -> str:
    return name.rpartition(".")[0] or name
