"""`python -m llmops_tasks`: the same program as `llmops`, without installation.

With a verb's name and `--json -` it serves another process instead: see `child`.
"""

from __future__ import annotations

import sys

from llmops_tasks import child


def main(words: list[str]) -> int:
    """Run what the words say; returns the exit code."""
    if words[1:] == child.ARGUMENTS:
        return child.run(words[0])
    from llmops_tasks.cli import app  # a child needs nothing of it

    return app.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
