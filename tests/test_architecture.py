"""Data flows one way: a module imports only what stands before it."""

import ast
from pathlib import Path

import satjax

ROOT = Path(satjax.__file__).parent
ORDER = [
    ("errors", "pretrained"),
    ("endpoints", "files"),
    ("cache", "config", "metrics", "progress"),
    ("policy", "sharding"),
    ("processes",),
    ("outcomes",),
    ("instructions",),
    ("models",),
    ("aptitude", "weights"),
    ("assembly", "calibration"),
    ("checkpoint", "features"),
    ("scoring",),
    ("export",),
    ("router", "assess"),
    ("rank_file", "training"),
    ("train",),
    ("evaluation", "preflight", "litellm"),
    ("serving",),
    ("render",),
    ("doctor",),
    ("cli",),
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named = {
        f"satjax.{a.name}"
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom) and n.module == "satjax"
        for a in n.names
    }
    return {name for name in names if name.startswith("satjax.")} | {n for n in named if part(n) in RANK}


def test_every_part_has_its_place():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in ROOT.rglob("*.py")}
    assert parts - {"__init__", "__main__"} == set(RANK)


def test_no_module_imports_a_later_one():
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for module in imports(path):
            assert part(module) == own or RANK[part(module)] < RANK[own], f"{path.relative_to(ROOT)} imports {module}"


def test_every_module_of_some_size_has_a_test_file_of_its_name():
    """But those of the command line, whose verbs are all tested as they are typed. Two modules of one name in different folders share one."""
    tested = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    large = {path.relative_to(ROOT) for path, size in sizes.items() if size > 100}
    assert {str(path) for path in large if path.parts[0] != "cli" and path.stem not in tested} == set()
    assert "cli" in tested


def test_importing_satjax_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, satjax, satjax.cli; print(*(m for m in ('jax', 'flax', 'orbax', 'sklearn', 'torch', 'fastapi', 'httpx') if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_ranking_imports_only_what_it_uses():
    import subprocess
    import sys

    code = "import sys, satjax.router; print(*(m for m in ('scipy', 'sklearn', 'pyarrow', 'ijson', 'matplotlib', 'transformers') if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_page_is_written_without_what_ranking_imports():
    import subprocess
    import sys

    code = "import sys, satjax.evaluation.report.html; print(*(m for m in ('jax', 'flax', 'orbax', 'optax', 'sklearn') if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_public_names_that_are_imported_when_used_are_there_and_no_modules():
    import satjax.outcomes

    for package in (satjax, satjax.outcomes):
        assert sorted(package._HOME) == sorted(package.__all__)
        modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
        for name in package.__all__:
            assert name not in modules
            assert getattr(package, name).__name__ == name


def test_no_name_of_a_package_stands_in_the_place_of_its_module():
    for init in ROOT.rglob("__init__.py"):
        own = ".".join((ROOT.name, *init.parent.relative_to(ROOT).parts))
        modules = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or path.is_dir()}
        named = set()
        for node in ast.parse(init.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module != own:
                named |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                named.add(node.name)
        assert not named & modules, f"{own}: {named & modules}"
