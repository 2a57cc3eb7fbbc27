"""The errors that ollama-ferry raises, and the one table of exit codes.

::

    FerryError                 1   something failed that no other line covers
    ├── Refused                1   a server refused what it was asked for
    ├── Exhausted              1   the system gives no more memory or threads
    ├── BrokenStream           1   whoever read the archive that was being written has gone
    ├── UsageError             2   the command line or the call asks for what can't be done
    │   └── InvalidName        2   a text that is not a model name
    ├── NotFound               3
    │   ├── ModelNotFound      3   the place holds no such model
    │   ├── StoreNotFound      3   no store where one was looked for
    │   ├── CloudStub          3   the model runs elsewhere: there are no weights to copy
    │   └── NotAModel          3   what is there is no model that Ollama could run
    ├── Damaged                4   a manifest, a blob or an archive is not what its digest says
    │   ├── ReadDifferently    4   an archive that not every tar reads in the same way
    │   ├── MissingBlob        4   a manifest names a blob that is not there
    │   │   ├── LeftOut        4   an archive leaves it out, and counts on its target to have it
    │   │   └── Vanished       4   a blob that was there has gone while it was counted on
    │   ├── Unfinished         4   the blob is there as an unfinished download
    │   └── NotAsLocked        4   the models are not those of a lock, or nobody who is trusted has signed them
    ├── NotPermitted           5   the operating system refused, or a registry wants another login
    ├── NoSpace                6   a disk is full, or would be
    ├── AlreadyExists          7   something is there already and was not to be replaced
    ├── Unreachable            8   the other machine can't be reached, or the line broke
    └── Cancelled            130   Ctrl-C, or a cancelled call

Every message says what was being done, and to which model or digest; ``hint`` says what to do next.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import ClassVar, NamedTuple


class Remedy(NamedTuple):
    """A choice that whoever called may make otherwise; the command line says by which option.

    Attributes:
        parameter: of the Python interface: ``replace``, ``rename``, ``models``, ``store``, ``split`` and so on.
        value: what to give it, where that is known.
    """

    parameter: str
    value: str = ""


class FerryError(Exception):
    """Base of all errors that ollama-ferry raises on purpose.

    Args:
        message: what was being done to what, and why it failed; one sentence.
        hint: what to do next, whoever called; may hold several lines, among them commands to copy.
        remedies: the choices that would lead elsewhere, likeliest first.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", remedies: Iterable[Remedy] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.remedies = tuple(remedies)

    def __str__(self) -> str:
        return self.message


class Refused(FerryError):
    """A host refused a request, for a reason that trying again would not change.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, *, hint: str = "", remedies: Iterable[Remedy] = (), status: int = 0) -> None:
        super().__init__(message, hint=hint, remedies=remedies)
        self.status = status


class Exhausted(FerryError):
    """The system gives no more memory or threads."""


def exhaustion_of(error: BaseException) -> Exhausted | None:
    """Return what Python's own error says where the system has run out of something; None for any other error."""
    if isinstance(error, MemoryError):
        what = "memory"
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        what = "threads"
    else:
        return None
    return Exhausted(
        f"the system gives no more {what}",
        hint="Give it more (`ulimit -v` and `ulimit -u`; MemoryMax and TasksMax of a service), and run it again.",
        remedies=[Remedy("threads")],
    )


def system_error_of(error: OSError) -> FerryError:
    """Return what the operating system refused as one of these errors, by its number.

    It is the last resort: whoever knows what was being done says that.
    """
    why = error.strerror or str(error)
    where = " and ".join(str(name) for name in (error.filename, error.filename2) if name)
    message = f"{where}: {why}" if where else f"the operating system refused: {why}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(message)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpace(message)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(message)
    if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT):
        return Unreachable(message)
    return FerryError(message)


class BrokenStream(FerryError):
    """Whoever read the archive that was being written has gone."""


class UsageError(FerryError):
    """What was asked for can't be done as asked."""

    exit_code = 2


class InvalidName(UsageError):
    """A text that Ollama's grammar does not take as a model name."""


class NotFound(FerryError):
    """Something that was asked for is not there."""

    exit_code = 3


class ModelNotFound(NotFound):
    """The place holds no such model.

    Args:
        name: the model that was looked for, in full, where it was one and no pattern.
        place: what the place is called that was looked in; of a store its folder.
    """

    def __init__(
        self, message: str, *, hint: str = "", remedies: Iterable[Remedy] = (), name: str = "", place: str = ""
    ) -> None:
        super().__init__(message, hint=hint, remedies=remedies)
        self.name = name
        self.place = place


class StoreNotFound(NotFound):
    """No store was found where one was looked for."""


class CloudStub(NotFound):
    """The model's config names a remote host: it has no weights here."""


class NotAModel(NotFound):
    """What is where a model belongs, and is none that Ollama could run."""


class Damaged(FerryError):
    """Bytes are not what a digest, a size or a format says.

    Args:
        digest: the blob that is damaged, as ``sha256:<hex>``, where it is one.
    """

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", remedies: Iterable[Remedy] = (), digest: str = "") -> None:
        super().__init__(message, hint=hint, remedies=remedies)
        self.digest = digest


class ReadDifferently(Damaged):
    """An archive that not every tar reads in the same way: what one checks, another one may not restore."""


class MissingBlob(Damaged):
    """A manifest names a blob that is not there."""


class LeftOut(MissingBlob):
    """An archive counts on its target to have a blob, and it has not."""


class Vanished(MissingBlob):
    """A blob that was there has gone while it was counted on: somebody deleted it meanwhile."""


class Unfinished(Damaged):
    """A blob is there only as an unfinished download."""


class NotAsLocked(Damaged):
    """The models are not those that a lock names, or they carry no signature of anybody who is trusted.

    Args:
        model: the model that differs, where it is about one.
    """

    def __init__(self, message: str, *, hint: str = "", remedies: Iterable[Remedy] = (), model: str = "") -> None:
        super().__init__(message, hint=hint, remedies=remedies)
        self.model = model


class NotPermitted(FerryError):
    """The operating system refused, or a registry wants another login."""

    exit_code = 5


class NoSpace(FerryError):
    """A disk is full, or would be before the work is done."""

    exit_code = 6


class AlreadyExists(FerryError):
    """Something is there already and was not to be replaced."""

    exit_code = 7


class Unreachable(FerryError):
    """The other machine can't be reached, or the line broke."""

    exit_code = 8


class Cancelled(FerryError):
    """The work was given up on request."""

    exit_code = 130


FATAL_FOR_ALL = (Cancelled, NoSpace, NotPermitted)
"""What would happen to the next of several archives too: there is no use in trying it."""

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "failed in a way that no other code covers",
    2: "usage: the command line asks for what can't be done",
    3: "no such model or no store",
    4: "damaged: a manifest, a blob or an archive is not what it should be",
    5: "not permitted",
    6: "no space left",
    7: "something is there already and was not to be replaced",
    8: "the other machine can't be reached, or the line broke",
    130: "interrupted",
}
"""Exit code to meaning; docs/exit-codes.md is tested against this table."""
