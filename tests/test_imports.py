"""Who may import whom: downwards only (docs/design.md)."""

import ast
import graphlib
from pathlib import Path

import pytest

import jaxfreeze

ROOT = Path(jaxfreeze.__file__).parent
FLOORS = (  # from the top; a module may import from its own floor's folder and from any floor below
    {"__main__"},
    {"cli"},
    {"run_commands"},
    {"flags"},
    {"api"},
    {"failures"},
    {"report"},
    {"search"},
    {"sweep"},
    {"inference"},
    {"training"},
    {"model"},
    {"data"},
    {"objectives", "freezing"},
    {"run_folder"},
    {
        *("atomic", "removal", "identity", "cache_folder", "console", "metrics", "output"),
        *("devices", "processes", "command_config", "cpu_products"),
    },
    {"config"},
    {"settings"},
    {"strict_yaml"},
    {"errors", "arrays", "fetched", "program", "imports", "hub_client"},
)
FILES = sorted(ROOT.rglob("*.py"))


def floor_of(module: str) -> int:
    """The floor of 'jaxfreeze.<room>...'."""
    room = module.split(".")[1]
    return next(floor for floor, rooms in enumerate(FLOORS) if room in rooms)


def imports(file: Path) -> set[str]:
    """Modules of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if node.module != "jaxfreeze" else {f"jaxfreeze.{a.name}" for a in node.names}
            for alias in node.names:  # `from jaxfreeze.training import checkpoint`
                path = ROOT.parent / node.module.replace(".", "/") / f"{alias.name}.py"
                if path.is_file():
                    found.add(f"{node.module}.{alias.name}")
    return {name for name in found if name.startswith("jaxfreeze.")}


def module_of(file: Path) -> str:
    return ".".join(("jaxfreeze", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_downwards(file: Path) -> None:
    module = module_of(file)
    if module == "jaxfreeze":
        assert imports(file) <= {
            *(f"jaxfreeze.api{name}" for name in ("", ".apply_top", ".find_layers", ".finetune", ".load")),
            "jaxfreeze.program",
        }
        return
    for name in imports(file):
        assert floor_of(name) >= floor_of(module), f"{module} imports {name}, which is above it"


def test_no_circles() -> None:
    graph = {module_of(file): imports(file) for file in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of a circle


def test_nothing_needs_pytorch_to_run() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not [name for name in names if name.split(".")[0] == "torch"], file
