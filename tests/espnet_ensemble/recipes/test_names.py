"""Names as they have been since 0.1: users' folders are called so."""

import re
from dataclasses import asdict, fields

import pytest
from repository import REPOSITORY

from espnet_ensemble.recipes.names import AsrNames, NamingOptions, tag_of
from espnet_ensemble.recipes.training_config import TrainingConfig

ASR_SH = (REPOSITORY / "egs2" / "TEMPLATE" / "asr1" / "asr.sh").read_text()
CONFIG = "train_asr_ctc_wavlm"


def names(**options):
    return AsrNames.of(NamingOptions(**options), TrainingConfig(CONFIG, {}))


def test_all_names_by_default():
    assert asdict(names()) == {
        "data_feats": "dump/raw",
        "token_dir": "data/token_list/char",
        "token_list": "data/token_list/char/tokens.txt",
        "bpemodel": "none",
        "asr_tag": "train_asr_ctc_wavlm_raw_char",
        "asr_exp": "exp/asr_train_asr_ctc_wavlm_raw_char",
        "asr_stats_dir": "exp/asr_stats_raw_char",
        "ngram_exp": "exp/ngram",
        "ngram_file": "exp/ngram/3gram.arpa",
        "inference_tag": "inference_asr_model_valid.cer_ctc.ave",
        "packed_model": "exp/asr_train_asr_ctc_wavlm_raw_char/"
        "asr_train_asr_ctc_wavlm_raw_char_valid.cer_ctc.ave.zip",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dumpdir": "/d"}, {"data_feats": "/d/raw"}),
        (
            {"token_type": "bpe", "nbpe": "50", "lang": "en"},
            {
                "token_dir": "data/en_token_list/bpe_unigram50",
                "bpemodel": "data/en_token_list/bpe_unigram50/bpe.model",
                "asr_tag": f"{CONFIG}_raw_en_bpe50",
                "asr_stats_dir": "exp/asr_stats_raw_en_bpe50",
            },
        ),
        (
            {"token_type": "word", "nbpe": "50", "bpemode": "bpe"},
            {"token_dir": "data/token_list/word", "asr_tag": f"{CONFIG}_raw_word"},
        ),
        (
            {
                "speed_perturb_factors": "0.9 1.1",
                "asr_args": "--a 3 --b_conf c=0.1 d/e|f",
            },
            {
                "asr_tag": f"{CONFIG}_raw_char_a3_b_confc0.1def_sp",
                "asr_stats_dir": "exp/asr_stats_raw_char_sp",
            },
        ),
        (
            {"feats_normalize": "global_mvn", "expdir": "e"},
            {"asr_stats_dir": f"e/asr_stats_raw_char_{CONFIG}"},
        ),
        (
            {"asr_tag": "mine", "asr_args": "--a 3", "expdir": "e"},
            {"asr_tag": "mine", "asr_exp": "e/asr_mine"},
        ),
        (
            {"asr_exp": "x/y", "asr_stats_dir": "s", "feats_normalize": "global_mvn"},
            {
                "asr_exp": "x/y",
                "asr_stats_dir": "s",
                "packed_model": "x/y/y_valid.cer_ctc.ave.zip",
            },
        ),
        (
            {
                "inference_config": "conf/decode.beam.yaml",
                "inference_args": "--beam_size 2",
                "inference_asr_model": "3epoch.pth",
            },
            {"inference_tag": "decode.beam_beam_size2_asr_model_3epoch"},
        ),
        (
            {"use_ngram": "true", "ngram_num": "4", "expdir": "e"},
            {
                "ngram_exp": "e/ngram",
                "ngram_file": "e/ngram/4gram.arpa",
                "inference_tag": "inference_ngram_ngram_4gram"
                "_asr_model_valid.cer_ctc.ave",
            },
        ),
        (
            {"use_ngram": "true", "ngram_token_type": "char"},
            {
                "ngram_file": "exp/ngram_char/3gram.arpa",
                "inference_tag": "inference_ngram_ngram_char_3gram"
                "_asr_model_valid.cer_ctc.ave",
            },
        ),
        (
            {"use_ngram": "true", "ngram_exp": "x/lm", "inference_ngram": "a/b.bin"},
            {
                "ngram_exp": "x/lm",
                "ngram_file": "x/lm/a/b.bin",
                "inference_tag": "inference_ngram_lm_a_b_asr_model_valid.cer_ctc.ave",
            },
        ),
        (
            {"inference_tag": "mine", "inference_args": "--beam_size 2"},
            {"inference_tag": "mine"},
        ),
    ],
)
def test_options_are_in_the_names(options, expected):
    made = asdict(names(**options))
    assert {name: made[name] for name in expected} == expected


