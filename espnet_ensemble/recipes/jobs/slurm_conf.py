"""How jobs of a SLURM cluster are asked for: a recipe's ``conf/slurm.conf``.

Which options of ``sbatch`` an option such as ``--gpu`` becomes is in a file, since clusters
differ:

.. code-block:: none

    command sbatch --export=ALL           # the command
    option mem=* --mem-per-cpu $0         # if there is a value; $0 stands for it
    option gpu=0 -p cpu                   # if it has this value
    default gpu=0                         # if it is not given
"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ensemble.errors import EnsembleError


@dataclass(frozen=True)
class SlurmConf:
    """How jobs are submitted.

    Attributes:
        path: The file that says so.
        command: ``sbatch`` and what it is always given.
        options: Name of an option -> value, or ``*`` for any -> arguments of sbatch.
        defaults: Name of an option -> value where it is not given.

    Example:
        >>> path = getfixture("tmp_path") / "slurm.conf"
        >>> _ = path.write_text("command sbatch\\noption gpu=* -p gpu --gres=gpu:$0")
        >>> SlurmConf.read(path).arguments({"gpu": "2"})
        ['-p', 'gpu', '--gres=gpu:2']
    """

    path: Path
    command: list[str]
    options: dict[str, dict[str, list[str]]]
    defaults: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "SlurmConf":
        """Read a file of such lines as above.

        Raises:
            EnsembleError: If it is missing, has no command, or a line of another
                kind.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise EnsembleError(
                f"{path}: expected a file in UTF-8, found: {error}"
            ) from error
        command: list[str] = []
        options: dict[str, dict[str, list[str]]] = {}
        defaults: dict[str, str] = {}
        for number, text in enumerate(lines, start=1):
            line = _Line.parse(text, f"{path}:{number}")
            if line.kind == "command":
                command = line.arguments
            elif line.kind == "option":
                options.setdefault(line.name, {})[line.value] = line.arguments
            elif line.kind == "default":
                defaults[line.name] = line.value
        if not command:
            raise EnsembleError(
                f"{path}: expected a line 'command sbatch ...', found none"
            )
        return cls(Path(path), command, options, defaults)

    def arguments(self, options: dict[str, str]) -> list[str]:
        """Translate options into those of ``sbatch``, in the order of the file.

        Raises:
            EnsembleError: If the file does not say what an option, or its value, becomes.
        """
        options = {**self.defaults, **options}
        arguments = {}
        for name, value in options.items():
            values = self.options.get(name, {})
            chosen = values.get(value, values.get("*"))
            if chosen is None:
                raise EnsembleError(
                    f"{self.path}: expected a line 'option {name}=*' or "
                    f"'option {name}={value}', as --{name} {value} is asked for"
                )
            arguments[name] = [word.replace("$0", value) for word in chosen]
        return [word for name in self.options for word in arguments.get(name, [])]


@dataclass(frozen=True)
class _Line:
    """A line of the file.

    Attributes:
        kind: Its first word: command, option or default; "" where there is none.
        name: Of the option.
        value: Of the option; ``*`` for any.
        arguments: Those of sbatch.
    """

    kind: str = ""
    name: str = ""
    value: str = ""
    arguments: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str, where: str) -> "_Line":
        """Read a line, without its comment.

        Args:
            text: The line.
            where: Its file and number, for the message.

        Raises:
            EnsembleError: If it is of no such kind.
        """
        try:
            return cls._parse(text.partition("#")[0].split(maxsplit=1))
        except ValueError as error:
            raise EnsembleError(
                f"{where}: expected 'command sbatch ...', 'option name=value ...', "
                f"'option name=* ... $0' or 'default name=value', found {text!r}"
            ) from error

    @classmethod
    def _parse(cls, words: list[str]) -> "_Line":
        if not words:
            return cls()
        kind, rest = words
        if kind == "command":
            return cls(kind, arguments=shlex.split(rest))
        setting, *arguments = shlex.split(rest)
        name, _, value = setting.partition("=")
        if not (name and value):
            raise ValueError(setting)
        if kind == "option" or (kind == "default" and not arguments):
            return cls(kind, name, value, arguments)
        raise ValueError(kind)
