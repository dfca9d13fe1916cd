"""The tables of the paper as experiments: what to run, what has run, how it compares.

Each file of ``conf/tables`` describes the systems of one table. Configurations, commands
and names of folders are derived from it.
"""
