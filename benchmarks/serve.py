#!/usr/bin/env python3
"""What a server does with one client and with several: throughput, latency, memory.

    python benchmarks/serve.py egs2/mini_synth/asr1/exp/asr_… egs2/mini_synth/asr1/dump/raw/test

Starts `espnet-ensemble serve` on the loopback. Each client posts one recording after the
other, the same in every run; every transcript is compared with the one that came first.
"""

import argparse
import io
import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import soundfile
from tabulate import tabulate

from espnet_ensemble.data.tables import read_table

BOUNDARY = "recording"


@dataclass
class Run:
    """What some clients saw.

    Attributes:
        num_clients: How many.
        seconds: How long they asked.
        speech: Seconds of speech that were transcribed.
        latencies: Of each answer, in seconds.
        failures: What went wrong.
        memory: Of the server, in MB, now and then.
    """

    num_clients: int
    seconds: float = 0.0
    speech: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


class Server:
    """The server, in a process of its own."""

    def __init__(self, model: str, more: list[str]):
        command = [
            sys.executable,
            "-m",
            "espnet_ensemble.bin.serve",
            model,
            "--port",
            "0",
        ]
        self._process = subprocess.Popen(
            command + more, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        told = next(line for line in self._process.stdout if line.startswith("http"))
        self.port = int(told.split()[0].rpartition(":")[2])

    def memory(self) -> float:
        """Megabytes of its memory that are in use."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def serving(model: str, more: list[str]) -> Iterator[Server]:
    server = Server(model, more)
    try:
        yield server
    finally:
        server.stop()


def read_speech(folder: Path, count: int) -> list[tuple[bytes, float]]:
    """Some recordings of a data directory: content, seconds."""
    found = []
    for path in itertools.islice(read_table(folder / "wav.scp").values(), count):
        file = next(
            x / path
            for x in [Path(), *folder.absolute().parents]
            if (x / path).exists()
        )
        found.append((file.read_bytes(), soundfile.info(file).duration))
    return found


def post(connection: HTTPConnection, content: bytes) -> str:
    """Ask for a transcript; raises RuntimeError with what the server says."""
    head = 'Content-Disposition: form-data; name="file"; filename="speech"'
    body = io.BytesIO()
    body.write(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode())
    body.write(content)
    body.write(f"\r\n--{BOUNDARY}--\r\n".encode())
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", "/v1/audio/transcriptions", body.getvalue(), headers)
    response = connection.getresponse()
    answer = json.load(response)
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {answer['error']['message']}")
    return answer["text"]


def measure(
    server: Server,
    speech: list[tuple[bytes, float]],
    texts: dict,
    run: Run,
    seconds: float,
) -> Run:
    """Let clients ask for some time."""
    begin = time.perf_counter()

    def ask(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", server.port)
        for number in itertools.cycle(range(first, first + len(speech))):
            index = number % len(speech)
            sent = time.perf_counter()
            if sent - begin > seconds:
                return
            try:
                text = post(connection, speech[index][0])
            except (OSError, RuntimeError) as error:
                run.failures.append(str(error))
                continue
            run.latencies.append(time.perf_counter() - sent)
            run.speech += speech[index][1]
            if texts.setdefault(index, text) != text:
                run.failures.append(f"{text!r}, expected {texts[index]!r}")

    step = len(speech) // run.num_clients
    clients = [
        threading.Thread(target=ask, args=(n * step,)) for n in range(run.num_clients)
    ]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        run.memory.append(server.memory())
        time.sleep(0.5)
    run.seconds = time.perf_counter() - begin
    return run


def row(run: Run) -> list:
    latencies = sorted(run.latencies)
    return [
        run.num_clients,
        len(latencies),
        len(run.failures),
        len(latencies) / run.seconds,
        run.speech / run.seconds,
        statistics.median(latencies),
        latencies[int(0.95 * len(latencies))],
        run.memory[len(run.memory) // 10],
        run.memory[-1],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="as espnet-ensemble serve takes it")
    parser.add_argument(
        "data_dir", type=Path, help="a data directory, for its recordings"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--recordings", type=int, default=200)
    args, more = parser.parse_known_args()
    speech = read_speech(args.data_dir, args.recordings)
    texts: dict[int, str] = {}
    with serving(args.model, more) as server:
        measure(server, speech, texts, Run(1), 5)  # the first are slower
        runs = [
            measure(server, speech, texts, Run(n), args.seconds) for n in args.clients
        ]
    headers = [
        "clients", "answers", "lost or wrong", "answers/s", "speech/s", "median latency, s",
        "95 %, s", "memory after a tenth, MB", "at the end, MB",
    ]  # fmt: skip
    print(tabulate([row(run) for run in runs], headers, "github", floatfmt=".3g"))
    for run in runs:
        for failure in run.failures[:5]:
            print(failure, file=sys.stderr)


if __name__ == "__main__":
    main()
