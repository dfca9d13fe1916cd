#!/usr/bin/env bash
# Stage 1: make the data directories data/train, data/dev and data/test of the audio files and
# transcripts that db.sh names. Options are those of espnet_ensemble.bin.prepare_audio_folder,
# such as --text_column sentence or --dev_share 0.2.
#
# Does your corpus look otherwise? Then write these files of each data directory in another
# way, in place of the command below. Each line is an utterance's id, a space, and
#
#     wav.scp    its audio file             anna-001 /data/my_corpus/audio/anna/001.wav
#     text       what is said               anna-001 good morning
#     utt2spk    who speaks                 anna-001 anna
#
# An id begins with its speaker's; where speakers are unknown, utt2spk has the id twice. Where
# utterances are parts of longer recordings, wav.scp has recordings, and a fourth file,
# segments, says which part each is: anna-001 recording 12.5 15.75 (seconds). The last lines
# sort the files, make spk2utt, and check that all agree.

set -euo pipefail

# shellcheck source=../path.sh
. ./path.sh
# shellcheck source=../db.sh
. ./db.sh
python=${python:-python3}
[ -n "${AUDIO_DIR}" ] || {
    echo "Error: expected a folder of audio files, found none: write it into AUDIO_DIR of db.sh" >&2
    exit 1
}

"${python}" -m espnet_ensemble.bin.prepare_audio_folder --output_dir data \
    --audio_dir "${AUDIO_DIR}" --transcripts "${TRANSCRIPTS}" "$@"

for dset in train dev test; do
    "${python}" -m espnet_ensemble.bin.data_dir fix "data/${dset}"
    "${python}" -m espnet_ensemble.bin.data_dir validate "data/${dset}"
done
