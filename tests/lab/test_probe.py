"""ksshctl probe against a router that forgets: what is measured is what was set."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from harness import program
from lab.lab import Lab

TIMEOUT_S = 7
OPTIONS = ("--max", "12s", "--step", "1", "--patience", "2")


def test_the_bracket_holds_the_timeout_of_the_router(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab") as lab:
        lab.set_idle_timeout(TIMEOUT_S)
        words = [program("ksshctl"), "probe", "t", *OPTIONS, "--", "-F", str(lab.config)]
        done = subprocess.run([*lab.client.entry, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = re.search(r"is cut after (\S+) s to (\S+) s of quiet,", done.stdout)
        assert found, done.stdout + done.stderr
        alive_s, dead_s = float(found[1]), float(found[2])
        assert TIMEOUT_S - 1.2 <= alive_s <= TIMEOUT_S + 0.2 <= dead_s + 0.3 <= TIMEOUT_S + 1.6
        assert "in silence" in done.stdout
        assert "\n    ksshctl keepalive set --user --host t --interval 2\n" in done.stdout
        assert lab.client.pids() == []
        (remembered,) = Path(os.environ["KSSH_STATE_DIR"], "probes").iterdir()
        record = json.loads(remembered.read_text())
        assert (record["interval_s"], record["how"]) == (2, "silent")
        assert record["network"].startswith("via 10.77.1.1 dev c0 ")
