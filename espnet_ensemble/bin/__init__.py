"""Command-line entry points, each with ``get_parser()`` and ``main(cmd=None)``."""
