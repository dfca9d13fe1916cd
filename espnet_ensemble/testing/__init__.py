"""Small corpora and models in the formats of published ones, to try recipes on."""
