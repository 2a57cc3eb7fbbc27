"""Ollama's service: whom it runs as, which store it is set to use, and whether it gets there."""

from __future__ import annotations

import os
import re

from ollama_ferry.doctor.advice import is_systems
from ollama_ferry.doctor.choice import served_folder
from ollama_ferry.doctor.findings import Finding, Findings, Severity
from ollama_ferry.files.permissions import User, impassable
from ollama_ferry.ollama.candidates import Candidate, Candidates, State, StoreOrigin
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import shown

_SYSTEM = re.compile(r"/(bin|boot|dev|etc|lib[^/]*|proc|root|run|sbin|sys|usr|var)/")
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


def services_store(listed: Candidates) -> Candidate | None:
    """Return the store that the service is set to use; None where there is no service."""
    service = listed.service
    if service is None or not service.exists:
        return None
    return listed.of(StoreOrigin.UNIT) or listed.of(StoreOrigin.SERVICE)


def check_service(listed: Candidates, findings: Findings) -> None:
    """Tell what is wrong with the service.

    Args:
        listed: where stores may be.
        findings: where to tell it.
    """
    service = listed.service
    if service is None:
        return
    _check_settings(listed, findings)
    if not service.exists:
        return
    if service.user is None:
        name = service.user_name
        known = _USER_NAME.fullmatch(name)
        findings.add(
            Finding(
                Severity.PROBLEM,
                "no-service-user",
                f"{shown(service.unit or '')} runs Ollama as {shown(name)!r}, and there is no such user: the service "
                "can't start.",
                mend=(f"sudo useradd -r -s /bin/false -U -m -d /usr/share/ollama {name}",) if known else (),
            )
        )
        return
    wanted, served = services_store(listed), served_folder(listed)
    for candidate in listed.found:
        if candidate.state is not State.ABSENT and candidate is not served and (candidate is wanted or candidate.named):
            _check_passing(candidate, service.user, findings, ours=candidate is wanted)
    if service.unit is not None and wanted is not None and served is not None and wanted is not served:
        findings.add(
            Finding(
                Severity.WARNING,
                "not-in-effect",
                f"The service is set to use {shown(wanted.path)}, and the server at {listed.answer.address} uses "
                f"{shown(served.path)}: it was not restarted since, or is not the service.",
                concerns=(shown(wanted.path), shown(served.path)),
                mend=("sudo systemctl daemon-reload && sudo systemctl restart ollama",),
            )
        )


def _check_settings(listed: Candidates, findings: Findings) -> None:
    """Look at the folder that the service's unit names."""
    service, wanted = listed.service, listed.of(StoreOrigin.UNIT)
    for text, file in service.settings[:1] if service is not None else ():
        # systemd expands specifiers that begin with %.
        if text[:1] not in "/%":
            findings.add(
                Finding(
                    Severity.PROBLEM,
                    "relative-store",
                    f"{shown(file)} sets OLLAMA_MODELS to {shown(text)}, which is no whole path: neither systemd nor "
                    "Ollama expands a ~, and the service makes a folder of that name where it is started.",
                    concerns=(shown(text),),
                )
            )
    if wanted is None or wanted.state is not State.ABSENT:
        return
    user = service.user if service is not None else None
    mend: tuple[str, ...] = ()
    # What is there already may be anybody's, and is not given away; nor is a folder made where a link leads.
    above = str(wanted.path.parent)
    if not os.path.lexists(wanted.path) and os.path.realpath(above) == above:
        owner = f"-o {quoted(user.name)} -g {quoted(user.group)} " if user else ""
        mend = ("# If it is to be a new store:", f"sudo install -d {owner}{quoted(wanted.path)}")
    findings.add(
        Finding(
            Severity.WARNING,
            "no-service-store",
            f"{shown(wanted.path)} ({shown(wanted.why)}) is not there, or holds no manifests yet. Is a disk not "
            "mounted? The server makes a new, empty store there, if it may.",
            concerns=(shown(wanted.path),),
            mend=mend,
        )
    )


def _check_passing(candidate: Candidate, user: User, findings: Findings, *, ours: bool) -> None:
    """Tell which folders above a store its service can't pass.

    They are not the store's, so no line opens them to everybody, and none touches the system's folders and homes.
    """
    for folder in impassable(candidate.path, user):
        # Behind a link may be a folder that was closed for a reason.
        systems = is_systems(str(folder)) or folder not in candidate.path.parents or _SYSTEM.match(f"{folder}/")
        findings.add(
            Finding(
                Severity.PROBLEM if ours else Severity.NOTE,
                "impassable",
                f"{shown(user.name)}, the user that Ollama's service runs as, may not pass {shown(folder)}, which is "
                f"above the store {shown(candidate.path)}. "
                + ("The service can't reach its models." if ours else "It matters if the service is to use that store.")
                + (" A home or a folder of the system stays as it is: move the store out of it." if systems else ""),
                store=shown(candidate.path),
                concerns=(shown(folder),),
                mend=()
                if systems
                else (
                    f"# For {shown(user.name)} alone, to pass and not to read (package acl):",
                    f"sudo setfacl -m u:{quoted(user.name)}:x {quoted(os.path.realpath(folder))}",
                ),
            )
        )
