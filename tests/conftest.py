"""How the tests' programs are compiled."""

import os

# Most run once: what the compiler would gain by optimizing, it would lose twice over.
FLAGS = ("--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true")
os.environ["XLA_FLAGS"] = " ".join([*FLAGS, os.environ.get("XLA_FLAGS", "")]).strip()
