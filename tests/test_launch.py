"""The files of a launch: what each names, promises and accepts, without the machines."""

import dataclasses
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_like import cli, config
from t5x_like.distributed.axis_rules import RULE_SETS
from t5x_like.errors import UserError
from t5x_like.host import xla_flags
from t5x_like.partitioning import Partitioner

ROOT = Path(__file__).parent.parent
HARDWARE = ROOT / "gin_configs" / "hardware"
LAUNCH = ROOT / "docs" / "launch"
RUN = ["models/t5_1_1/small.gin", "tasks/stdlib_span_corruption.gin", "runs/pretrain.gin"]
BINDINGS = [("TRAIN_STEPS", "10"), ("MODEL_DIR", "runs/x")]


@dataclasses.dataclass(frozen=True)
class Device:
    """What mesh utilities look at."""

    id: int
    platform: str
    device_kind: str
    process_index: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0
    slice_index: int = 0


def tpu(kind, bounds, cores=1, chips_per_host=4, slices=1):
    """A slice's devices, x fastest as TPUs number them; hosts hold neighbours."""
    x, y, z = bounds
    found = []
    for s in range(slices):
        chips = [(i, j, k) for k, j, i in itertools.product(range(z), range(y), range(x))]
        for n, place in enumerate(chips):
            host = s * len(chips) // chips_per_host + n // chips_per_host
            for core in range(cores):
                found.append(Device(len(found), "tpu", kind, host, place, core, s))
    return found


