"""A small model server: TensorFlow Serving's protocol over an exported SavedModel, in Python.

python -m export.serving.server --models=FOLDER [--port=8500] [--rest_port=8501]

It speaks the PredictionService and ModelService protobufs and the REST interface of the real one,
so that clients can be tried and tested without it. It does not batch, and old versions stay loaded
beside the newest.
"""

import sys
import threading
from pathlib import Path
from typing import Any

from absl import flags

from sep_tf import cli

PROGRAM = cli.Program(
    "export.serving.server",
    "--models=FOLDER [flags]",
    "Serves the SavedModels in a folder (FOLDER/NAME/VERSION), for trying clients out: use "
    "TensorFlow Serving itself for anything else.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("models", None, "Folder of models.", flag_values=FLAGS)
_PORTS: dict[str, Any] = {"lower_bound": 0, "upper_bound": 65_535, "flag_values": FLAGS}
flags.DEFINE_integer("port", 8500, "Of gRPC; 0 for any.", **_PORTS)
flags.DEFINE_integer("rest_port", 8501, "Of REST; 0 for any.", **_PORTS)
flags.DEFINE_integer("threads", 4, "Requests at once.", lower_bound=1, flag_values=FLAGS)


def main(args: list[str]) -> int:
    PROGRAM.require(args, "models")
    folder = Path(FLAGS.models)
    if not folder.is_dir():
        raise cli.UsageError(f"--models={folder} is no folder")
    cli.import_tensorflow()
    from export.serving.service import Server

    with Server(folder, FLAGS.port, FLAGS.rest_port, FLAGS.threads) as server:
        print(f"gRPC 127.0.0.1:{server.port}, REST http://127.0.0.1:{server.rest_port}", flush=True)
        threading.Event().wait()
    return 0


def run(argv: list[str] | None = None) -> int:
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
