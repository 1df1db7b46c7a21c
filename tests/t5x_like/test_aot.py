import json
import math

import pytest

from models.palm import PaLM
from t5x_like import aot, cli, config, optimizers, schedules
from t5x_like.cost import compile_report, fitting_memory
from t5x_like.cost.fitting_memory import shortage
from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner

FLAGS = ["--gin_file=models/palm/tiny.gin", "--gin.TASK_FEATURE_LENGTHS={'targets': 64}"]


@pytest.fixture(scope="module")
def saved(program, tmp_path_factory):
    """PaLM tiny on 8 simulated devices, by the command line; the result and its file."""
    path = tmp_path_factory.mktemp("aot") / "step.json"
    done = program(
        "-m", "t5x_like", "compile", *FLAGS, "--topology=cpu:8", "--gin.BATCH_SIZE=16", "--json",
        "--gin.partitioning.Partitioner.data=4", "--gin.partitioning.Partitioner.tensor=2",
        "--gin.partitioning.Partitioner.replicate_below=0",
        f"--save={path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), path


@pytest.mark.slow
def test_the_result_of_a_mesh_of_simulated_devices(saved):
    report, path = saved
    assert report == json.loads(path.read_text())
    assert report["devices"] == 8
    assert report["mesh"] == {"data": 4, "fsdp": 1, "expert": 1, "sequence": 1, "tensor": 2}
    assert report["batch"]["decoder_input_tokens"] == [16, 64]
    assert set(report["collectives"]) == {"all-reduce"}
    assert {axes for axes in report["collectives"]["all-reduce"]["axes"]} == {"data", "tensor"}
    # What CPUs do not tell.
    assert report["hbm_bytes"] is report["fits"] is report["step_seconds"] is report["mfu"] is None


def test_donated_arguments_are_counted_once(saved):
    """Parameters and Adafactor's state come back in their own place; metrics are new."""
    report, _ = saved
    new = report["output_bytes"] - report["donated_bytes"]
    assert 0 < new < 1000
    assert report["used_bytes"] == (
        report["argument_bytes"] + report["temporary_bytes"] + report["program_bytes"] + new
    )


def test_flops_are_those_of_all_layers(saved):
    """Within what causal blocks leave out and rematerialization adds."""
    report, _ = saved
    assert 0.9 < report["flops"] / report["model_flops"] < 1.3
    assert sum(report["flops_of_dtypes"].values()) == report["flops"]


def test_parts_of_the_program_add_up_and_have_the_models_names(saved):
    report, _ = saved
    parts = report["parts"]
    for cost in ("flops", "bytes_accessed"):
        assert math.isclose(sum(part[cost] for part in parts.values()), report[cost], rel_tol=1e-9)
    assert {"mlp", "attention_projections", "attention_scores", "head", "embedding"} <= set(parts)
    assert (
        parts["norm"]["flops"] == parts["update"]["flops"] == 0 < parts["update"]["bytes_accessed"]
    )
    with config.isolated():
        config.parse(["models/palm/tiny.gin"])
        model = config.macro("MODEL")
    shapes = {name: tuple(shape) for name, shape in report["batch"].items()}
    for name in ("mlp", "head"):
        # Two products in the backward pass, and that of the forward pass once more by `remat`.
        once = model.forward_flops(shapes)[name].full / report["devices"]
        assert 2.9 * once < parts[name]["flops"] < 4.1 * once


def test_the_text_shows_the_parts_that_cost_something(saved):
    report, _ = saved
    traffic = report["bytes_accessed"]
    parts = {
        "attention_scores": {"flops": 0.0, "bytes_accessed": 0.75 * traffic},
        "mlp": {"flops": report["flops"], "bytes_accessed": 0.242 * traffic},
        "norm": {"flops": 0.0, "bytes_accessed": 0.008 * traffic},
    }
    lines = compile_report.report_text(report | {"parts": parts}).splitlines()
    start = next(i for i, line in enumerate(lines) if "HBM traffic" in line)
    shown = [line.split() for line in lines[start + 1 : start + 4]]
    assert [" ".join(line[-6:]) for line in shown] == [
        "75%, and 0% of the FLOPs", "24%, and 100% of the FLOPs", "1%, and 0% of the FLOPs",
    ]  # fmt: skip
    assert [line[0] for line in shown] == ["attention", "mlp", "other"]


def test_the_text_has_the_share_of_products_in_8_bits(saved):
    report, _ = saved
    assert "in s8" not in compile_report.report_text(report)
    parts = {"s8": 0.25 * report["flops"], "f32": 0.75 * report["flops"]}
    text = compile_report.report_text(report | {"flops_of_dtypes": parts})
    assert "of the program, 25% in s8\n" in text


def test_compare_shows_old_new_and_ratio(saved):
    report, path = saved
    assert compile_report.compare_text(report, report) == "nothing changed"
    newer = report | {"flops": 2 * report["flops"], "mfu": [0.5, 0.25]}
    lines = compile_report.compare_text(compile_report.read(str(path)), newer).splitlines()
    assert lines[0].split() == ["old", "new", "new", "/", "old"]
    assert [line.split()[0] for line in lines[1:]] == ["flops", "mfu.best", "mfu.worst"]
    assert lines[1].endswith("2.000")


def test_the_text_names_every_exchange(saved):
    report, _ = saved
    text = compile_report.report_text(report)
    assert "8 devices, mesh data 4, tensor 2" in text
    assert "along tensor" in text
    assert "simulated devices: no limit" in text


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--topology=v5p:5x5x5"], "topology 'v5p:5x5x5' is no slice that can be compiled for"),
        (["--topology=cpu:1", "--save=nowhere/x.json"], "--save=nowhere/x.json is in no directory"),
        (["--topology=cpu:1", "--save=."], "--save=. is a directory"),
        (["--topology=cpu:1", "--gin.BATCH_SIZE=0"], "BATCH_SIZE is 0: it must be a whole number"),
        (["--topology=cpu:1", "--compare=nowhere.json"], "nowhere.json is no kept result"),
        ([], "TOPOLOGY (slice to compile for"),
        (["--topology=cpu:1", "--gin.partitioning.Partitioner.tensor=3"], "mesh data=-1, tensor=3"),
    ],
)
def test_mistakes_are_one_line(flags, says, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compile", *FLAGS, *flags]) == 2
    printed = capsys.readouterr()
    assert says in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not printed.out


def test_the_attention_that_was_chosen_is_told_with_the_reason(saved):
    report, _ = saved
    (line,) = report["attention"]
    assert line.startswith("attention (") and line.endswith(": in blocks, on cpu")
    assert line in compile_report.report_text(report).splitlines()


# -- What would make it fit ----------------------------------------------------------------------

FULL = {
    "topology": "v5p:2x4x4",
    "devices": 32,
    "mesh": {"data": 1, "fsdp": 32, "expert": 1, "sequence": 1, "tensor": 1},
    "batch": {"decoder_input_tokens": [2048, 2048]},
    "num_microbatches": 1,
    "hbm_bytes": 100,
    "argument_bytes": 10,
    "temporary_bytes": 300,
    "used_bytes": 310,
}


def changes(policy="dots", rules="standard", **report):
    return fitting_memory.advice({**FULL, **report}, policy, rules)


def test_what_would_make_a_step_fit_from_the_cheapest_on():
    first, second, last = changes()
    assert first.startswith("--gin.model.Model.remat_policy=full ") and "(now dots)" in first
    # 300 bytes of temporaries in the 90 that the state leaves: four pieces, of a device's 64 rows.
    assert second.startswith("--gin.NUM_MICROBATCHES=4 computes 16 of a device's 64 rows")
    assert last.startswith("a slice of 64 devices")


def test_what_is_done_already_is_not_advised():
    assert not any("remat" in change for change in changes(policy="full"))
    assert not any("MICROBATCHES" in change for change in changes(num_microbatches=64))
    assert "NUM_MICROBATCHES=2 " in " ".join(changes(temporary_bytes=None))
    mesh = {"data": 8, "fsdp": 1, "tensor": 4}
    text = " ".join(changes(mesh=mesh))
    assert "rules=sequence_parallel" in text and "Partitioner.fsdp=-1" in text
    assert "sequence_parallel" not in " ".join(changes(mesh=mesh, rules="sequence_parallel"))


def test_a_state_that_is_too_large_needs_more_devices():
    (only,) = changes(argument_bytes=250)
    assert only.startswith("a slice of 128 devices")


def test_a_step_that_does_not_fit_exits_with_1_after_its_report(saved, monkeypatch, capsys):
    report = {**saved[0], "hbm_bytes": saved[0]["used_bytes"] - 2**20, "fits": False}
    report["would_fit"] = ["--gin.NUM_MICROBATCHES=2"]
    monkeypatch.setattr(config, "configured", lambda *_: lambda: report)
    assert cli.main(["compile", *FLAGS, "--topology=cpu:1"]) == 1
    printed = capsys.readouterr()
    assert "what would make it fit, from the cheapest on\n  --gin.NUM_MICRO" in printed.out
    assert printed.err.startswith("t5x-like: error: the step of cpu:8 does not fit: 1.0 MiB of ")
    assert len(printed.err.strip().splitlines()) == 1


def tiny(num_layers):
    return PaLM(vocab_size=128, embed_dim=32, num_heads=2, head_dim=16, num_layers=num_layers)


def compiled(model, **options):
    return aot.compile_step(
        model=model,
        optimizer=optimizers.adafactor(schedules.Constant(0.01)),
        topology="cpu:1",
        task_feature_lengths={"targets": 32},
        batch_size=8,
        **options,
    )


@pytest.mark.slow
def test_the_program_does_not_grow_with_depth():
    shallow, deep = compiled(tiny(12)), compiled(tiny(118))
    assert deep["instructions"] / shallow["instructions"] < 1.05
    assert deep["flops"] / shallow["flops"] == pytest.approx(118 / 12, rel=0.1)


@pytest.mark.slow
def test_packed_rows_have_segments_and_positions():
    report = compiled(tiny(1), packed=True, num_microbatches=2)
    names = ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")
    assert set(report["batch"]) == {f"decoder_{name}" for name in names}


def test_a_batch_must_divide_over_the_data_shards():
    with pytest.raises(UserError, match="choose a divisor"):
        compiled(tiny(1), num_microbatches=3)


def test_what_the_compiler_says_of_its_limits():
    """As libtpu 0.0.42.1 words it."""
    full = aot._exhausted(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (35.12G) exceeds available HBM (30.75G).",
        1000,
    )
    assert full["argument_bytes"] == 1000
    assert full["used_bytes"] == pytest.approx(35.12 * 2**30)
    report = {"hbm_bytes": math.floor(30.75 * 2**30), "fits": False, **full}
    assert compile_report._verdict(report) == "does not fit: 4.37 GiB of 30.75 GiB too much"
    assert shortage({**report, "used_bytes": None}) == "does not fit 30.75 GiB"
    with pytest.raises(UserError, match=r"groups of 3, .*16 rather than 12"):
        aot._exhausted("INTERNAL: AllReduce fusion with 3 sized replica_groups", 1000)


def test_a_partitioner_keeps_its_rules_on_other_devices():
    with pytest.raises(UserError, match="does not fit 1 devices of a slice"):
        compiled(tiny(1), partitioner=Partitioner(fsdp=2, data=1))