def gpus(hosts):
    return [
        Device(i, "gpu", "NVIDIA H100", i // 8, (0, 0, 0), slice_index=i // 8)
        for i in range(8 * hosts)
    ]


# Chips: cloud.google.com/tpu/docs, "System architecture" and the page of each version.
MACHINES = {
    "v3_8": (tpu("TPU v3", (2, 2, 1), cores=2), {"fsdp": 8}),
    "v4_32": (tpu("TPU v4", (2, 2, 4)), {"fsdp": 16}),
    "v5e_16": (tpu("TPU v5 lite", (4, 4, 1)), {"fsdp": 16}),
    "v5e_256": (tpu("TPU v5 lite", (16, 16, 1)), {"fsdp": 128, "tensor": 2}),
    "v5p_64": (tpu("TPU v5", (2, 4, 4)), {"fsdp": 32}),
    "v5p_2048": (tpu("TPU v5", (8, 8, 16)), {"fsdp": 128, "tensor": 8}),
    "v6e_256": (tpu("TPU v6 lite", (16, 16, 1)), {"fsdp": 128, "tensor": 2}),
    "h100": (gpus(1)[:1], {}),
    "h100_8": (gpus(1), {"fsdp": 8}),
}
HOSTS = {
    "v3_8": 1,
    "v4_32": 4,
    "v5e_16": 4,
    "v5e_256": 64,
    "v5p_64": 8,
    "v5p_2048": 256,
    "v6e_256": 64,
}
RULES = {
    "data_parallel": {"data": 8},
    "fsdp": {"fsdp": 8},
    "tensor_parallel": {"tensor": 8},
    "fsdp_tensor": {"fsdp": 2, "tensor": 4},
    "expert_parallel": {"expert": 8},
    "sequence_parallel": {"fsdp": 2, "tensor": 4},
    "context_parallel": {"sequence": 8},
}  # fmt: skip


def partitioner_of(files, devices):
    """The partitioner that a run with these files gets."""
    config.parse([*RUN, *files], BINDINGS)
    made = config.configured(Partitioner)()
    return dataclasses.replace(made, devices=tuple(devices))


def sizes(partitioner):
    return {axis: size for axis, size in partitioner.mesh.shape.items() if size > 1}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machines_file_gives_the_mesh_and_the_precision_that_it_promises(name):
    devices, mesh = MACHINES[name]
    partitioner = partitioner_of([f"hardware/{name}.gin"], devices)
    assert sizes(partitioner) == mesh
    model = config.macro("MODEL")
    assert (model.dtype, model.remat_policy in ("full", "dots")) == ("bfloat16", True)
    assert model.embed_dim == 512  # the family's own bindings stay


@pytest.mark.parametrize("name", HOSTS)
def test_a_machines_file_says_what_the_machine_is(name):
    devices, _ = MACHINES[name]
    head = (HARDWARE / f"{name}.gin").read_text().split("from __gin__")[0]
    hosts = len({device.process_index for device in devices})
    assert hosts == HOSTS[name]
    assert ("one host" if hosts == 1 else f"{hosts} hosts") in head
    chips = len({device.coords for device in devices})
    assert re.search(rf"\b{chips:,} chips", head)
    assert "GiB of HBM" in head
    assert f"--gin_file=hardware/{name}.gin" in head


@pytest.mark.parametrize("name", RULES)
def test_a_rule_sets_file_gives_its_mesh_on_eight_devices(name):
    partitioner = partitioner_of([f"hardware/{name}.gin"], tpu("TPU v4", (2, 2, 2)))
    assert sizes(partitioner) == RULES[name]
    assert partitioner.axis_rules == RULE_SETS[name]


def test_a_rule_sets_file_after_a_machines_changes_the_mesh_alone():
    devices, _ = MACHINES["v5e_16"]
    files = ["hardware/v5e_16.gin", "hardware/data_parallel.gin"]
    assert sizes(partitioner_of(files, devices)) == {"data": 16}
    assert config.macro("MODEL").dtype == "bfloat16"


def test_slices_are_data_parallel_to_each_other():
    devices = tpu("TPU v5 lite", (4, 4, 1), slices=2)
    assert sizes(partitioner_of(["hardware/v5e_16.gin"], devices)) == {"data": 2, "fsdp": 16}
    assert sizes(partitioner_of(["hardware/h100_8.gin"], gpus(2))) == {"data": 2, "fsdp": 8}


# -- XLA's flags --------------------------------------------------------------------------------


def test_flags_that_the_user_has_set_stay():
    environment = {"XLA_FLAGS": "--xla_a=1"}
    xla_flags.apply({"XLA_FLAGS": ["--xla_a=2", "--xla_b=3"]}, environment)
    assert environment == {"XLA_FLAGS": "--xla_a=1 --xla_b=3"}


def test_flags_in_one_string_are_refused():
    with pytest.raises(UserError, match="XLA_FLAGS is '--xla_a=1': give a list"):
        xla_flags.apply({"XLA_FLAGS": "--xla_a=1"}, {})


@pytest.mark.slow
def test_flags_are_in_the_environment_before_the_first_device_is_met():
    """And this jaxlib, which stops at a flag that it does not know, knows them all."""
    program = """
import sys
from t5x_like.cli import program as cli
from jax._src import xla_bridge
cli.configure(cli._parse_arguments(sys.argv[1:]))
assert not xla_bridge.backends_are_initialized()
import os, jax
assert os.environ["XLA_FLAGS"].count("--xla_gpu_enable_pipelined_all_gather=true") == 1
print(jax.numpy.arange(3).sum())
"""
    command = [sys.executable, "-c", program, "train", "--gin_file=hardware/h100_8.gin"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, *(f"--gin_file={name}" for name in RUN)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


# -- What the documentation says ----------------------------------------------------------------


def commands(text):
    """Every `t5x-like` command of a text, its lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = re.findall(r"t5x-like (?:train|eval|compile|inspect|cache) [^\n`;|)\"]*", joined)
    return [command for command in found if "..." not in command and "$" not in command]


DOCUMENTED = sorted(
    {
        command
        for path in [ROOT / "docs" / "launch.md", *sorted(LAUNCH.iterdir())]
        for command in commands(path.read_text())
        if command.startswith("t5x-like train")
    }
)


@pytest.mark.parametrize("command", DOCUMENTED)
def test_documented_commands_pass_a_dry_run(command, capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    arguments = shlex.split(command)[1:]
    assert cli.main([*arguments, "--dry_run"]) == 0, capsys.readouterr().err
    assert "train.train:" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.s*")), ids=lambda path: path.name)
def test_scripts_are_shell(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_skypilots_own_parser_takes_the_task():
    """Where SkyPilot is not installed, the keys are those of its specification."""
    import yaml

    path = LAUNCH / "skypilot.yaml"
    task = yaml.safe_load(path.read_text())
    assert task.keys() <= {"name", "workdir", "num_nodes", "resources", "envs", "setup", "run"}
    assert task["resources"].keys() <= {
        "infra", "accelerators", "accelerator_args", "use_spot", "disk_size", "job_recovery",
    }  # fmt: skip
    for shell in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=shell, text=True, check=False).returncode == 0
    try:
        from sky import Task
    except ImportError:
        return
    parsed = Task.from_yaml(str(path))
    assert parsed.num_nodes == task["num_nodes"]
