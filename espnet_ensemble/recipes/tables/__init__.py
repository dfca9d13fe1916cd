"""The tables of the paper as experiments: what to run, what has run, how it compares.

``conf/tables/table<N>.yaml`` describe the systems. Configurations, commands and names of
folders are derived from them.
"""
