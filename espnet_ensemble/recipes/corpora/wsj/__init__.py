"""The Wall Street Journal corpus, from LDC's discs."""
