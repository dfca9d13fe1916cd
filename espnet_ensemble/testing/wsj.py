"""Small discs in the layout of LDC's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ensemble.testing.shorten import encode

FS = 16000
_DOTS0, _DOTS1 = "11-10.1/wsj0/transcrp/dots/si_tr_s", "13-34.1/wsj1/trans/wsj1"


@dataclass(frozen=True)
class Session:
    """A speaker's session: the folders of its recordings and of its transcriptions."""

    audio_dir: str
    dot_dir: str


SESSIONS = {
    "011c02": Session("11-1.1/wsj0/si_tr_s/011", f"{_DOTS0}/011"),
    "01ic02": Session("11-2.1/wsj0/si_tr_s/01i", f"{_DOTS0}/01i"),
    "46hc02": Session("13-1.1/wsj1/si_tr_s/46h", f"{_DOTS1}/si_tr_s/46h"),
    "4k0c03": Session("13-16.1/WSJ1/SI_DT_20/4K0", f"{_DOTS1}/si_dt_20/4k0"),
    "440c04": Session("11-14.1/wsj0/si_et_20/440", "11-14.1/wsj0/si_et_20/440"),
    "4oac02": Session("13-33.1/wsj1/si_et_20/4oa", "13-33.1/wsj1/si_et_20/4oa"),
}
#: The transcriptions of each session.
SENTENCES = {
    "011c02": [
        "A profit ,comma",
        "of four \\.point two \\%percent \\.period [loud_breath]",
    ],
    "01ic02": [
        "the I\\. B\\. M\\. shares .",
        "<she> *sold* them [<door_slam] --dash ~",
    ],
    "46hc02": ["four hundred", "two [phone_ring/] hundred [/phone_ring]", "one"],
    "4k0c03": ["the market fell", "and rose"],
    "440c04": ["not a share", "of it"],
    "4oac02": ["seven shares", "nine"],
}
# The sessions that each list of recordings has.
_INDICES = {
    "11-13.1/wsj0/doc/indices/train/tr_s_wv1.ndx": ("011c02", "01ic02"),
    "11-13.1/wsj0/doc/indices/test/nvp/si_et_20.ndx": ("440c04",),
    "13-34.1/wsj1/doc/indices/si_tr_s.ndx": ("46hc02",),
    "13-34.1/wsj1/doc/indices/h1_p0.ndx": ("4k0c03",),
    "13-32.1/wsj1/doc/indices/wsj1/eval/h1_p0.ndx": ("4oac02",),
}


def tones(text: str) -> np.ndarray:
    """Something to hear in place of a sentence: (samples,), int16, 16 kHz."""
    rng = np.random.default_rng(list(text.encode()))
    pitch = np.repeat(rng.uniform(0.05, 0.5, len(text)), 800)
    noise = rng.normal(scale=0.01, size=len(pitch))
    samples = 12000 * (np.sin(np.cumsum(pitch)) + noise) + 5
    return samples.astype(np.int16)


def make_discs(
    folder: Path,
    sentences: dict[str, list[str]] = SENTENCES,
    speak: Callable[[str], np.ndarray] = tones,
) -> dict[str, np.ndarray]:
    """Make the discs of WSJ0 and WSJ1.

    The Sennheiser recordings are compressed with shorten on all discs but one, 13-1.1.
    Disc 13-16.1 has its names in upper case, and the list of the Nov'93 test the wrong
    disc, as LDC's have.

    Args:
        folder: ``folder/WSJ0/11-1.1/wsj0/...`` and so on are made.
        sentences: The transcriptions of each session of ``SESSIONS``.
        speak: Gives a transcription's samples, (samples,), int16, 16 kHz.

    Returns:
        The samples of each recording, by ``utt_id``.
    """
    recordings = {}
    for name, session in SESSIONS.items():
        texts = {
            f"{name}{number:02d}": text
            for number, text in enumerate(sentences[name], start=1)
        }
        for utt_id, text in texts.items():
            recordings[utt_id] = speak(text)
            compress = not session.audio_dir.startswith("13-1.1")
            data = sphere(utt_id, recordings[utt_id], compress)
            write(_wv1(folder, session, utt_id), data)
        lines = "".join(f"{text} ({utt_id})\n" for utt_id, text in texts.items())
        dot = disc_path(folder, session.dot_dir) / f"{name}00.dot"
        write(dot, lines.encode())
    for index, names in _INDICES.items():
        listed = "".join(_entries(index, name, sentences) for name in names)
        write(disc_path(folder, index), f";; File: {index}\n;;\n{listed}".encode())
    return recordings


def disc_path(folder: Path, path: str) -> Path:
    """The place of what is on a disc."""
    return folder / ("WSJ0" if path.startswith("11") else "WSJ1") / path


def sphere(utt_id: str, samples: np.ndarray, compress: bool) -> bytes:
    """A SPHERE file."""
    coding = "pcm,embedded-shorten-v2.00" if compress else "pcm"
    lines = [
        "NIST_1A",
        "   1024",
        f"utterance_id -s8 {utt_id}",
        "channel_count -i 1",
        f"sample_count -i {len(samples)}",
        f"sample_rate -i {FS}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        f"sample_coding -s{len(coding)} {coding}",
        f"sample_checksum -i {int(samples.sum(dtype=np.int64)) % 65536}",
        "end_head\n",
    ]
    header = "\n".join(lines).encode().ljust(1024)
    return header + (encode(samples) if compress else samples.astype("<i2").tobytes())


def write(path: Path, data: bytes) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _wv1(folder: Path, session: Session, utt_id: str) -> Path:
    name = f"{utt_id}.wv1"
    if session.audio_dir.isupper():
        name = name.upper()
    return disc_path(folder, session.audio_dir) / name


def _entries(index: str, session: str, sentences: dict[str, list[str]]) -> str:
    disc, _, folder = SESSIONS[session].audio_dir.lower().partition("/")
    if index.endswith("eval/h1_p0.ndx"):
        disc = "13-32.1"
    disc = disc.replace("-", "_").replace(".", "_")
    suffix = "" if index.endswith("si_et_20.ndx") else ".wv1"
    names = [f"{session}{n:02d}" for n in range(1, len(sentences[session]) + 1)]
    if session == "01ic02":
        # A speaker that is on the list and has no transcriptions.
        names.append("../401/401c0201")
    lines = [f"{disc}: {folder}/{name}{suffix}\n" for name in names]
    return "".join(lines).replace("01i/../", "")
