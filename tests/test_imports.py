"""The order of layers: which modules may import which, and what heavy libraries each may reach."""

import ast
import itertools
import subprocess
import sys

import pytest

from tests.running import ROOT

PACKAGE = "electra_jax"

# From the bottom up. A package stands for all of its modules. A module imports from layers below its own, and from its
# own package; packages and modules of one line do not import each other.
LAYERS = (
    ("errors",),
    ("allocator", "cloud_notices", "collapse", "nested", "progress", "stop_signals", "storage", "wording"),
    ("foreign_json", "hub_names", "ownership"),
    ("dataset_manifest",),
    ("config",),
    ("models", "text"),
    ("training",),
    ("pretraining",),
    ("interop",),
    ("finetuning",),
    ("inference",),
    ("browser",),
    ("config_rules",),
    ("tpu_planning",),
    ("presets",),
    ("entry_point",),
    ("runs",),
    ("convert", "demo", "main", "plan", "predict", "prepare", "report"),
)
# Next to these layers: imports those below "config" alone, and only the two highest import it.
BESIDE = "reporting"

# Imports that break the order and have yet to go; an entry that no module needs fails the test.
EXCEPTIONS: set[tuple[str, str]] = set()

JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
TENSORFLOW = {"tensorflow", "tensorflow_datasets"}
FILES = {
    "fsspec", "io", "os", "pathlib", "shutil", "socket", "subprocess", "tempfile", f"{PACKAGE}.storage", f"{PACKAGE}.progress"
}  # fmt: skip
# What no module of a package, nor that module, imports itself, not even within a function.
FORBIDDEN = {
    "config": JAX | TENSORFLOW,
    "reporting": JAX | TENSORFLOW,
    "text": JAX,
    "models": TENSORFLOW | {"ml_collections"} | FILES,
    "pretraining": TENSORFLOW | {"ml_collections"} | FILES,
    "training.step": TENSORFLOW | {"ml_collections"} | FILES,
    "training.sharding_rules": JAX | TENSORFLOW,
}