def of_frontend(options=None, **conf):
    content = {"frontend": "ensemble", "frontend_conf": {"upstreams": ["a"], **conf}}
    config = TrainingConfig("train", content)
    return AsrNames.of(NamingOptions(**(options or {})), config)


DEFAULT = "exp/asr_train_a_raw_char"
LEFT_OUT = [
    ({}, {"dtype": "bfloat16"}),
    ({}, {"dtype": "float16"}),
    ({}, {"fusion_conf": {"bias": False}}),
    ({}, {"upstreams": [{"name": "a", "extra_conf": {"x": 1}}]}),
    ({}, {"fs": "8k"}),
    ({"fs": "11025"}, {}),
    ({"feats_normalize": "global_mvn"}, {}),
    ({"pretrained_model": "exp/x/valid.ctc.pth"}, {}),
    ({"cleaner": "tacotron"}, {}),
    ({"g2p": "g2p_en"}, {}),
]


def test_what_a_name_leaves_out_is_in_its_hash():
    folders = [of_frontend(options, **conf).asr_exp for options, conf in LEFT_OUT]
    assert len({DEFAULT, *folders}) == len(LEFT_OUT) + 1
    for folder in folders:
        assert re.fullmatch(rf"{DEFAULT}_[0-9a-f]{{6}}", folder)
    perturbed = {"speed_perturb_factors": "0.9", "asr_args": "--seed 3", "fs": "8k"}
    assert re.fullmatch(
        rf"{DEFAULT}_seed3_[0-9a-f]{{6}}_sp", of_frontend(perturbed).asr_exp
    )


@pytest.mark.parametrize(
    ("options", "conf"),
    [
        ({}, {"download_dir": "/models", "fs": 16000, "fusion_conf": None}),
        ({"fs": "16000", "feats_normalize": "utterance_mvn"}, {"dtype": "float32"}),
        ({"feats_normalize": "none"}, {"upstreams": [{"name": "a", "layer": "last"}]}),
    ],
)
def test_defaults_and_what_decides_nothing_are_in_no_hash(options, conf):
    assert of_frontend(options, **conf).asr_exp == DEFAULT


def test_a_tag_of_ones_own_gets_no_hash():
    assert of_frontend({"asr_tag": "mine", "fs": "8k"}).asr_exp == "exp/asr_mine"


def test_statistics_of_lengths_know_what_lengths_depend_on():
    """Not what features do: lengths are the same for all upstreams."""
    assert of_frontend(dtype="float16").asr_stats_dir == "exp/asr_stats_raw_char"
    others = [{"fs": "8k"}, {"cleaner": "tacotron"}, {"g2p": "g2p_en"}]
    folders = {of_frontend(options).asr_stats_dir for options in others}
    assert len(folders) == 3
    assert all(re.fullmatch(r"exp/asr_stats_raw_char_[0-9a-f]{6}", f) for f in folders)


def test_statistics_of_features_know_what_features_depend_on():
    def folder(asr_args="", **conf):
        options = {"feats_normalize": "global_mvn", "asr_args": asr_args}
        return of_frontend(options, **conf).asr_stats_dir

    assert folder() == folder("--max_epoch 3") == "exp/asr_stats_raw_char_train_a"
    others = {folder(dtype="float16"), folder("--frontend_conf dtype=float16")}
    assert len({folder(), *others}) == 3


def test_quotes_of_options_are_in_no_name():
    assert tag_of("--optim_conf '{lr: 0.1}'") == "_optim_conf{lr:0.1}"


def test_defaults_are_those_of_asr_sh():
    block = re.search(r"# begin options\n(.*)# end options", ASR_SH, re.DOTALL).group(1)
    defaults = dict(re.findall(r"^(\w+)=(\S*)", block, re.MULTILINE))
    options = asdict(NamingOptions())
    assert options == {name: defaults[name] for name in options}


def test_asr_sh_hands_on_every_option_and_declares_every_name():
    for field in fields(NamingOptions):
        assert f'--{field.name}="${{{field.name}}}"' in ASR_SH
    for field in fields(AsrNames):
        assert re.search(rf"^{field.name}=|^declare .*\b{field.name}\b", ASR_SH, re.M)
