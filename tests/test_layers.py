"""The architecture, as far as a program can read it: imports point one way, jaxopt has one importer, vmap one place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxstyle"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

ALLOWED = {
    "errors": set(),
    "architecture": {"errors"},
    "paths": {"errors"},
    "streams": set(),
    "coerce": {"errors", "paths"},
    "toml_file": {"errors"},
    "presets": {"architecture", "coerce", "errors", "toml_file"},
    "schedule": {"architecture", "coerce"},
    "optimisation": {"errors", "coerce", "paths", "architecture", "presets", "schedule"},
    "masked": {"errors", "coerce", "presets"},
    "film": {"errors"},
    "settings": {"film", "masked", "errors", "coerce", "paths", "architecture", "presets", "schedule", "optimisation"},
    "ray_settings": {"coerce", "errors"},
    "config": {"errors", "coerce", "paths", "ray_settings", "settings", "toml_file"},
    "arguments": {"errors", "coerce", "paths", "settings", "config"},
    "huge_pages": set(),
    "trust": set(),
    "cache": {"errors", "paths"},
    "model": {"architecture", "cache", "errors", "settings", "trust"},
    "style": {"architecture", "coerce", "errors", "settings", "model"},
    "data": {"architecture", "errors", "paths", "settings"},
    "decode": {"errors", "settings", "data"},
    "planning": {"style", "architecture", "errors", "paths", "settings", "model", "data", "decode"},
    "engine": {
        "architecture",
        "cache",
        "coerce",
        "errors",
        "paths",
        "settings",
        "trust",
        "model",
        "style",
        "data",
        "decode",
    }
    | {"decode", "planning"},
    "cluster": {"errors", "huge_pages", "ray_settings", "settings", "data", "decode", "planning", "engine"},
    "settings_file": {"coerce", "data", "errors", "presets", "settings"},
    "report": {"errors", "settings", "printing", "data", "decode", "engine"},
    "demo": {"errors", "settings", "data", "decode", "planning", "engine", "report"},
    "bench": {"architecture", "errors", "settings", "model", "style", "data", "planning", "engine", "report", "demo"},
    "doctor": {"errors", "huge_pages", "settings", "model", "data", "planning", "engine", "demo"},
    "cli_weights": {"cache", "architecture", "arguments", "settings", "model", "data"},
    "cli_setup": {"errors", "printing", "settings_file"},
    "cli_ray": {"cluster", "engine", "errors", "planning", "printing", "ray_settings", "report", "settings"},
    "cli_pack": {"arguments", "errors", "printing", "data"},
    "cli_publish": {"arguments", "errors", "printing", "settings", "data", "engine"},
    "cli_manifest": {"arguments", "errors", "printing", "data"},
    "cli_replay": {"arguments", "errors", "printing", "engine", "report"},
    "cli_report": {"arguments", "coerce", "errors", "printing", "engine", "report"},
    "cli_targets": {"arguments", "errors", "settings", "printing", "data", "engine"},
    "printing": {"data"},
    "variants": {"errors"},
    "sweep": {"errors", "settings", "data", "decode", "engine", "report", "variants"},
    "cli_tools": {"errors", "printing", "engine", "demo", "bench", "doctor", "report"},
    "cli": {
        "printing",
        "cli_ray",
        "ray_settings",
        "cli_tools",
        "variants",
        "sweep",
        "errors",
        "settings",
        "arguments",
        "streams",
        "data",
        "planning",
        "engine",
        "report",
        "demo",
        "bench",
        "doctor",
        "cli_weights",
        "cli_targets",
        "cli_pack",
        "cli_publish",
        "cli_setup",
        "cli_manifest",
        "cli_replay",
        "cli_report",
    },
    "__main__": {"cli", "huge_pages"},
    "__init__": {"settings", "style", "engine"},
}
"""What each layer may import of the package, itself apart."""


JAX = {"jax", "jaxlib", "flax", "jaxopt", "optax"}


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("jaxstyle.")}
    allowed = ALLOWED[layer(path)]
    allowed = allowed | {"presets", "optimisation"} if "settings" in allowed else allowed  # the settings' values
    outside = ours - allowed - {layer(path), "__version__"}
    assert not outside, f"{path.relative_to(PACKAGE)} may not import jaxstyle.{', jaxstyle.'.join(outside)}"


def test_only_the_solvers_that_are_jaxopts_import_it():
    users = {str(p.relative_to(PACKAGE)) for p in MODULES if any(n.split(".")[0] == "jaxopt" for n in imports(p))}
    assert users == {"style/solvers/lbfgs.py", "style/solvers/zoom.py"}


@pytest.mark.parametrize("folder", ["data", "decode", "planning"])
def test_layers_below_the_engine_do_not_import_jax(folder):
    paths = list((PACKAGE / folder).rglob("*.py"))
    assert paths
    for path in paths:
        assert not {n.split(".")[0] for n in imports(path)} & JAX, path


def test_vmap_appears_once():
    calls = [
        (path.name, node.lineno)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("vmap", "pmap")
    ]
    assert len(calls) == 1 and calls[0][0] == "stylizer.py", calls


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_and_reads_in_one_sitting(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 320


def loaded_after(code: str) -> set[str]:
    show = "import sys; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.splitlines()}


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"jax", "flax", "jaxopt", "optax", "numpy", "PIL", "h5py"}
    assert not loaded_after("import jaxstyle") & heavy
    assert not loaded_after("import jaxstyle.cli") & heavy


def test_two_files_of_the_engine_import_jax():
    users = {p.name for p in MODULES if layer(p) == "engine" and any(n.split(".")[0] == "jax" for n in imports(p))}
    assert users == {"device.py", "jax_setup.py"}


@pytest.mark.parametrize("module", ["engine.pipeline", "planning.forecast", "data.audit", "decode.worker"])
def test_runs_forecasts_audits_and_decoders_begin_without_jax(module):
    assert not loaded_after(f"import jaxstyle.{module}") & JAX


def test_a_decoder_process_loads_what_it_needs_only():
    loaded = loaded_after("import jaxstyle.decode.worker")
    assert "PIL" in loaded and not loaded & {*JAX, "h5py", "cyclopts", "rich", "filelock", "platformdirs"}
