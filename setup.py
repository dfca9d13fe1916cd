from setuptools import setup

setup(license="Apache-2.0")  # Everything else, and why not this, is in pyproject.toml.
