import json

import pytest

from espnet_ensemble.recipes.train_log import Epoch, epoch_lines, read_epochs

LINE = (
    "[vm] 2026-01-01 00:00:00,000 (trainer:394) INFO: {epoch}epoch results: [train] "
    "iter_time=0.1, loss_ctc=1.5, loss={train}, time=1 second, [valid] loss_ctc=2.5, "
    "cer_ctc={cer}, loss_att=nan, acc=nan, cer=nan, wer=nan, loss={valid}, time=1 second\n"
)
# As written by ESPnet 202511.
LOG = """\
# python3 -m espnet2.bin.asr_train --output_dir exp/asr_x
[vm] 2026-03-04 05:06:07,891 (trainer:305) INFO: 1/2epoch started
[vm] 2026-03-04 05:06:09,123 (trainer:780) INFO: 1epoch:train:1-10batch: \
iter_time=0.002, forward_time=0.031, loss_ctc=1.204e+03, loss=1.204e+03, \
backward_time=0.05, grad_norm=2.9e+02, clip=100.000, optim0_lr0=1.000e-04, train_time=0.2
[vm] 2026-03-04 05:06:10,456 (trainer:359) INFO: 1epoch results: [train] \
iter_time=0.002, forward_time=0.031, loss_ctc=1.204e+03, loss=1.204e+03, \
backward_time=0.05, grad_norm=2.9e+02, clip=100.000, loss_scale=1.000, \
optim_step_time=0.004, optim0_lr0=1.000e-04, train_time=0.211, time=2.35 seconds, \
total_count=10, gpu_max_cached_mem_GB=0.000, [valid] loss_ctc=321.500, cer_ctc=0.987, \
loss=321.500, time=0.4 seconds, total_count=2, gpu_max_cached_mem_GB=0.000
[vm] 2026-03-04 05:06:12,456 (trainer:359) INFO: 2epoch results: [train] \
loss_ctc=9.5e-04, loss=nan, train_time=0.211, time=2.35 seconds, total_count=20, \
[valid] loss_ctc=0.025, cer_ctc=5.000e-04, cer=0.1, wer=0.2, loss=0.025, \
time=1 minute and 0.4 seconds, total_count=4, [att_plot] time=1 second, total_count=0
# Ended (code 0) at 2026-03-04 05:06:13, elapsed time 7 seconds
"""


def test_a_line_for_each_epoch_with_the_log_s_digits():
    assert list(epoch_lines(LOG.splitlines())) == [
        "  epoch 1: train loss 1.204e+03, valid loss 321.500, valid CER 98.7 %",
        "  epoch 2: train loss nan, valid loss 0.025, valid CER 0.1 %",
    ]


def test_a_line_comes_at_once():
    def log():
        yield from LOG.splitlines()[:4]
        raise AssertionError("read on")

    assert next(epoch_lines(log())).startswith("  epoch 1: ")


# As written by ESPnet 202511.
START = """\
[vm] 2026-11-24 17:35:16,782 (abs_task:1460) INFO: Scheduler: WarmupLR(warmup_steps={warm_up})
[vm] 2026-11-24 17:35:16,801 (abs_task:1886) INFO: [train] mini-batch sizes summary: \
N-batch=12, mean=11.0, min=7, max=15
[vm] 2026-11-24 17:35:16,816 (abs_task:1886) INFO: [valid] mini-batch sizes summary: \
N-batch=3, mean=5.0, min=5, max=5
[vm] 2026-11-24 17:35:16,830 (trainer:336) INFO: 1/10epoch started
[vm] 2026-11-24 17:35:41,103 (trainer:324) INFO: 2/10epoch started. Estimated time: 24 s
"""


def warnings(tmp_path, warm_up, **config):
    (tmp_path / "config.yaml").write_text(json.dumps({"accum_grad": 1, **config}))
    log = START.format(warm_up=warm_up).splitlines()
    return list(epoch_lines(log, tmp_path / "config.yaml"))


def test_a_warm_up_that_outlasts_training(tmp_path):
    (warning,) = warnings(tmp_path, 5000)
    assert warning.startswith("  warning: the learning rate rises for 5000 steps")
    assert "training ends after 120 (10 epochs of 12 batches), at 2 % of it" in warning
    assert '--asr_args "--scheduler_conf warmup_steps=12"' in warning


@pytest.mark.parametrize(
    ("warm_up", "config", "warns"),
    [
        (120, {}, False),
        (121, {}, True),
        (61, {"accum_grad": 2}, True),
        (60, {"accum_grad": 2}, False),
        (5000, {"num_iters_per_epoch": 500}, False),
    ],
)
def test_steps_are_counted_as_espnet_does(warm_up, config, warns, tmp_path):
    assert bool(warnings(tmp_path, warm_up, **config)) == warns


def test_no_warm_up_to_look_at(tmp_path):
    log = START.format(warm_up=5000).splitlines()
    assert list(epoch_lines(log)) == []
    assert list(epoch_lines(log[1:], tmp_path / "config.yaml")) == []


def test_learning_curve_goes_over_all_parts_of_a_training(tmp_path):
    first = LINE.format(epoch=1, train=9, cer=0.5, valid=8)
    (tmp_path / "train.1.log").write_text(first)
    second = LINE.format(epoch=2, train=7, cer="nan", valid=6)
    (tmp_path / "train.log").write_text("other\n" + second)
    one, two = read_epochs(tmp_path)
    assert one == Epoch(number=1, train_loss=9, valid_loss=8, valid_cer=0.5)
    assert (two.number, two.train_loss, two.valid_loss) == (2, 7, 6)


def test_an_epoch_trained_again_replaces_the_first(tmp_path):
    for name, loss in {"train.10": 1, "train.2": 2, "train.1": 3, "train": 4}.items():
        text = LINE.format(epoch=1, train=loss, cer=0.5, valid=8)
        (tmp_path / f"{name}.log").write_text(text)
        assert [epoch.train_loss for epoch in read_epochs(tmp_path)] == [loss]


def test_no_log(tmp_path):
    assert read_epochs(tmp_path) == []
