"""Random transcripts, to compare ways of scoring."""

import random


def random_texts(seed, vocabulary, longest, size=60):
    """Utterances with all kinds of errors, and hypotheses that are empty or unrelated."""
    rng = random.Random(seed)
    ref, hyp, speakers = {}, {}, {}
    for number in range(size):
        speaker = rng.choice(["alice", "Bob_X", "103-1240", "日本"])
        utt = f"{speaker}-{number}"
        words = [rng.choice(vocabulary) for _ in range(rng.randint(0, longest))]
        ref[utt], hyp[utt], speakers[utt] = words, [], speaker
        if rng.random() < 0.1:
            continue
        for word in words:
            edit = rng.random()
            if edit < 0.15:
                continue
            if edit < 0.3:
                word = rng.choice(vocabulary)
            elif edit < 0.45:
                hyp[utt].append(rng.choice(vocabulary))
            elif edit < 0.5:
                word = word.upper()
            hyp[utt].append(word)
    return ref, hyp, speakers


TEXTS = [
    ("ab", 8),
    ("abcdefghijklmnopqrstuvwxyz", 50),
    (
        [
            "été",
            "É",
            "é",
            "naïve",
            "日本",
            "語",
            "ß",
            "hello",
            "HELLO",
            "ü",
            "Ü",
            "a",
            "A",
        ],
        15,
    ),
    (["a", "b", "<space>", "'", "-", "%"], 40),
]
