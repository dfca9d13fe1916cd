"""What has been found out already: a killed analysis goes on where it stopped."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike, write_text

#: Of a step's result: plain values.
Values = dict[str, Any]


class Steps:
    """Results of steps, each in a JSON file that says what it is of.

    Args:
        folder: Where they are.
        common: What all steps depend on: plain values.
    """

    def __init__(self, folder: PathLike, common: Values):
        self._folder = Path(folder)
        self._common = common

    def find(self, kind: str, of: Values, compute: Callable[[], Values]) -> Values:
        """The result of a step: what is there, or else what is computed now.

        Args:
            kind: What is done.
            of: What with, plain values.
            compute: Does it.

        Raises:
            EnsembleError: If what is there is damaged.
        """
        about = json.loads(json.dumps({**self._common, **of}))
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        path = self._folder / f"{kind}-{digest[:12]}.json"
        if path.exists():
            return self._read(path)
        result = compute()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"of": about, "result": result}))
        return result

    def _read(self, path: Path) -> Values:
        try:
            return json.loads(path.read_text(encoding="utf-8"))["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise EnsembleError(
                f"{path}: expected a result, found {error}; remove it, and it is made anew"
            ) from error
