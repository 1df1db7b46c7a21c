"""Specifications of accelerators: the one table behind MFU, predictions, memory and energy."""

import dataclasses
import re

GIB, GB = 2**30, 1e9


@dataclasses.dataclass(frozen=True)
class Chip:
    """Specifications of one chip. A chip is one JAX device, or `cores` of them.

    Attributes:
      name: as in a topology's name, `v5p`.
      kinds: whole words of `device_kind`, in lower case, one after the other.
      bf16_flops: dense bfloat16 FLOP/s.
      cores: JAX devices of the chip.
      hbm: memory that the compiler leaves to a program, bytes of a *device*: the datasheet's,
        less what libtpu keeps for itself. None where it was not measured.
      hbm_bandwidth: bytes/s.
      ici_bandwidth: bytes/s that all links to the other chips of a slice send together; half
        of what is quoted as bidirectional.
      torus: dimensions of the network of these links.
      dcn_bandwidth: bytes/s between slices, the chip's share of its host's.
      pod: most chips along each dimension of the torus, sorted.
      watts: of one chip in training: of TPU v3 and v4 the mean that Google measured, of the
        others the thermal design power. None where neither is published.
      source: where the numbers are from.
      int8_ops: dense operations/s of int8, sums in int32; None where they are no faster than
        bfloat16's.
      fp8_flops: the same of numbers of 8 bits with an exponent.
    """

    name: str
    kinds: tuple[str, ...]
    bf16_flops: float
    cores: int = 1
    hbm: float | None = None
    hbm_bandwidth: float | None = None
    ici_bandwidth: float | None = None
    torus: int = 0
    dcn_bandwidth: float | None = None
    pod: tuple[int, ...] = ()
    watts: float | None = None
    source: str = "NVIDIA's datasheet, without sparsity"
    int8_ops: float | None = None
    fp8_flops: float | None = None

    def peak(self, dtype: str) -> float:
        """FLOP/s of products of factors of one of XLA's dtypes, `s8`, `f8e4m3fn` or `bf16`.

        Float32's are bfloat16's, as JAX has them computed by default.
        """
        faster = self.int8_ops if dtype == "s8" else self.fp8_flops if "f8" in dtype else None
        return faster or self.bf16_flops


# TPUs: the page of each version in Cloud TPU's documentation (docs/v5p, docs/v6e, docs/tpu7x; the
# memory bandwidths as rounded there), and Jouppi et al. 2023 ("TPU v4", table 4), which gives v3
# four links of 70 GB/s and v4 six of 50 GB/s. DCN: the page of v5p gives 50 Gbit/s a chip, those of
# v5e and v6e 6.4 and 25.6 Tbit/s a pod of 256, that of TPU7x 100 Gbit/s; v4 is what PaLM's two pods
# reached (Chowdhery et al. 2022, section 4): 81 Tbit/s over 6,144 chips. None is published for v2
# and v3, for which v4's is taken. Watts: the pages of v3 and v4, "mean power"; Jouppi et al. 2021
# ("Ten lessons", table 1) for v2 and v4i; none are published from v5e on. `hbm` is what the
# compiler of libtpu 0.0.42.1 says is available.
_CLOUD = "Cloud TPU documentation"
_PALM_DCN = 81e12 / 8 / 6144

CHIPS: tuple[Chip, ...] = (
    Chip("v2", ("tpu v2",), 45e12, 2, 7.48 * GIB, 700 * GB, 4 * 62 * GB, 2, _PALM_DCN, (16, 16),
         280, "Jouppi et al. 2020, table 3"),
    Chip("v3", ("tpu v3",), 123e12, 2, 15.48 * GIB, 900 * GB, 4 * 70 * GB, 2, _PALM_DCN, (32, 32),
         220, "Jouppi et al. 2023, table 4"),
    Chip("v4i", ("tpu v4 lite",), 138e12, watts=175, source="Jouppi et al. 2021, table 1"),
    Chip("v4", ("tpu v4",), 275e12, 1, 30.75 * GIB, 1200 * GB, 6 * 50 * GB, 3, _PALM_DCN,
         (16, 16, 16), 170, "Jouppi et al. 2023, table 4"),
    Chip("v5e", ("tpu v5 lite", "tpu v5e"), 197e12, 1, 15.75 * GIB, 800 * GB, 200 * GB, 2,
         6.4e12 / 8 / 256, (16, 16), source=_CLOUD, int8_ops=394e12),
    Chip("v5p", ("tpu v5p", "tpu v5"), 459e12, 1, 95.74 * GIB, 2765 * GB, 600 * GB, 3, 50e9 / 8,
         (16, 16, 24), source=_CLOUD, int8_ops=918e12),
    Chip("v6e", ("tpu v6 lite", "tpu v6e"), 918e12, 1, 31.25 * GIB, 1600 * GB, 400 * GB, 2,
         25.6e12 / 8 / 256, (16, 16), source=_CLOUD, int8_ops=1836e12),
    Chip("tpu7x", ("tpu7x", "tpu v7"), 2307e12, 2, 94.75 * GIB, 7380 * GB, 600 * GB, 3, 100e9 / 8,
         (16, 16, 36), source=_CLOUD, fp8_flops=4614e12),
    Chip("GB200", ("gb200",), 2500e12, int8_ops=5000e12, fp8_flops=5000e12),
    Chip("B200", ("b200",), 2250e12, watts=1000, int8_ops=4500e12, fp8_flops=4500e12),
    Chip("GH200", ("gh200",), 989e12, int8_ops=1979e12, fp8_flops=1979e12),
    Chip("H200 NVL", ("h200 nvl",), 835e12, watts=600, int8_ops=1671e12, fp8_flops=1671e12),
    Chip("H200", ("h200",), 989e12, watts=700, int8_ops=1979e12, fp8_flops=1979e12),
    Chip("H100 NVL", ("h100 nvl",), 835e12, watts=400, int8_ops=1671e12, fp8_flops=1671e12),
    Chip("H100 PCIe", ("h100 pcie",), 756e12, watts=350, int8_ops=1513e12, fp8_flops=1513e12),
    Chip("H100", ("h100",), 989e12, watts=700, int8_ops=1979e12, fp8_flops=1979e12),
    Chip("A100", ("a100",), 312e12, watts=400, int8_ops=624e12),
    Chip("L40S", ("l40s",), 362e12, watts=350, int8_ops=733e12, fp8_flops=733e12),
    Chip("L4", ("l4",), 121e12, watts=72, int8_ops=242e12, fp8_flops=242e12),
    Chip("T4", ("t4",), 65e12, watts=70, int8_ops=130e12),
    Chip("V100 PCIe", ("v100 pcie",), 112e12, watts=250),
    Chip("V100", ("v100",), 125e12, watts=300),
)  # fmt: skip


def chip_of(device_kind: str) -> Chip | None:
    """Finds the chip of a JAX device by its `device_kind`; None if it is not in the table.

    A part of a GPU (MIG) is not: no table has its peak.
    """
    said = f" {' '.join(re.findall('[a-z0-9]+', device_kind.lower()))} "
    if " mig " in said:
        return None
    return next((chip for chip in CHIPS if any(f" {kind} " in said for kind in chip.kinds)), None)


def chip_named(name: str) -> Chip | None:
    """Finds the TPU of a topology's name; None if it is not in the table."""
    return next((chip for chip in CHIPS if chip.name == name and chip.pod), None)
