"""`python -m benchmarks [--only name]`."""

from __future__ import annotations

import argparse
import os
import tempfile
from importlib import import_module

BENCHES = ("airflow", "finetune", "labels", "batch", "validate", "scale", "ledger")


def main() -> None:
    """Run one bench, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description="Speed beside a peer, in one run.")
    parser.add_argument("--only", choices=BENCHES, help="run this one; make bench ONLY=name")
    chosen = parser.parse_args().only
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        os.environ |= {
            "LLMOPS_HOME": home,
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        for name in [chosen] if chosen else BENCHES:
            import_module(f"benchmarks.bench_{name}").main()


if __name__ == "__main__":
    main()
