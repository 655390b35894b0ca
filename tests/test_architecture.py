"""Imports run one way, and what the command line needs at once does not wait for torch."""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import distill

PACKAGE = Path(distill.__file__).parent
FILES = {
    ".".join(("distill", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in PACKAGE.rglob("*.py")
}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}

# Lowest first. A module may import its own folder and what lies below it, nothing above and nothing beside.
LAYERS = (
    {"errors", "paths", "plain_files", "schema", "signals", "storage", "home", "distributed", "families", "notices"},
    {"audio", "library"},
    {"data", "packs"},
    {"models"},
    {"training"},
    {"api", "sharing"},
    {"web"},
    {"cli"},
    {"__main__"},
)


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def layer(module: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part(module) in parts)


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what only a type checker reads, which may look up."""
    yield tree
    if not (isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING"):
        for node in ast.iter_child_nodes(tree):
            yield from walk(node)


def imports(tree: ast.AST, roots: Collection[str] = ("distill",)) -> Iterator[str]:
    """Modules of these roots that a piece of source imports, inside functions too."""
    for node in walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in roots)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in roots:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def allowed(importer: str, imported: str) -> bool:
    beneath = layer(imported) < layer(importer) or layer(imported) == 0
    return beneath or part(importer) == part(imported)


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"distill"}))
def test_imports_run_one_way(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert [name for name in imports(tree) if part(name) and not allowed(module, name)] == []


def test_every_folder_and_file_has_its_layer() -> None:
    known = set().union(*LAYERS)
    assert {part(module) for module in MODULES} - {""} <= known


def test_the_errors_stand_at_the_bottom() -> None:
    assert list(imports(ast.parse(MODULES["distill.errors"].read_text(encoding="utf-8")))) == []


def test_the_check_itself_sees_an_import_that_runs_back_up() -> None:
    found = list(imports(ast.parse("def f():\n    from distill.training import loop\n    import distill.errors")))
    assert found == ["distill.training.loop", "distill.errors"]
    assert not allowed("distill.models.vqvae", "distill.training.loop")
    assert not allowed("distill.audio.io", "distill.library.catalog")
    assert allowed("distill.training.loop", "distill.models.vqvae")


def test_no_two_modules_import_each_other() -> None:
    graph = {}
    for module, path in MODULES.items():
        statements = ast.parse(path.read_text(encoding="utf-8")).body
        at_import = ast.Module([node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)], [])
        graph[module] = set(imports(at_import)) - {module}
    assert set(TopologicalSorter(graph).static_order()) >= set(MODULES)


@pytest.mark.parametrize(
    "module",
    [
        "distill",
        "distill.training.metrics",
        "distill.training.config",
        "distill.training.request",
        "distill.library.catalog",
        "distill.data.collection",
        "distill.cli.app",
    ],
)
def test_what_must_be_quick_imports_no_torch(module: str) -> None:
    check = f"import sys, {module}; print([m for m in ('torch', 'librosa', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}
    assert {path.stem for path in MODULES.values()} & drawers == set()
    assert {path.parent.name for path in MODULES.values()} & drawers == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_what_tests_share_stands_in_support_and_no_test_module_is_imported() -> None:
    folder = Path(__file__).parent
    tests = {path.stem for path in folder.glob("*.py")}
    imported = {path.name: list(imports(ast.parse(path.read_text("utf-8")), tests)) for path in folder.rglob("*.py")}
    assert {importer: found for importer, found in imported.items() if found} == {}
