"""Parameters of a Hugging Face directory for a model that is not trained, such as a teacher."""

import dataclasses
import zlib
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.hf import hf_model, load_hf
from models.model import Model

_AT_ONCE = 2**24  # bytes


def directory_model(path: str) -> Model:
    """The model of a directory whose parameters `FrozenDirectory` gives, for gin files.

    Args:
      path: a directory with `config.json` and safetensors.

    Raises:
      ModelError: an unknown model type or option.
    """
    return hf_model(path)


@dataclasses.dataclass(frozen=True)
class FrozenDirectory:
    """Where a frozen model's parameters are; fulfils `FrozenSource` of the engine's protocols.

    Attributes:
      path: a directory with `config.json` and safetensors.
    """

    path: str

    def fingerprint(self) -> str:
        """CRC-32 of its configuration and of its tensors' files, as hexadecimal digits.

        Raises:
          ModelError: a file cannot be read, or there are none.
        """
        files = sorted(Path(self.path).glob("*.safetensors"))
        if not files:
            raise ModelError(f"{self.path} has no safetensors: give a directory as for import-hf.")
        checksum = 0
        try:
            for file in (Path(self.path) / "config.json", *files):
                with file.open("rb") as content:
                    while block := content.read(_AT_ONCE):
                        checksum = zlib.crc32(block, checksum)
        except OSError as error:
            raise ModelError(f"{error.filename}: {error.strerror}.") from error
        return f"{checksum:08x}"

    def host_params(self, model: Model) -> Any:
        """The parameters as NumPy arrays.

        Args:
          model: whose parameters they are to be; the engine compares names and shapes.

        Raises:
          ModelError: as `load_hf`, or the directory holds a model of another class.
        """
        loaded, params = load_hf(self.path)
        if type(loaded) is not type(model):
            raise ModelError(
                f"{self.path} holds a {type(loaded).__name__}, but the frozen model is a "
                f"{type(model).__name__}."
            )
        return params
