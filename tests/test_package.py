"""The package as a whole: what it needs, and which way its imports go."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bn_core"

# From the first to the last: a module may import from its own layer and from those before it.
LAYERS = ["algorithms", "layers", "whitening", "surgery", "lab", "experiments"]

ALONE = """
import sys, torch
before = set(sys.modules)
opened = []
sys.addaudithook(lambda event, arguments: opened.append((event, arguments[0]))
                 if event in ("open", "socket.connect") else None)
import bn_core
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names)))
print([what for what in opened if not str(what[1]).endswith((".py", ".pyc"))
       and "bn_core" not in str(what[1])])
"""


def test_importing_the_package_needs_torch_alone_and_opens_no_file_and_no_socket():
    printed = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == ["['bn_core']", "[]"]


def layer_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bn_core"):
            names = [node.module] if layer_of(node.module) else [
                f"{node.module}.{alias.name}" for alias in node.names
            ]  # fmt: skip
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("bn_core.")]
        else:
            continue
        for name in names:
            assert LAYERS.index(layer_of(name)) <= LAYERS.index(own), f"{path.name}: {name}"
