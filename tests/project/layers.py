"""The floors of the house, in one table, and a reader of every form of import that holds the code to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# A file imports only from rows above its own, or from its own folder. A name is a folder or a module of the package.
# README, CONTRIBUTING and the package's __init__ point here.
LAYERS: list[set[str]] = [
    {"errors", "units", "_light_dataclass"},
    {"guards", "progress_bar"},
    {"atomic_file"},
    {"table_files"},
    {"_kernels", "_resolver"},
    {"_core", "_follow", "_shares", "ufuncs"},
    {"_window"},
    {"_ledger"},
    {"_steps"},
    {"sensors", "metrics", "costs"},
    {"results", "training"},
    {"measuring", "recordings", "plot"},
    {"published_figures", "reports", "export", "serving", "distributed"},
    {"estimate", "experiment"},
    {"pytest_plugin", "notebook"},
    {"commands"},
    {"cli"},
]
# The same for C, by the beginning of a name; a longer name goes before a shorter one.
C_LAYERS: list[set[str]] = [
    {"fg_error", "fg_clock", "fg_wide", "fg_big"},
    {"fg_thread", "fg_ring", "fg_jump", "fg_sysfs", "fg_metric"},
    {"fg_traits"},
    {"fg_account", "fg_resolver", "fg_follow", "fg_batches"},
    {"fg_channel", "fg_source", "fg_share"},
    {"fg_nvml", "fg_amdsmi"},
    {"fg_source_"},
    {"fg_sampler"},
    {"fg"},
]
_STATEMENT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+([\w, *]+)|c?import\s+([\w.]+))", re.MULTILINE)


class Package:
    """The modules of a package and what each imports.

    Parameters
    ----------
    root : Path
        The folder of the package.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.name = root, root.name
        self.files = {self._module(p): p for kind in ("*.py", "*.pyx") for p in sorted(root.rglob(kind))}
        self.homes = {module: _homes(path, module, self.name) for module, path in self.files.items() if _is_init(path)}

    def _module(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def rooms(self) -> set[str]:
        """Names that need a row in the table: folders and modules, without the front doors."""
        return {module.split(".")[0] for module in self.files} - {"", "__main__"}

    def imports(self) -> dict[str, set[str]]:
        """Module -> the modules of the package that it imports, wherever in the file and in whatever form."""
        return {
            module: {target for name in self._names(module, path) if (target := self._resolved(name)) is not None}
            - {module}
            for module, path in self.files.items()
            if module not in ("", "__main__")
        }

    def _resolved(self, dotted: str) -> str | None:
        """The module that defines a dotted name below the package; None for what is no module's, as the version."""
        for _ in range(8):
            if dotted in self.files and not (dotted in self.homes and not dotted):
                return dotted
            parent, _, name = dotted.rpartition(".")
            if parent not in self.homes and parent in self.files:
                return parent  # a name inside a module
            if name in self.homes.get(parent, {}):
                dotted = self.homes[parent][name]
            elif parent in self.homes and parent:
                return parent
            elif parent:
                dotted = parent
            else:
                return None
        return None

    def _names(self, module: str, path: Path) -> Iterator[str]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".pyx":
            for source, names, plain in _STATEMENT.findall(text):
                yield from self._below(source, [n.strip() for n in names.split(",")] if source else [], plain)
            return
        tree = ast.parse(text)
        folder = module.split(".") if _is_init(path) else module.split(".")[:-1]
        aliases: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                source = node.module or ""
                if node.level:
                    above = folder[: len(folder) - node.level + 1]
                    source = ".".join(filter(None, [self.name, *above, source]))
                yield from self._below(source, [alias.name for alias in node.names], "")
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._below("", [], alias.name)
                    if alias.name.split(".")[0] == self.name:
                        aliases[alias.asname or self.name] = alias.name if alias.asname else self.name
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = ast.unparse(node.func)
                yield from self._below("", [], str(node.args[0].value) if called.endswith("import_module") else "")
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                whole = _dotted(node)
                first = whole.split(".")[0]
                if first in aliases:
                    yield from self._below("", [], aliases[first] + whole[len(first) :])

    def _below(self, source: str, names: list[str], plain: str) -> Iterator[str]:
        prefix = self.name + "."
        if plain.startswith(prefix):
            yield plain.removeprefix(prefix)
        if source == self.name or source.startswith(prefix):
            below = source.removeprefix(self.name).removeprefix(".")
            yield from (f"{below}.{name}".removeprefix(".") for name in names)


def _is_init(path: Path) -> bool:
    return path.name == "__init__.py"


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def _homes(path: Path, module: str, package: str) -> dict[str, str]:
    """Name -> dotted module and name below the package, of the lazy table `_HOME` in an __init__."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign):
            target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == "_HOME" and node.value is not None:
            table = ast.literal_eval(node.value)
            return {name: _home(name, home, module, package) for name, home in table.items()}
    return {}


def _home(name: str, home: str | None, module: str, package: str) -> str:
    if home is None:
        return f"{module}.{name}".removeprefix(".")
    absolute = home.startswith(package + ".")
    return home.removeprefix(package + ".") if absolute else f"{module}.{home.removeprefix('.')}".removeprefix(".")


def row_of(room: str, layers: list[set[str]]) -> int | None:
    return next((n for n, row in enumerate(layers) if room in row), None)


def faults(root: Path, layers: list[set[str]]) -> list[str]:
    """Every way in which the package leaves its table, one sentence each."""
    package = Package(root)
    rooms, listed = package.rooms(), set().union(*layers)
    out = [f"{room} has no row in the table" for room in sorted(rooms - listed)]
    out += [f"{room} is in the table and not in the package" for room in sorted(listed - rooms)]
    graph = package.imports()
    for module, targets in sorted(graph.items()):
        room = module.split(".")[0]
        mine = row_of(room, layers)
        for target in sorted(targets):
            theirs = row_of(target.split(".")[0], layers)
            if target.split(".")[0] == room or mine is None or theirs is None or theirs < mine:
                continue
            out.append(f"{module} imports {target}, which is {'beside' if theirs == mine else 'above'} it")
    return out + [f"circle: {' -> '.join(circle)}" for circle in circles(graph)]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """One circle for each way back that a walk in depth meets."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(graph.get(module, ())):
            walk(target, [*path, module])
        done.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def c_row(stem: str) -> int | None:
    """The row of a C file: that of the longest name in the table that its name begins with."""
    fits = [(len(name), n) for n, row in enumerate(C_LAYERS) for name in row if stem.startswith(name)]
    return max(fits)[1] if fits else None
