"""Speech that is made on the spot, by eSpeak NG, from a small language."""
