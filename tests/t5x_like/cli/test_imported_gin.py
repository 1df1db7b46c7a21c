"""A run's `config.gin` as that of another MODEL_DIR."""

import pytest

from t5x_like import config
from t5x_like.cli.imported_gin import config_elsewhere

LONG = "gs://a-bucket/" + "experiments-of-a-cluster/" * 4
# Others of the run's, before and after it in the file.
BINDINGS = {
    "ALPHA": "['a list of texts that is so long', 'that it needs', 'lines of its own', 'too']",
    "MODEL": "'" + "of a text " * 12 + "'",
    "TRAIN_STEPS": "10",
}


@pytest.mark.parametrize("model_dir", ["runs/a", LONG, LONG + "a folder with spaces " * 4])
@pytest.mark.parametrize("with_model", [True, False])
def test_it_is_parsed_whatever_the_length_of_the_name(model_dir, with_model, tmp_path):
    with config.isolated():
        config.parse([], [("MODEL_DIR", repr(model_dir)), *BINDINGS.items()])
        (tmp_path / "config.gin").write_text(config.full_text())
    text = config_elsewhere(str(tmp_path), "elsewhere", with_model=with_model)
    (tmp_path / "other.gin").write_text(text)
    with config.isolated():
        config.parse([str(tmp_path / "other.gin")], [])
        assert config.macro("MODEL_DIR") == "elsewhere"
        assert config.macro("TRAIN_STEPS") == 10
        assert config.macro("ALPHA")[-1] == "too"
    assert ("of a text" in text) == with_model
    assert "runs/a" not in text and "experiments-of-a-cluster" not in text
