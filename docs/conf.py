"""Sphinx: these pages, and the reference made from the package's docstrings."""

from importlib.util import find_spec

from espnet_ensemble import __version__

project = "ESPnet-Ensemble"
author = "the authors of ESPnet-Ensemble"
version = release = __version__
html_title = f"ESPnet-Ensemble {__version__}"

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3

# One page for each module, written anew for each build.
apidoc_modules = [
    {
        "path": "../espnet_ensemble",
        "destination": "api/",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
        "exclude_patterns": ["**/autoload/*"],
    }
]
# Each thing is described where it is defined, also if another module exports it.
autodoc_default_options = {
    "member-order": "bysource",
    "ignore-module-all": True,
}
autodoc_typehints = "description"
# ESPnet3 comes with ESPnet 202611.
autodoc_mock_imports = [] if find_spec("espnet3") else ["espnet3"]
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False


# A reference that leads nowhere is an error (-n -W), but for those into other packages:
# the build does not ask the network for their pages.
_FOREIGN = (
    "_thread|abc|argparse|collections|concurrent|contextlib|dataclasses|fractions|matplotlib"
    "|numpy|omegaconf|pathlib|espnet2|espnet3|soundfile|starlette|torch|transformers|types|typing"
)
nitpick_ignore_regex = [
    (r"py:.*", rf"({_FOREIGN})\b.*"),
    # Type variables have no page of their own.
    (r"py:.*", r"espnet_ensemble\..*\.(Item|Result|Self|T|U|Value)"),
]


def _skip_tuple_fields(app, what, name, obj, skip, options):
    """Leave a NamedTuple's fields to the docstring of their class."""
    described = str(getattr(obj, "__doc__", "")).startswith("Alias for field number")
    return True if described else None


def _keep_colons(app, what, name, obj, options, lines):
    """Keep napoleon from taking what comes before a colon for an attribute's type."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = f": {lines[0]}"


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _skip_tuple_fields)
    # Napoleon comes with priority 500.
    app.connect("autodoc-process-docstring", _keep_colons, priority=400)
