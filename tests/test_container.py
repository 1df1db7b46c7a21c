"""The container file, as far as it can be checked without a container."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text()
# Each instruction with its continued lines; comments are left out.
LINES = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.M)).splitlines()
INSTRUCTIONS = [line.split(maxsplit=1) for line in LINES if line]


def arguments(instruction):
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def installed(platform, folder):
    """What the image's command would have pip install, as pip is given it."""
    pip = folder / "pip"
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o755)
    return subprocess.run(
        ["/bin/sh", "-c", arguments("RUN")[0]],
        env={"PATH": f"{folder}:/usr/bin:/bin", "PLATFORM": platform},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "platform, extras",
    [("cpu", "gcs,tokenizers"), ("gpu", "gpu,gcs,tokenizers"), ("tpu", "tpu,gcs,tokenizers")],
)
def test_each_platform_has_its_own_jax(platform, extras, tmp_path):
    assert installed(platform, tmp_path).stdout == f"install --no-cache-dir .[{extras}]\n"
    there = re.search(r"extras_require=({.*?}),\n", (ROOT / "setup.py").read_text(), re.S).group(1)
    for extra in extras.split(","):
        assert f'"{extra}": ' in there


def test_another_platform_is_refused_in_one_line(tmp_path):
    done = installed("rocm", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "PLATFORM is rocm: give cpu, gpu or tpu\n"


def test_what_is_copied_is_there_and_is_what_the_installation_reads():
    copied = [name for line in arguments("COPY") for name in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    # setup.py reads README.md and finds packages and gin files; LICENSE goes into the wheel.
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= set(copied)
    assert {"t5x_like", "models", "tasks", "gin_configs"} <= set(copied)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not set(copied) & set(ignored)


def test_the_command_is_the_containers_first_process():
    """A list, and no shell: SIGTERM reaches it, and the run is saved."""
    (entry,) = arguments("ENTRYPOINT")
    (script,) = ast.literal_eval(
        re.search(r'"console_scripts": (\[.*?\])', (ROOT / "setup.py").read_text()).group(1)
    )
    assert json.loads(entry) == [script.split(" = ")[0]]
    # Not where the source lies: beside it, its folders would be imported.
    assert arguments("WORKDIR")[-1] != arguments("WORKDIR")[0]


def test_its_python_is_one_that_is_supported():
    version = next(line.split("=")[1] for line in arguments("ARG") if line.startswith("PYTHON="))
    supported = re.search(r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "README.md").read_text())
    first, last = map(int, supported.groups())
    assert first <= int(version.removeprefix("3.")) <= last
    # An argument before FROM is unknown after it, unless it is named again.
    names = [name for name, _ in INSTRUCTIONS]
    assert names.index("FROM") < max(i for i, name in enumerate(names) if name == "ARG")
