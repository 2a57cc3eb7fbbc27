"""What is set elsewhere than on the command line: variables of the environment, and a small file.

Every option has a variable, ``OLLAMA_FERRY_`` and its name; the file, in TOML, has the same options for all commands or
for one, and names for places. The command line counts before the environment, and that before the file.

::

    compress = "fast"              # for every command that has such an option

    [export]
    split = "fat32"                # for export alone

    [places]
    lab = "ollama@lab:/srv/models" # then: ollama-ferry send qwen3:8b lab
    rack = ["gpu1:", "gpu2:"]
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ollama_ferry.errors import NotPermitted, UsageError

PREFIX = "OLLAMA_FERRY_"
# These are read from the environment where they are used, for callers in Python too; the first is Ollama's own, then.
_OF_THE_ENVIRONMENT = {"models": "OLLAMA_MODELS", "signers": "OLLAMA_FERRY_SIGNERS"}
# What a word on the command line may stand for.
_WORDS = {"words", "place", "source", "archives"}


@dataclass(frozen=True)
class Configuration:
    """What a file sets.

    Attributes:
        path: the file, which need not be there.
        options: for every command, by the options' names without dashes.
        commands: for single commands.
        places: names for places, and what each stands for.
    """

    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_configuration(commands: Iterable[str], environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read the file, which is ``OLLAMA_FERRY_CONFIG`` or where the system has such files.

    Args:
        commands: the names of the commands.
        environ: the variables.

    Raises:
        UsageError: it is no TOML, or has a table that means nothing.
    """
    path = Path(environ.get(PREFIX + "CONFIG") or os.path.join(click.get_app_dir("ollama-ferry"), "config.toml"))
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return Configuration(path)
    except PermissionError as error:
        if not environ.get(PREFIX + "CONFIG"):
            # The home is another user's, as after `sudo -u`: that file was not meant.
            return Configuration(path)
        raise NotPermitted(f"can't read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}") from error
    document = _parsed(text, path)
    places = document.pop("places", {})
    tables = {name: document.pop(name) for name in list(document) if isinstance(document[name], dict)}
    for name in tables:
        if name not in commands:
            raise UsageError(
                f"{path}: there is no command {name!r}",
                hint="Its tables are [places], and one for a command: [export].",
            )
    if not isinstance(places, dict):
        raise UsageError(f"{path}: places is a table", hint='[places]\nlab = "user@lab:/srv/models"')
    return Configuration(path, document, tables, {name: _place(name, value, path) for name, value in places.items()})


def prepare(command: click.Command, name: str, configuration: Configuration) -> dict[str, Any]:
    """Give a command's options their variables and its words the names of places; return what the file sets for it.

    Raises:
        UsageError: the file sets what is no option of this command.
    """
    own = configuration.commands.get(name, {})
    found: dict[str, Any] = {}
    options: set[str] = set()
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            if parameter.name in _WORDS:
                parameter.callback = _expanding(configuration.places) if configuration.places else None
            continue
        option = option_of(parameter)
        options.add(option)
        if option in _OF_THE_ENVIRONMENT:
            continue
        parameter.envvar = parameter.envvar or variable_of(option)
        value = own.get(option, configuration.options.get(option))
        if value is not None and parameter.name:
            found[parameter.name] = [value] if parameter.multiple and isinstance(value, str) else value
    for option in own:
        if option not in options or option in _OF_THE_ENVIRONMENT:
            raise UsageError(f"{configuration.path}: {name} takes no option {option!r} there")
    return found


def option_of(parameter: click.Parameter) -> str:
    """Return what an option is called without its dashes: ``dry-run``."""
    return next((option for option in parameter.opts if option.startswith("--")), parameter.opts[0]).lstrip("-")


def variable_of(option: str) -> str:
    """Return the variable of an option: ``OLLAMA_FERRY_DRY_RUN``."""
    return PREFIX + option.upper().replace("-", "_")


@contextmanager
def environment_set(configuration: Configuration) -> Iterator[None]:
    """Have the variables say what ours and the file do, as long as a command runs."""
    before = {}
    for option, variable in _OF_THE_ENVIRONMENT.items():
        value = os.environ.get(variable_of(option)) or (
            None if os.environ.get(variable) else configuration.options.get(option)
        )
        if value and str(value) != os.environ.get(variable):
            before[variable] = os.environ.get(variable)
            os.environ[variable] = str(value)
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


def set_elsewhere(
    command: click.Command, values: Mapping[str, Any], environ: Mapping[str, str], given: Collection[str] = ()
) -> list[str]:
    """Return what variables and the file set, as words of the command line: for whoever has neither, such as root.

    Args:
        command: the command.
        values: what :func:`prepare` returned.
        environ: the variables.
        given: the options that the command line has itself.
    """
    words: list[str] = []
    for parameter in command.params:
        if not isinstance(parameter, click.Option) or option_of(parameter) == "token":
            continue
        if not set(given).isdisjoint([*parameter.opts, *parameter.secondary_opts]):
            continue
        value = environ.get(variable_of(option_of(parameter))) or values.get(parameter.name or "")
        if option_of(parameter) in _OF_THE_ENVIRONMENT or value in (None, "", False):
            continue
        option = f"--{option_of(parameter)}"
        if parameter.is_flag:
            words += [option] if str(value).lower() in ("1", "true", "t", "yes", "y", "on") else []
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [option, str(one)]
    return words


def of_the_environment(option: str, configuration: Configuration, environ: Mapping[str, str]) -> str:
    """Return what stands for an option that has a variable of its own (``models``, ``signers``); empty for nothing."""
    value = environ.get(variable_of(option)) or environ.get(_OF_THE_ENVIRONMENT[option])
    return str(value or configuration.options.get(option) or "")


def expanded(word: str) -> tuple[str, ...]:
    """Return what a word that was asked for stands for: a place that the file names, else itself."""
    context = click.get_current_context(silent=True)
    configuration = context.find_root().obj if context is not None else None
    return configuration.places.get(word, (word,)) if isinstance(configuration, Configuration) else (word,)


def _expanding(places: Mapping[str, tuple[str, ...]]) -> Any:
    def expand(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if isinstance(value, tuple):
            kind = type(value[0]) if value else str
            return tuple(kind(one) for word in value for one in places.get(str(word), (str(word),)))
        found = places.get(str(value)) if value is not None else None
        if found is None:
            return value
        if len(found) > 1:
            raise UsageError(f"{value} stands for {len(found)} places, and one is asked for here")
        return type(value)(found[0])

    return expand


def _parsed(text: str, path: Path) -> dict[str, Any]:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            # The program in one file has none with it.
            raise UsageError(f"{path} can't be read: before Python 3.11 that takes the package tomli") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # So begins an escape, which a path of Windows is not meant to have.
        hint = r"In single quotes a path stands as it is: models = 'D:\models'" if "\\" in text else ""
        raise UsageError(f"{path} is no TOML: {error}", hint=hint) from error


def _place(name: str, value: object, path: Path) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise UsageError(f'{path}: the place {name!r} is a text, or several: ["gpu1:", "gpu2:"]')
    return tuple(words)
