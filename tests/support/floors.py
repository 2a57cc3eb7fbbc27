"""The floors of the package, read from its imports: ``./dev floors`` draws them, tests/test_structure.py holds them.

A room is a folder of the package, or a module at its top; the folders of ``places`` are rooms each. What a room imports
lies on a floor below its own. Imports count wherever they stand: at the top, in a function, or for the types only.
"""

# ruff: noqa: T201

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NAME = "ollama_ferry"
PACKAGE = Path(__file__).parents[2] / "src" / NAME
# From the top to the ground.
FLOORS = [
    ["cli"],
    ["api"],
    ["jobs"],
    ["serving", "doctor"],
    ["places.store", "places.archive", "places.ssh", "places.registry"],
    ["archives", "registries", "ollama"],
    ["files"],
    ["engine"],
    ["model"],
    ["errors", "wording", "shell_lines", "_version"],
]
# Framing and protocol know no models: their floor would allow it, their subject does not. A blob is all they need.
WITHOUT_MODELS = ["archives", "registries"]
OF_BLOBS = {"Digest", "Descriptor", "parse_json"}
# The package's own two modules belong to the rooms whose doors they are.
DOORS = {"__init__": "api", "__main__": "cli"}
LINES_OF_A_MODULE, LINES_OF_A_CLASS, LINES_OF_A_FUNCTION = 450, 300, 60
MODULES_AT_THE_TOP = 8


@dataclass(frozen=True)
class Module:
    """A module of the package.

    Attributes:
        name: with dots, without the package's own name; of a folder's ``__init__`` the folder's.
        imports: the modules of the package that it imports, with the names that it takes from each.
        lines: how many lines it has.
        long_parts: classes and functions that are longer than they may be, with their lines.
        defined: the public classes and functions at its top.
    """

    name: str
    imports: dict[str, set[str]]
    lines: int
    long_parts: dict[str, int]
    defined: set[str]

    @property
    def room(self) -> str:
        """The room that it stands in."""
        return room_of(self.name)


def room_of(module: str) -> str:
    """Return the room of a module."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "places" else DOORS.get(parts[0], parts[0])


def floor_of(room: str) -> int:
    """Return the number of a room's floor, from 0 on the ground; -1 for a room that none is known of."""
    for number, rooms in enumerate(reversed(FLOORS)):
        if room in rooms:
            return number
    return -1


def read_package(package: Path = PACKAGE) -> dict[str, Module]:
    """Read every module of the package."""
    names = {name_of(path, package): path for path in sorted(package.rglob("*.py"))}
    modules = {}
    for name, path in names.items():
        text = path.read_text(encoding="utf-8")
        document = ast.parse(text)
        imports = _imports(document, set(names))
        tops = (node for node in document.body if isinstance(node, ast.ClassDef | ast.FunctionDef))
        defined = {node.name for node in tops if not node.name.startswith("_")}
        modules[name] = Module(name, imports, len(text.splitlines()), dict(_long_parts(document)), defined)
    return modules


def name_of(path: Path, package: Path) -> str:
    """Return the name of a module by its path."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imports(document: ast.Module, modules: set[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(document):
        dotted: list[str] = []
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import, which is not read"
            # What is imported from a folder may be a module or a name.
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        for whole in dotted:
            head, *rest = whole.split(".")
            if head == NAME:
                most = max((n for n in range(len(rest) + 1) if ".".join(rest[:n]) in modules), default=0)
                found[".".join(rest[:most]) or "__init__"].update(rest[most : most + 1])
    return dict(found)


def _long_parts(document: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(document):
        if isinstance(node, ast.ClassDef):
            most = LINES_OF_A_CLASS
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            most = LINES_OF_A_FUNCTION
        else:
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > most:
            yield node.name, lines


def climbing(modules: dict[str, Module]) -> list[str]:
    """Return every import that does not lead down, as ``module -> module``."""
    return [
        f"{module.name} -> {target}"
        for module in modules.values()
        for target in module.imports
        if room_of(target) != module.room and floor_of(room_of(target)) >= floor_of(module.room)
    ]


def trespassing(modules: dict[str, Module]) -> list[str]:
    """Return every import of what is another module's own, or of models where none are known, as ``module -> name``."""
    return [
        f"{module.name} -> {target}.{name}"
        for module in modules.values()
        for target, taken in module.imports.items()
        for name in sorted(taken)
        if (name.startswith("_") and not name.endswith("__"))
        or (module.room in WITHOUT_MODELS and room_of(target) == "model" and name not in OF_BLOBS)
    ]


def namesakes(modules: dict[str, Module]) -> list[str]:
    """Return the public names that stand in two rooms, as ``name: module, module``.

    A function of ``api`` may be called as the job is that it puts together.
    """
    homes: dict[str, list[Module]] = defaultdict(list)
    for module in modules.values():
        for name in module.defined if module.room != "api" else ():
            homes[name].append(module)
    return [
        f"{name}: {', '.join(module.name for module in found)}"
        for name, found in sorted(homes.items())
        if len({module.room for module in found}) > 1
    ]


def homeless(modules: dict[str, Module]) -> list[str]:
    """Return the modules whose room stands on no floor."""
    return [module.name for module in modules.values() if floor_of(module.room) < 0 and module.name != "places"]


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Return the sets of modules that import each other in a circle."""
    reached: dict[str, set[str]] = {}
    for name in modules:
        seen: set[str] = set()
        todo = list(modules[name].imports)
        while todo:
            target = todo.pop()
            if target in modules and target not in seen:
                seen.add(target)
                todo.extend(modules[target].imports)
        reached[name] = seen
    found = {frozenset(other for other in reached[name] if name in reached[other]) for name in modules}
    return sorted(sorted(circle) for circle in found if circle)


def oversized(modules: dict[str, Module]) -> dict[str, int]:
    """Return what is longer than it may be, with its lines: a module by its name, a part as ``module:part``."""
    found = {module.name: module.lines for module in modules.values() if module.lines > LINES_OF_A_MODULE}
    for module in modules.values():
        found.update({f"{module.name}:{part}": lines for part, lines in module.long_parts.items()})
    return found


def at_the_top(package: Path = PACKAGE) -> list[str]:
    """Return the modules that stand in no folder."""
    return sorted(path.stem for path in package.glob("*.py"))


def drawing(modules: dict[str, Module]) -> str:
    """Draw the floors, the top one first: a line a room, with its size and the rooms that it imports."""
    sizes: dict[str, list[int]] = defaultdict(list)
    arrows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for module in modules.values():
        sizes[module.room].append(module.lines)
        for target in module.imports:
            if room_of(target) != module.room:
                arrows[module.room][room_of(target)] += 1
    lines = []
    for number, rooms in reversed(list(enumerate(reversed(FLOORS)))):
        for room in rooms:
            if room in sizes:
                below = sorted(arrows[room], key=lambda other: (-floor_of(other), other))
                size = f"{len(sizes[room])} modules, {sum(sizes[room]):,} lines"
                label = str(number) if room == rooms[0] else " "
                lines.append(f"{label:>2}  {room:<16} {size:<24} {'-> ' if below else ''}{', '.join(below)}")
    total = sum(len(others) for others in arrows.values())
    lines.append(
        f"{len(FLOORS)} floors, {len(sizes)} rooms, {total} arrows between them, {len(circles(modules))} circles, "
        f"{len(at_the_top())} modules at the top"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    package = read_package()
    print(drawing(package))
    wrong = (
        climbing(package)
        + trespassing(package)
        + namesakes(package)
        + [" <-> ".join(circle) for circle in circles(package)]
    )
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)
