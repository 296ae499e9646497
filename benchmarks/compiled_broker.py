"""dmq's clients with a data path in a compiled language: what the interpreter of the nodes costs.

`compiled_path.cc` is no broker: it does for a message what three nodes do while nothing goes wrong.  It needs
a C++ compiler and the headers of LevelDB and zlib (Debian: `g++ libleveldb-dev zlib1g-dev`).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from brokers import QUEUE
from trio_broker import Dmq

from dmqnode.blocking import connect_sync

SOURCE = Path(__file__).with_name("compiled_path.cc")
HEADERS = ("leveldb/db.h", "zlib.h")


class Compiled(Dmq):
    """Nodes of the compiled path, which lead partitions in turn."""

    name = "compiled"

    @staticmethod
    def missing() -> str:
        found = shutil.which("g++") and all((Path("/usr/include") / header).exists() for header in HEADERS)
        return "" if found else "g++, libleveldb-dev and zlib1g-dev"

    def start(self) -> None:
        program = self.directory / "compiled_path"
        flags = ["-std=c++17", "-O2", "-msse4.2", "-lleveldb", "-lz"]
        subprocess.run(["g++", SOURCE, "-o", program, *flags], check=True)
        ports: list[str] = []
        for number in range(self._nodes):
            data = self.directory / str(number)
            self._spawn([program, data, str(number), str(self._nodes), *ports], stdout=subprocess.PIPE)
            out = self._processes[-1].stdout
            assert out is not None
            ready = out.readline().decode().split()
            if ready[:1] != ["ready"]:
                raise SystemExit(f"the compiled path did not start; see {self.directory / 'log'}")
            ports.append(ready[1])
        self.addresses = [f"127.0.0.1:{port}" for port in ports]
        with connect_sync(*self.addresses) as client:
            client.create_queue(QUEUE, partitions=self._partitions)
            client.ack(self._first(client))
