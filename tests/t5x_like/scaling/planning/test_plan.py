"""`t5x-like plan`: a model that can be built, its training, its cost, and one line for mistakes."""

import json
import shlex

import pytest

from t5x_like import cli
from t5x_like.errors import UserError
from t5x_like.scaling import family, recipe
from t5x_like.scaling.laws import AllocationLaw
from t5x_like.scaling.named_laws import known, named
from t5x_like.scaling.planning.accelerators import accelerators
from t5x_like.scaling.planning.plan import Question, plan
from t5x_like.scaling.planning.plan_report import plan_text


def planned(capsys, *flags):
    assert cli.main(["plan", "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def chinchilla():
    """The plan for Chinchilla's budget by approach 1, on 1,024 v5p."""
    return plan(
        Question(flops=5.76e23),
        law="hoffmann2022_approach1",
        family="chinchilla",
        accelerators=accelerators("v5p-2048"),
        mfu=0.5,
    )


def test_chinchilla_from_its_budget(chinchilla):
    """Hoffmann et al. 2022, table 3: 67B and 1.5T from 5.76e23; built as 80 layers of 8,192 and
    64 heads of 128 (table 4), with 4 times as many units in the MLP."""
    written = chinchilla.to_json()
    assert written["parameters"] == pytest.approx(67e9, rel=0.05)
    assert written["tokens"] == pytest.approx(1.5e12, rel=0.05)
    assert written["flops"] == pytest.approx(5.76e23)
    assert written["config"]["EMBED_DIM"] == 8192
    assert written["config"]["NUM_HEADS"] * written["config"]["HEAD_DIM"] == 8192
    assert written["config"]["NUM_LAYERS"] == pytest.approx(80, rel=0.1)
    assert written["model"]["parameters"] == pytest.approx(written["parameters"], rel=0.03)


def test_steps_and_batches_make_the_tokens(chinchilla):
    written = chinchilla.to_json()
    assert written["steps"] * written["batch_tokens"] == written["model"]["tokens"]
    assert written["model"]["tokens"] == pytest.approx(written["tokens"], rel=1e-3)
    assert written["config"]["BATCH_SIZE"] * 2048 == written["batch_tokens"]
    assert written["config"]["BATCH_SIZE"] % 1024 == 0  # for each of the chips as many rows


def test_device_hours_are_the_exact_flops_over_the_speed(chinchilla):
    written = chinchilla.to_json()
    hours = written["model"]["flops_exact"] / (459e12 * 0.5) / 3600
    assert written["chips"] == 1024
    assert written["device_hours"] == pytest.approx(hours)
    assert written["wall_days"] == pytest.approx(hours / 1024 / 24)


def test_exact_flops_are_near_6nd_with_attention_above_it(chinchilla):
    model = chinchilla.to_json()["model"]
    assert model["flops_6nd"] < model["flops_needed"] < model["flops_exact"]
    assert model["flops_ratio"] == pytest.approx(model["flops_exact"] / model["flops_6nd"])
    assert model["flops_ratio"] < 1.25


def test_the_printed_command_is_a_training_of_that_model(chinchilla, capsys):
    command = shlex.split(chinchilla.to_json()["command"])
    assert command[:2] == ["t5x-like", "train"]
    assert cli.main([*command[1:], "--dry_run"]) == 0
    text = capsys.readouterr().out
    layers = chinchilla.model.shape.num_layers
    assert f"NUM_LAYERS = {layers}" in text
    assert f"TRAIN_STEPS = {chinchilla.model.training.steps}" in text


def test_what_gin_flags_change_of_the_family_is_planned_and_in_the_command(capsys):
    """Two tables of LLaMA's, of 384 bytes in place of 32,000 tokens."""
    written = planned(capsys, "--flops=1e17", "--family=llama", "--gin.VOCAB_SIZE=384")
    model = written["model"]
    embeddings = model["parameters"] - model["parameters_without_embeddings"]
    assert embeddings == 2 * 384 * model["embed_dim"]
    assert "--gin.VOCAB_SIZE=384" in shlex.split(written["command"])


def test_a_family_whose_heads_divide_the_width_is_given_no_size_of_a_head(capsys):
    """Nothing of LLaMA's reads HEAD_DIM: a flag for it would be refused by `train`."""
    written = plan(Question(flops=1e19), family="llama").to_json()
    assert "HEAD_DIM" not in written["config"]
    assert (
        written["model"]["num_heads"] * written["model"]["head_dim"]
        == written["config"]["EMBED_DIM"]
    )
    assert cli.main([*shlex.split(written["command"])[1:], "--dry_run"]) == 0


# -- The command -----------------------------------------------------------------------------


def test_json_has_everything_and_stands_alone(capsys):
    written = planned(capsys, "--flops=1e18", "--family=gpt2")
    low, high = written["loss_interval"]
    assert low < written["loss"] < high
    assert written["law"]["name"] == "besiroglu2024"
    assert written["intervals"]["parameters"][0] < written["parameters"]
    assert written["device_hours"] is None
    assert {"config", "learning_rate", "batch_tokens", "steps", "notes"} <= set(written)


def test_a_row_is_no_longer_than_the_familys_positions(capsys):
    written = planned(capsys, "--parameters=30m", "--tokens=600M", "--family=gpt1")
    assert written["config"]["TASK_FEATURE_LENGTHS"] == {"targets": 512}
    assert (written["parameters"], written["tokens"]) == (30e6, 600e6)
    assert written["flops"] == pytest.approx(6 * 30e6 * 600e6)


@pytest.mark.slow
def test_kaplans_n_is_built_without_embeddings(capsys):
    written = planned(capsys, "--parameters=20m", "--law=kaplan 2020", "--family=gpt2")
    model = written["model"]
    assert model["parameters_without_embeddings"] == pytest.approx(20e6, rel=0.1)
    assert model["parameters"] > 1.2 * model["parameters_without_embeddings"]
    assert any("counts no embeddings" in note for note in written["notes"])
    assert written["loss_interval"] is None


class OneWidth(recipe.Recipe):
    """Finds its model sooner."""

    def widths(self):
        return [256]


def test_an_encoder_decoder_reads_inputs_too():
    question = Question(parameters=20e6, tokens=100e6)
    found = plan(question, family="t5_1_1", recipe=OneWidth())
    model = found.model
    assert model.feature_lengths == {"inputs": 512, "targets": 114}
    sides = {"encoder_input_tokens": (1, 512), "decoder_input_tokens": (1, 114)}
    row = family.model_of(model.family, model.shape).step_flops(
        {**sides, "decoder_target_tokens": (1, 114)}
    )
    assert found.training_flops == pytest.approx(row * model.rows * model.training.steps)
    assert any("encoder-decoder" in note for note in found.notes)


def test_the_speed_of_an_encoder_decoder_is_in_the_positions_that_train_logs():
    question = Question(parameters=20e6, tokens=100e6)
    options = {"family": "t5_1_1", "recipe": OneWidth(), "accelerators": accelerators("v4-32")}
    found = plan(question, **options, mfu=0.25)
    # One of 16 chips, 275 TFLOP/s: a row has 512 + 114 positions.
    row = found.model.flops_per_token * 114
    assert found.tokens_per_second == pytest.approx(0.25 * 275e12 / row * 626)
    measured = plan(question, **options, tokens_per_second=found.tokens_per_second)
    assert measured.mfu == pytest.approx(0.25)
    assert measured.wall_days == pytest.approx(found.wall_days)
    assert "of each chip, inputs and targets, padding" in plan_text(measured, recipe.Recipe())


def test_files_modules_and_flags_stand_in_the_command_after_the_plans_own(capsys):
    given = ["--gin_file=hardware/v5p_2048.gin", "--gin.MODEL_DIR=runs/mine"]
    written = planned(
        *(capsys, "--flops=1e17", "--family=gpt2", "--module_import=models.gpt", *given)
    )
    command = shlex.split(written["command"])
    assert command.index("--gin_file=runs/pretrain.gin") < command.index(given[0])
    assert [flag for flag in command if "MODEL_DIR" in flag] == [given[1]]
    assert "--module_import=models.gpt" in command


def test_what_is_too_large_to_build_is_planned_and_says_so(capsys):
    written = planned(capsys, "--flops=1.30e28", "--law=hoffmann2022_approach1", "--family=gpt2")
    assert written["parameters"] == pytest.approx(10e12, rel=0.05)
    assert written["config"] is None
    assert any(note.startswith("no model: no gpt2 of") for note in written["notes"])


def test_inference_and_repeated_data_are_reported_beside_the_compute_optimum(capsys):
    written = planned(
        *(capsys, "--loss=2.9", "--inference_tokens=1T", "--unique_tokens=1B", "--family=gpt2")
    )
    alone = written["compute_optimal"]
    assert written["parameters"] < alone["parameters"]
    assert written["loss"] == pytest.approx(2.9)
    cost = 6 * written["parameters"] * written["tokens"] + 2 * written["parameters"] * 1e12
    assert written["total_flops"] == pytest.approx(cost)
    assert written["total_flops"] < alone["total_flops"]
    assert written["epochs"] == pytest.approx(max(1, written["tokens"] / 1e9))
    assert written["effective_tokens"] <= written["tokens"]


def test_the_text_says_the_rule_of_each_choice(capsys):
    assert cli.main(["plan", "--flops=1e18", "--family=gpt2", "--chips=h100-8", "--mfu=0.3"]) == 0
    text = capsys.readouterr().out
    for part in (
        *("besiroglu2024: Besiroglu et al. 2024", "given flops 1e+18", "95%:", "nats"),
        *("nearest gpt2 that can be built", "times 6ND", "0.292 C^0.3271", "0.3118 C^-0.125"),
        *("8  H100, 989 TFLOP/s each, MFU 0.3", "t5x-like train --gin_file=optimizers/adamw.gin"),
    ):
        assert part in text


def test_the_command_in_the_text_is_the_one_in_the_json(chinchilla):
    text = plan_text(chinchilla, recipe.Recipe())
    printed = text[text.index("  t5x-like train") :]
    assert all(len(line) <= 102 for line in printed.splitlines())
    assert shlex.split(printed.replace("\\\n", " ")) == shlex.split(chinchilla.model.command)


def test_a_law_without_a_loss_of_its_own_says_on_whose_loss_inference_is_weighed():
    question = Question(flops=1e30, inference_tokens=1e12)  # no model of that size is built
    found = plan(question, law="hoffmann2022_approach1", family="gpt2")
    assert any("weighed on the loss of hoffmann2022_approach3" in note for note in found.notes)


# -- A fit's file ----------------------------------------------------------------------------


@pytest.fixture
def fit_file(tmp_path):
    """A fit as `fit --json` writes it, with a bootstrap of which one resample failed."""
    law, samples = named("besiroglu2024"), known("besiroglu2024").samples
    columns = {
        name: [None, *getattr(samples, name).tolist()] for name in ("E", "A", "B", "alpha", "beta")
    }
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({"law": law.to_json(), "samples": columns}))
    return path


def test_a_fits_file_plans_like_its_law_with_intervals_of_its_bootstrap(fit_file):
    question = Question(flops=1e30)  # no model of that size is built
    ours = plan(question, law=str(fit_file), family="gpt2").to_json()
    published = plan(question, law="besiroglu2024", family="gpt2").to_json()
    for key in ("parameters", "tokens", "loss", "loss_interval", "intervals"):
        assert ours[key] == published[key]


def test_a_fit_without_a_bootstrap_has_no_interval_and_says_why(fit_file):
    written = json.loads(fit_file.read_text())
    fit_file.write_text(json.dumps({"law": written["law"], "samples": {}}))
    found = plan(Question(flops=1e30), law=str(fit_file), family="gpt2").to_json()
    assert found["loss_interval"] is None
    assert any("no bootstrap samples" in note for note in found["notes"])


def test_a_law_that_its_runs_do_not_determine_has_no_interval_and_says_so(fit_file):
    written = json.loads(fit_file.read_text())
    fit_file.write_text(json.dumps({**written, "undetermined": ["beta", "a"]}))
    found = plan(Question(flops=1e30), law=str(fit_file), family="gpt2").to_json()
    assert found["loss_interval"] is None and found["intervals"] == {}
    assert any("do not determine its beta, a" in note for note in found["notes"])


def test_a_fit_that_only_divides_a_budget_has_intervals_of_n_and_d_and_no_loss(fit_file):
    law = AllocationLaw(0.1, 0.5, name="approach2")
    samples = {"coefficient": [0.09, 0.1, 0.11], "exponent": [0.5, 0.5, 0.5]}
    fit_file.write_text(json.dumps({"law": law.to_json(), "samples": samples}))
    written = plan(Question(flops=1e30), law=str(fit_file), family="gpt2").to_json()
    assert written["loss"] is None and written["loss_interval"] is None
    assert written["intervals"]["parameters"] == pytest.approx([0.9e14, 1.1e14])
    assert any("predicts no loss" in note for note in written["notes"])
    with pytest.raises(UserError, match=r"--loss=2: approach2 predicts no loss"):
        plan(Question(loss=2.0), law=str(fit_file), family="gpt2")


# -- Mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--flops=many"], "'many' is not a number above 0, such as 5.76e23, 70b or 1.4T"),
        (["--flops=0"], "'0' is not a number above 0"),
        (["--flops=-1e20"], "'-1e20' is not a number above 0"),
        ([], "a plan needs one of --flops, --parameters, --tokens and --loss"),
        (["--flops=1e20", "--loss=2"], "found --flops and --loss"),
        (["--loss=1.8"], "--loss=1.8 is not above 1.8172"),
        (["--flops=1e20", "--law=hoffman2022"], "no law 'hoffman2022': there are kaplan2020"),
        (["--flops=1e20", "--law=missing.json"], "--law=missing.json: not the JSON of a fit"),
        (["--flops=1e20", "--law=LICENSE.json"], "--law=LICENSE.json: not the JSON of a fit"),
        (["--flops=1e20", "--law=other.json"], 'not a fit, it has no "law"'),
        (["--flops=1e20", "--family=gofer"], "no family 'gofer'"),
        (["--flops=1e20", "--chips=v5q-8"], "no chip 'v5q'"),
        (["--flops=1e20", "--chips=a100", "--mfu=1.5"], "--mfu=1.5: a share of the chips' peak"),
        (
            ["--flops=1e20", "--chips=a100", "--mfu=0.4", "--tokens_per_second=9"],
            "give it with --chips and without --mfu",
        ),
        (["--flops=1e20", "--mfu=0.4"], "--mfu is of chips: name them"),
        (["--flops=1e20", "--tokens_per_second=9"], "--tokens_per_second is of chips: name them"),
        (["--flops=1e20", "--watts=300"], "--watts is of chips: name them"),
        (["--flops=1e20", "--chips="], "--chips=: wanted a chip and how many"),
        (
            ["--flops=1e20", "--chips=v4:16x16x16", "--chips=v3-8"],
            "--chips is given twice, as v4:16x16x16 and as v3-8: give one",
        ),
        (["--flops=1e20", "--gin_search_paths=x"], "--gin_search_paths: `plan` has none"),
        (["--tokens=1,4T"], "'1,4T' is not a number above 0"),
        (["--parameters=1,00,000"], "'1,00,000' is not a number above 0"),
        (
            ["--flops=1e20", "--family=lstm", "--chips=a100", "--tokens_per_second=1b"],
            "times the peak of one A100; it is the speed of one chip, not of all",
        ),
        (["--flops=1e20", "--chips=a100", "--pue=0.9"], "--pue=0.9: at least 1"),
        (["--flops=1e20", "--chips=a100", "--pue=inf"], "--pue=inf: at least 1"),
        (
            ["--flops=1e20", "--chips=a100", "--kg_co2_per_kwh=-1"],
            "--kg_co2_per_kwh=-1: kg a kWh, at least 0",
        ),
        (
            ["--flops=1e20", "--family=gpt2", "--gin.BATCH_SIZE=7"],
            "--gin.BATCH_SIZE: BATCH_SIZE is for the plan to decide: leave it out",
        ),
        (
            ["--flops=1e20", "--family=gpt2", "--gin.NUM_LAYERS=4"],
            "--gin.NUM_LAYERS: NUM_LAYERS is for the plan to decide: --parameters says",
        ),
        (
            ["--flops=1e20", "--family=gpt2", "--gin_file=tasks/stdlib_lm.gin"],
            "tasks/stdlib_lm.gin:8: TASK_FEATURE_LENGTHS is for the plan to decide: --row_tokens",
        ),
        (
            ["--flops=1e20", "--family=gpt2", "--gin_file=optimizers/lion.gin"],
            "optimizers/lion.gin:16: OPTIMIZER is for the plan to decide: its learning rate is of",
        ),
        (
            ["--flops=1e20", "--family=gpt2", "--gin_file=directory.gin"],
            "directory.gin:1: MODEL_DIR is for the plan to decide: give it as --gin.MODEL_DIR",
        ),
        (
            ["--flops=1e20", "--family=gpt2", "--gin.gpt.GPT2.num_layers=4"],
            "so that nothing reads NUM_LAYERS, which is for the plan to decide",
        ),
        (["--flops=1e20", "--family=gpt2", "--gin.NOSUCH=3"], "--gin.NOSUCH: nothing reads it"),
        (
            ["--flops=1e20", "--family=gpt2", "--gin.VOCAB_SIZE=foo"],
            "VOCAB_SIZE is 'foo', but models.gpt.GPT2.vocab_size takes an integer",
        ),
        (["--flops=1e20", "--row_tokens=0"], "--row_tokens=0: at least 1"),
        (["--tokens=1T", "--inference_tokens=1T"], "leaves nothing to choose"),
        (["--parameters=1b", "--tokens=1T", "--unique_tokens=1b"], "1000.0 epochs"),
        (["--loss=2.1", "--unique_tokens=1b"], "1e+09 unique tokens allow"),
    ],
)
def test_a_mistake_is_one_line(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory.gin").write_text("MODEL_DIR = 'runs/mine'")
    (tmp_path / "LICENSE.json").write_text("Apache")
    (tmp_path / "other.json").write_text('{"loss": 2}')
    assert cli.main(["plan", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("70b", 70e9),
        ("1.4T", 1.4e12),
        ("300,000", 3e5),
        ("1,300,000.5", 1300000.5),
        ("5.76e23", 5.76e23),
    ],
)
def test_numbers_may_have_suffixes(text, number):
    from t5x_like.cli.scaling import quantity

    assert quantity(text) == number


def test_a_recipe_of_ones_own_is_followed():
    own = recipe.Recipe(learning_rate_factor=0.5, rows_multiple=24)
    found = plan(Question(flops=1e18), family="gpt2", recipe=own).model
    ours = plan(Question(flops=1e18), family="gpt2").model
    assert found.training.learning_rate == pytest.approx(ours.training.learning_rate / 2, rel=0.01)
    assert found.rows % 24 == 0


@pytest.mark.parametrize("name", ["lstm", "attention_seq2seq"])
def test_a_family_that_is_no_transformer_has_no_law(name, capsys):
    assert cli.main(["plan", "--flops=1e18", f"--family={name}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"no model: the laws are those of Transformers, and '{name}' is none" in said