def modules_of(root):
    """The files of our modules by name without the package's, `training.step` for example."""
    names = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(root / PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            names[name] = path
    return names


def imported_by(path, ours):
    """Full names of the modules that a file imports, those within functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            # `from package import module` imports the module.
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix(f"{PACKAGE}.") in ours else node.module for name in full}
    return found


def imports_of(root):
    """What each of our modules imports."""
    names = modules_of(root)
    return {name: imported_by(path, names) for name, path in names.items()}


def our_imports(imports):
    """Imports of our own modules alone."""
    return {
        name: {other.removeprefix(f"{PACKAGE}.") for other in found if other.startswith(f"{PACKAGE}.")}
        for name, found in imports.items()
    }


def top(name):
    return name.partition(".")[0]


def order_problems(imports):
    """Imports against the order of layers, and exceptions that nothing needs."""
    layer_of = {name: number for number, names in enumerate(LAYERS) for name in names}
    highest = len(LAYERS) - 1
    problems, needed = [], set()
    for name, found in our_imports(imports).items():
        if top(name) not in layer_of and top(name) != BESIDE:
            problems.append(f"{name}: has no layer; add it to LAYERS and to the map in WORKSPACE.md")
            continue
        for other in sorted(found):
            one, two = top(name), top(other)
            if one == two or two not in layer_of | {BESIDE: 0}:
                continue
            if one == BESIDE:
                allowed = layer_of[two] < layer_of["config"]
            elif two == BESIDE:
                allowed = layer_of[one] >= highest - 1
            else:
                allowed = layer_of[two] < layer_of[one]
            if not allowed and (one, two) in EXCEPTIONS:
                needed.add((one, two))
            elif not allowed:
                problems.append(f"{name} imports {other}, which is not below it")
    return problems + [f"the exception {one} → {two} is no longer needed" for one, two in sorted(EXCEPTIONS - needed)]


def cycles(imports):
    """Modules that import themselves by way of others, each a chain."""
    graph, done, found = our_imports(imports), set(), []

    def visit(name, chain):
        if name in chain:
            found.append(" → ".join([*chain[chain.index(name) :], name]))
        elif name not in done and name in graph:
            for other in sorted(graph[name]):
                visit(other, [*chain, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def library_problems(imports):
    """Imports that a package must not have."""
    problems = []
    for name, found in imports.items():
        for prefix, forbidden in FORBIDDEN.items():
            if name == prefix or name.startswith(f"{prefix}."):
                wrong = sorted(other for other in found if other in forbidden or top(other) in forbidden)
                problems += [f"{name} imports {other}" for other in wrong]
    return problems


@pytest.fixture(scope="module")
def imports():
    return imports_of(ROOT)


def test_modules_import_from_layers_below_only(imports):
    assert order_problems(imports) == []


def test_no_module_imports_itself_through_others(imports):
    assert cycles(imports) == []


def test_packages_import_no_library_they_must_do_without(imports):
    assert library_problems(imports) == []


def test_the_map_in_workspace_names_every_module_of_the_top():
    text = (ROOT / "WORKSPACE.md").read_text("utf-8")
    table = text.partition("## Map")[2].partition("\n## ")[0]
    missing = [name for name in (*itertools.chain(*LAYERS), BESIDE) if f"`{name}" not in table]
    assert missing == []


@pytest.fixture
def written(tmp_path):
    """Writes the modules of a small package, and returns their imports."""

    def write(**sources):
        for name, source in sources.items():
            path = (tmp_path / PACKAGE).joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return imports_of(tmp_path)

    return write


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        ("training__loop", "from electra_jax.text.dataset import shards", ""),
        ("training__loop", "import electra_jax.interop.model", "training.loop imports interop.model, which is not"),
        ("models__layers", "def f():\n    from electra_jax.text import lines", "models.layers imports text"),
        ("reporting__page", "from electra_jax import wording", ""),
        ("reporting__page", "from electra_jax.text import lines", "reporting.page imports text"),
        ("training__loop", "from electra_jax.reporting import page", "training.loop imports reporting"),
        ("plan", "from electra_jax.reporting import page", ""),
        ("plan", "from electra_jax import main", "plan imports main"),
        ("helpers", "", "helpers: has no layer"),
    ],
)
def test_an_import_against_the_order_is_found(written, name, source, problem):
    others = dict.fromkeys(
        ("text__lines", "text__dataset__shards", "interop__model", "reporting__page", "wording", "main"), ""
    )
    found = [
        text for text in order_problems(written(**others | {name: source})) if not text.startswith("the exception")
    ]
    assert len(found) == bool(problem)
    assert "".join(found).startswith(problem)


def test_a_cycle_is_found(written):
    made = written(
        text__a="from electra_jax.text import b", text__b="from electra_jax.text.c import d", text__c="import electra_jax.text.a"
    )  # fmt: skip
    assert cycles(made) == ["text.a → text.b → text.c → text.a"]


def test_a_forbidden_library_is_found(written):
    made = written(
        text__a="import jax.numpy", models__b="def f():\n    import pathlib", training__loop="import pathlib"
    )
    assert library_problems(made) == ["models.b imports pathlib", "text.a imports jax.numpy"]


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        (["collapse", "config"], JAX | TENSORFLOW),
        (["report", "reporting.dataset_card"], JAX | TENSORFLOW | {"matplotlib"}),
        (["predict", "inference.inputs"], JAX | TENSORFLOW | {"optax", "sklearn", "pyarrow"}),
        (
            ["text.dataset.writer", "text.dataset.row_batches", "text.sources.text_sources", "prepare"],
            JAX | TENSORFLOW | {"torch", "pyarrow", "zstandard", "fsspec"},
        ),
    ],
)
def test_heavy_libraries_are_loaded_only_when_needed(modules, libraries):
    program = f"import sys, {', '.join(f'{PACKAGE}.{name}' for name in modules)}; print({libraries} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"
