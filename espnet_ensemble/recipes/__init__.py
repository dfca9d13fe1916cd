"""What asr.sh and the people who run recipes call."""
