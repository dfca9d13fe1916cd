# Where the recipe's corpora are. Sourced by local/data.sh.
# shellcheck shell=bash disable=SC2034

# Edit both: nobody may give WSJ away, so no recipe can get it. Give the folders that hold the
# discs, 11-1.1, 13-1.1 and so on; both may be the same.

# LDC93S6A or LDC93S6B
WSJ0=
# LDC94S13A or LDC94S13B
WSJ1=
