"""Names as they have been since 0.1: users' folders are called so."""

import re
from dataclasses import asdict, fields

import pytest
from repository import REPOSITORY

from espnet_ensemble.recipes.names import AsrNames, NamingOptions

ASR_SH = (REPOSITORY / "egs2" / "TEMPLATE" / "asr1" / "asr.sh").read_text()
CONFIG = "train_asr_ctc_wavlm"


def names(**options):
    return AsrNames.of(NamingOptions(**options), CONFIG)


def test_all_names_by_default():
    assert asdict(names()) == {
        "data_feats": "dump/raw",
        "token_dir": "data/token_list/char",
        "token_list": "data/token_list/char/tokens.txt",
        "bpemodel": "none",
        "asr_tag": "train_asr_ctc_wavlm_raw_char",
        "asr_exp": "exp/asr_train_asr_ctc_wavlm_raw_char",
        "asr_stats_dir": "exp/asr_stats_raw_char",
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
            {"inference_tag": "mine", "inference_args": "--beam_size 2"},
            {"inference_tag": "mine"},
        ),
    ],
)
def test_options_are_in_the_names(options, expected):
    made = asdict(names(**options))
    assert {name: made[name] for name in expected} == expected


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
