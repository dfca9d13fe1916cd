# Where the corpus is. Sourced by local/data.sh.
# shellcheck shell=bash disable=SC2034

# The folder of the audio files, at any depth: .wav, .flac, .mp3, .ogg, .opus, .aiff, .sph
AUDIO_DIR=@AUDIO_DIR@
# The table of what is said in them: .tsv (tabs) or .csv (commas), whose first line names its
# columns: file, text and, where they are known, spk (who speaks) and set (train, dev or test).
# Empty: beside each audio file is a .txt of the same name.
TRANSCRIPTS=@TRANSCRIPTS@
