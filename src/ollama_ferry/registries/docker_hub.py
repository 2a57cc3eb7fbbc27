"""Docker Hub, which is called by several names, and reached by yet another one.

Source: ``docker login`` and ``reference`` of the docker project: logins are kept under the address of an old API, and
a name of one part is that of a repository in ``library``.
"""

from __future__ import annotations

HUB_KEY = "https://index.docker.io/v1/"
"""What docker and its helpers keep the login under."""
_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HOST = "registry-1.docker.io"
_LIBRARY = "library"


def hub_names(registry: str) -> tuple[str, ...]:
    """Return what a registry may be called where logins are kept, the given word first."""
    return (registry, *(name for name in _NAMES if name != registry)) if _is_hub(registry) else (registry,)


def registry_host(registry: str) -> str:
    """Return the host, with its port where there is one, that answers for a registry."""
    return _HOST if _is_hub(registry) else registry


def repository_at(registry: str, repository: str) -> str:
    """Return what a repository is called in its registry."""
    return f"{_LIBRARY}/{repository}" if _is_hub(registry) and "/" not in repository else repository


def _is_hub(registry: str) -> bool:
    return registry.lower() in _NAMES
