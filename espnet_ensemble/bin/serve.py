#!/usr/bin/env python3
"""Serve trained models: a web page to try them, and an API that OpenAI's clients know.

The page takes recordings from the microphone or a file, shows words by confidence, and
compares several models. Programs POST to /v1/audio/transcriptions.
"""

import argparse
import ipaddress
import socket
from pathlib import Path
from typing import Any

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.extras import import_extra


def get_parser() -> argparse.ArgumentParser:
    """Options of ``espnet-ensemble serve``."""
    parser = make_parser("serve", __doc__)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="[NAME=]MODEL",
        help="an experiment's folder, an archive, or a model's name on the Hugging Face "
        "hub; and what to call it, if not as it is called there",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s, which other machines cannot "
        "reach; 0.0.0.0 is all addresses)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=7860,
        help="port to listen on; 0: any that is free (default: %(default)s)",
    )
    parser.add_argument(
        "--device", help="such as cuda:0 (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--dtype", default="float32", help="such as bfloat16 (default: %(default)s)"
    )
    _add_limits(parser)
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is refused")
    group.add_argument(
        "--max_megabytes", type=float, default=100, help="larger files (%(default)s)"
    )
    group.add_argument(
        "--max_minutes", type=float, default=30, help="longer recordings (%(default)s)"
    )
    group.add_argument(
        "--max_requests",
        type=int,
        default=64,
        help="more requests at once (%(default)s)",
    )
    group.add_argument(
        "--max_queue_minutes",
        type=float,
        default=60,
        help="more speech that waits for a model (%(default)s)",
    )


def main(cmd: list[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    run(get_parser(), _work, cmd)


def _work(args: argparse.Namespace) -> None:
    import_extra("starlette", "serve")
    import_extra("python_multipart", "serve")
    uvicorn = import_extra("uvicorn", "serve")
    models = _named(args.models)
    # First, as loading models takes long.
    with _listen(args.host, args.port) as listening:
        app = _load(models, args)
        print(_tell(args.host, listening.getsockname()[1]), flush=True)
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listening])


def _load(models: dict[str, str], args: argparse.Namespace) -> Any:
    from espnet_ensemble.integrations.espnet2.pretrained import pretrained
    from espnet_ensemble.serving.api import Limits, create_app

    transcribers = []
    for name, model in models.items():
        transcribers.append(pretrained(model, args.device, args.dtype))
        transcribers[-1].name = name
    limits = Limits(
        args.max_megabytes,
        args.max_minutes,
        args.max_requests,
        args.max_queue_minutes,
    )
    return create_app(transcribers, limits)


def _named(words: list[str]) -> dict[str, str]:
    """What models are called -> the models."""
    models: dict[str, str] = {}
    for word in words:
        name, equals, model = word.partition("=")
        if not equals or Path(word).exists():
            name, model = Path(word).name, word
        if name in models:
            raise EnsembleError(
                f"{word}: another model is called {name!r}, too; give it a name: NAME={model}"
            )
        models[name] = model
    return models


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise EnsembleError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; choose "
            "others with --host and --port"
        ) from error


def _tell(host: str, port: int) -> str:
    address = f"[{host}]" if ":" in host else host
    told = f"http://{address}:{port}"
    if _is_loopback(host):
        return f"{told} (this machine alone can reach it; Ctrl-C ends it)"
    return (
        f"{told} (whoever reaches this machine can use it: there is no password, and what "
        "is sent is not encrypted; Ctrl-C ends it)"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
