"""A binding on a base class and one on a derived class: the later holds, as for any name."""

from pathlib import Path

import pytest

from models.language_model import LanguageModel
from t5x_like import config
from t5x_like.config import gin_internals
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.config.inherited_bindings import inherited

GIN_CONFIGS = packaged_gin_configs()
BASE = "language_model.LanguageModel"


def names(folder):
    """Gin files below a folder, by the names that they are given by."""
    found = sorted(Path(GIN_CONFIGS / folder).rglob("*.gin"))
    return [path.relative_to(GIN_CONFIGS).as_posix() for path in found]


MODELS = [name for name in names("models") if not name.endswith("/shape.gin")]
HARDWARE = names("hardware")


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


@pytest.fixture
def gin_file(tmp_path):
    def write(name, text):
        head = (
            "from __gin__ import dynamic_registration\nfrom models import language_model, llama\n"
        )
        head = head.replace("language_model, llama", "language_model\nfrom models import llama")
        (tmp_path / name).write_text(f"{head}MODEL = @llama.LLaMA()\n{text}\n")
        return str(tmp_path / name)

    return write


def dtype():
    return gin_internals.CONFIG["", "models.llama.LLaMA"]["dtype"]


def test_the_later_file_holds_whichever_class_it_binds(gin_file):
    general = gin_file("general.gin", f"{BASE}.dtype = 'bfloat16'")
    own = gin_file("own.gin", "llama.LLaMA.dtype = 'float32'")
    config.parse([own, general])
    assert dtype() == "bfloat16"
    config.parse([general, own])
    assert dtype() == "float32"


def test_a_flag_on_the_base_holds_over_every_file(gin_file):
    own = gin_file("own.gin", "llama.LLaMA.dtype = 'float32'")
    config.parse([own], [(f"{BASE}.dtype", "bfloat16")])
    assert dtype() == "bfloat16"


def test_a_flag_may_name_a_base_class_that_no_file_imports(gin_file, tmp_path):
    path = tmp_path / "b.gin"
    path.write_text(
        "from __gin__ import dynamic_registration\nfrom models import llama\n"
        "MODEL = @llama.LLaMA()\nllama.LLaMA.dtype = 'float32'\n"
    )
    config.parse([str(path)], [(f"{BASE}.dtype", "bfloat16")])
    assert dtype() == "bfloat16"
    assert "from models import language_model" in config.import_lines()
    path.write_text(config.full_text())
    config.parse([str(path)])
    assert dtype() == "bfloat16"


def test_an_include_counts_where_it_stands(gin_file):
    own = gin_file("own.gin", "llama.LLaMA.dtype = 'float32'")
    bound = f"{BASE}.dtype = 'bfloat16'"
    config.parse([gin_file("a.gin", f"{bound}\ninclude '{own}'")])
    assert dtype() == "float32"
    config.parse([gin_file("a.gin", f"include '{own}'\n{bound}")])
    assert dtype() == "bfloat16"


@pytest.mark.parametrize("reverse", [False, True])
def test_within_one_file_or_one_command_line_the_nearest_class_holds(gin_file, reverse):
    """No order is meant there: gin writes its configurations in alphabetical order."""
    order = slice(None, None, -1 if reverse else 1)
    lines = [f"{BASE}.dtype = 'bfloat16'", "llama.LLaMA.dtype = 'float32'"][order]
    config.parse([gin_file("a.gin", "\n".join(lines))])
    assert dtype() == "float32"
    flags = [(f"{BASE}.dtype", "bfloat16"), ("llama.LLaMA.dtype", "float32")][order]
    config.parse([gin_file("a.gin", "")], flags)
    assert dtype() == "float32"


def test_a_file_of_defaults_yields_to_a_files_own_class(gin_file):
    defaults = gin_file("defaults.gin", f"{BASE}.dtype = 'bfloat16'")
    config.parse([gin_file("own.gin", "llama.LLaMA.dtype = 'float32'"), defaults])
    assert dtype() == "float32"


def test_scopes_do_not_mix_and_what_a_class_does_not_take_stays_away():
    class Top:
        def __init__(self, dtype="", width=0):
            """Two parameters."""

    class Middle(Top):
        """The same two."""

    class Leaf(Middle):
        def __init__(self, dtype=""):
            """No width."""

    classes = {"a.Top": Top, "b.Middle": Middle, "c.Leaf": Leaf}
    bindings = {
        ("", "a.Top"): {"dtype": 1, "width": 1},
        ("", "b.Middle"): {"width": 2},
        ("teacher", "b.Middle"): {"dtype": 3},
    }
    order = {("a.Top", "dtype"): 2, ("a.Top", "width"): 1, ("b.Middle", "width"): 3}

    def rank(key, parameter):
        return 1, order.get((key[1], parameter), 0)

    assert inherited(bindings, classes, rank) == {
        ("", "b.Middle"): {"dtype": ("", "a.Top")},
        ("", "c.Leaf"): {"dtype": ("", "a.Top")},
        ("teacher", "c.Leaf"): {"dtype": ("teacher", "b.Middle")},
    }


# -- Every file of hardware/ with every model ---------------------------------------------------


def families():
    """(selector, class) of every language model that gin knows in this process."""
    for selector, item in gin_internals.REGISTRY.items():
        found = item.wrapped
        if isinstance(found, type) and issubclass(found, LanguageModel) and found != LanguageModel:
            yield selector


@pytest.mark.parametrize("hardware", HARDWARE)
def test_a_hardware_file_holds_over_all_models_before_it_and_a_flag_over_it(hardware):
    """All at once: what any model's file binds on its class is bound, then the hardware's."""
    flags = [("language_model.LanguageModel.attention_impl", "other")]
    config.parse([hardware])
    wanted = dict(gin_internals.CONFIG.get(("", f"models.{BASE}"), {}))
    config.parse([*MODELS, hardware])
    assert len(list(families())) >= 14
    for selector in families():
        bound = gin_internals.CONFIG.get(("", selector), {})
        assert {name: bound.get(name) for name in wanted} == wanted, selector
    if wanted:
        flags = [(f"{BASE}.{name}", "'other'") for name in wanted]
        config.parse([*MODELS, hardware], flags)
        for selector in families():
            bound = gin_internals.CONFIG["", selector]
            assert {bound[name] for name in wanted} == {"other"}, selector


@pytest.mark.parametrize("model", MODELS)
def test_a_models_file_holds_over_a_hardware_file_before_it(model):
    config.parse([model])
    own = {key: dict(values) for key, values in gin_internals.CONFIG.items()}
    config.parse(["hardware/h100.gin", model])
    for key, values in own.items():
        assert {name: gin_internals.CONFIG[key][name] for name in values} == values
