"""Names of ``asr.sh``'s folders and files: everybody asks here, ``asr.sh`` too."""

import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path


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
        asr_args: Options that override the training configuration.
        asr_tag: Name of the experiment; "": made from configuration and options.
        asr_exp: Folder of the experiment; "": ``<expdir>/asr_<asr_tag>``.
        asr_stats_dir: Folder of the statistics; "": made from the options.
        feats_normalize: "global_mvn": statistics are of features, not of lengths alone.
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
    asr_args: str = ""
    asr_tag: str = ""
    asr_exp: str = ""
    asr_stats_dir: str = ""
    feats_normalize: str = "utt_mvn"
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
        inference_tag: Name of the decoding, a folder of the experiment.
        packed_model: Archive for the model zoo.

    Example:
        >>> names = AsrNames.of(NamingOptions(lang="en"), "train_asr_ctc_wavlm")
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
    inference_tag: str
    packed_model: str

    @classmethod
    def of(cls, options: NamingOptions, train_config: str) -> "AsrNames":
        """Make the names.

        Args:
            options: Options of ``asr.sh``.
            train_config: Name of the training configuration with its frontend,
                :attr:`espnet_ensemble.recipes.training_config.TrainingConfig.name`.
        """
        token_dir = _token_dir(options)
        asr_tag = options.asr_tag or _asr_tag(options, train_config)
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
            asr_stats_dir=options.asr_stats_dir or _stats_dir(options, train_config),
            inference_tag=options.inference_tag or _inference_tag(options),
            packed_model=f"{asr_exp}/{asr_exp.rpartition('/')[2]}_{model}.zip",
        )

    def to_shell(self) -> str:
        """The names as assignments, one a line, which a shell may evaluate.

        Example:
            >>> print(AsrNames.of(NamingOptions(asr_exp="my exp"), "x").to_shell())
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


def _asr_tag(options: NamingOptions, train_config: str) -> str:
    tag = f"{train_config}_{_data_tag(options)}{tag_of(options.asr_args)}"
    return tag + _perturbed(options)


def _stats_dir(options: NamingOptions, train_config: str) -> str:
    name = f"asr_stats_{_data_tag(options)}{_perturbed(options)}"
    if options.feats_normalize == "global_mvn":
        # These statistics are of features.
        name += f"_{train_config}"
    return f"{options.expdir}/{name}"


def _inference_tag(options: NamingOptions) -> str:
    tag = "inference"
    if options.inference_config:
        tag = Path(options.inference_config).name.removesuffix(".yaml")
    model = tag_of(_without_suffix(options.inference_asr_model))
    return f"{tag}{tag_of(options.inference_args)}_asr_model_{model}"


def tag_of(options: str) -> str:
    """What ESPnet makes of options in a folder's name.

    Example:
        >>> tag_of("--max_epoch 10 --optim_conf lr=0.1")
        '_max_epoch10_optim_conflr0.1'
    """
    return re.sub("[ |=/]", "", options.replace("--", "_"))


def _without_suffix(name: str) -> str:
    return name.rpartition(".")[0] or name
