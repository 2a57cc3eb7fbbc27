"""The Python interface: what the commands do, as calls; a function a job.

Every call takes an ``observer``, which is notified of each step by the events of :mod:`ollama_ferry.engine.events`,
and a ``cancel`` switch where it takes its time. The types of what is returned are loaded when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ollama_ferry.api.arguments import COMPRESSIONS as COMPRESSIONS
from ollama_ferry.api.arguments import FORMATS as FORMATS
from ollama_ferry.api.arguments import SERVICE_MODELS as SERVICE_MODELS
from ollama_ferry.api.arguments import rate_of as rate_of
from ollama_ferry.api.exports import export as export
from ollama_ferry.api.exports import plan_export as plan_export
from ollama_ferry.api.hosts import Host as Host
from ollama_ferry.api.hosts import Ssh as Ssh
from ollama_ferry.api.hosts import fetch as fetch
from ollama_ferry.api.hosts import plan_fetch as plan_fetch
from ollama_ferry.api.hosts import plan_send as plan_send
from ollama_ferry.api.hosts import send as send
from ollama_ferry.api.imports import import_archive as import_archive
from ollama_ferry.api.imports import import_via_server as import_via_server
from ollama_ferry.api.imports import judge_archives as judge_archives
from ollama_ferry.api.imports import plan_import as plan_import
from ollama_ferry.api.inspection import list_models as list_models
from ollama_ferry.api.inspection import lock as lock
from ollama_ferry.api.inspection import names_at_once as names_at_once
from ollama_ferry.api.inspection import show as show
from ollama_ferry.api.inspection import verify as verify
from ollama_ferry.api.inspection import verify_volumes as verify_volumes
from ollama_ferry.api.kits import plan_kit as plan_kit
from ollama_ferry.api.kits import write_kit as write_kit
from ollama_ferry.api.registries import plan_pull as plan_pull
from ollama_ferry.api.registries import plan_push as plan_push
from ollama_ferry.api.registries import pull as pull
from ollama_ferry.api.registries import push as push
from ollama_ferry.api.serving import serve as serve
from ollama_ferry.api.stores import as_owner as as_owner
from ollama_ferry.api.stores import covers_any as covers_any
from ollama_ferry.api.stores import doctor as doctor
from ollama_ferry.api.stores import find_store as find_store
from ollama_ferry.api.stores import find_target as find_target
from ollama_ferry.api.stores import free_bytes as free_bytes
from ollama_ferry.api.stores import has_model as has_model
from ollama_ferry.api.stores import inventory as inventory
from ollama_ferry.api.stores import open_store as open_store
from ollama_ferry.api.stores import prune as prune
from ollama_ferry.api.stores import take_inventory as take_inventory
from ollama_ferry.api.stores import write_sample_store as write_sample_store
from ollama_ferry.api.words import Means as Means
from ollama_ferry.api.words import is_path as is_path
from ollama_ferry.api.words import meaning_of_word as meaning_of_word
from ollama_ferry.api.words import place_and_models as place_and_models
from ollama_ferry.archives.kinds import kind_of as kind_of

if TYPE_CHECKING:
    from ollama_ferry.archives.volumes.checking import VolumeVerdict as VolumeVerdict
    from ollama_ferry.doctor.choice import StoreSeen as StoreSeen
    from ollama_ferry.doctor.findings import Finding as Finding
    from ollama_ferry.doctor.findings import Severity as Severity
    from ollama_ferry.doctor.machine import MachineReport as MachineReport
    from ollama_ferry.engine.plan import NotCarried as NotCarried
    from ollama_ferry.jobs.deliveries import Sent as Sent
    from ollama_ferry.jobs.export import Exported as Exported
    from ollama_ferry.jobs.export_plan import PlannedExport as PlannedExport
    from ollama_ferry.jobs.import_ import Imported as Imported
    from ollama_ferry.jobs.import_choices import ImportedModel as ImportedModel
    from ollama_ferry.jobs.inventory import Inventory as Inventory
    from ollama_ferry.jobs.kit import Kit as Kit
    from ollama_ferry.jobs.list_ import LayerUse as LayerUse
    from ollama_ferry.jobs.list_ import Listing as Listing
    from ollama_ferry.jobs.list_ import ModelSummary as ModelSummary
    from ollama_ferry.jobs.list_ import Shown as Shown
    from ollama_ferry.jobs.prune import Pruned as Pruned
    from ollama_ferry.jobs.push import Pushed as Pushed
    from ollama_ferry.jobs.report import Fault as Fault
    from ollama_ferry.jobs.report import Problem as Problem
    from ollama_ferry.jobs.report import Report as Report
    from ollama_ferry.jobs.report import Verdict as Verdict
    from ollama_ferry.jobs.serve import Serving as Serving
    from ollama_ferry.jobs.via_server import Given as Given
    from ollama_ferry.model.manifests import Descriptor as Descriptor
    from ollama_ferry.model.manifests import Manifest as Manifest
    from ollama_ferry.model.names import ModelName as ModelName
    from ollama_ferry.ollama.locate import Located as Located
    from ollama_ferry.places.store.store import Store as Store
    from ollama_ferry.places.store.unnamed import UnnamedFile as UnnamedFile
    from ollama_ferry.serving.server import Served as Served

_DEFINED_IN = {
    "Descriptor": "model.manifests.Descriptor",
    "MachineReport": "doctor.machine.MachineReport",
    "Exported": "jobs.export.Exported",
    "Fault": "jobs.report.Fault",
    "Finding": "doctor.findings.Finding",
    "Given": "jobs.via_server.Given",
    "Imported": "jobs.import_.Imported",
    "ImportedModel": "jobs.import_choices.ImportedModel",
    "Inventory": "jobs.inventory.Inventory",
    "Kit": "jobs.kit.Kit",
    "LayerUse": "jobs.list_.LayerUse",
    "Listing": "jobs.list_.Listing",
    "Located": "ollama.locate.Located",
    "Manifest": "model.manifests.Manifest",
    "ModelName": "model.names.ModelName",
    "ModelSummary": "jobs.list_.ModelSummary",
    "NotCarried": "engine.plan.NotCarried",
    "PlannedExport": "jobs.export_plan.PlannedExport",
    "Problem": "jobs.report.Problem",
    "Pruned": "jobs.prune.Pruned",
    "Pushed": "jobs.push.Pushed",
    "Report": "jobs.report.Report",
    "Sent": "jobs.deliveries.Sent",
    "Served": "serving.server.Served",
    "Serving": "jobs.serve.Serving",
    "Severity": "doctor.findings.Severity",
    "Shown": "jobs.list_.Shown",
    "Store": "places.store.store.Store",
    "StoreSeen": "doctor.choice.StoreSeen",
    "UnnamedFile": "places.store.unnamed.UnnamedFile",
    "Verdict": "jobs.report.Verdict",
    "VolumeVerdict": "archives.volumes.checking.VolumeVerdict",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, own_name = _DEFINED_IN[name].rpartition(".")
    return getattr(import_module(f"ollama_ferry.{module}"), own_name)
