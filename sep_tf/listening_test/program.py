"""`sep-tf listen build|serve|report`: AB listening tests."""

import sys
import tempfile
from pathlib import Path

from absl import flags

from sep_tf import cli
from sep_tf.errors import DataError, SepTfError

FORMATS = ("page", "webmushra", "beaqlejs")

BUILD = cli.Program(
    "listen build",
    "EVALUATION_DIR --output_dir=FOLDER [flags]",
    "Builds an AB listening test from the folder of `sep-tf evaluate`: for each criterion and "
    "pair of systems, some questions with loudness-matched clips. What participants get is in "
    "FOLDER/site; FOLDER/key.json says which clip is whose.",
)
SERVE = cli.Program(
    "listen serve",
    "FOLDER [flags]",
    "Serves a listening test and keeps the answers in FOLDER/answers.sqlite. Ctrl-C stops it; "
    "started again it goes on. For participants elsewhere, put a web server with encryption in "
    "front of it.",
)
REPORT = cli.Program(
    "listen report",
    "FOLDER [flags]",
    "Prints what the answers say, and writes report.md, report.html, report.json and "
    "preferences.png to FOLDER/report: shares with binomial intervals, who was left out and why.",
)

flags.DEFINE_string("output_dir", None, "New folder for the test.", flag_values=BUILD.flags)
flags.DEFINE_list(
    "pairs", ["sin-unet", "sin-ss", "sin-sdn"],
    "Pairs of systems, as a-b, or a:b where names have hyphens.", flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_list(
    "criteria", ["intelligibility", "isolation", "quality"], "What is asked.",
    flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_integer(
    "questions", 5, "Questions for each pair and criterion.", lower_bound=1, flag_values=BUILD.flags
)
flags.DEFINE_integer(
    "identical", 1, "Hidden pairs of the same clip for each criterion, as a check.",
    lower_bound=0, flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_float(
    "clip_seconds", 8.0, "Longest clip: the part in which the singer sings most.",
    lower_bound=0.5, upper_bound=60.0, flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_bool(
    "ties", False, "Offer 'no difference' too; the paper's participants had to pick.",
    flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_integer(
    "headphone_trials", 6, "Trials of the headphone check; 0 leaves it out.",
    lower_bound=0, upper_bound=20, flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_string("title", "Listening test", "Shown to participants.", flag_values=BUILD.flags)
flags.DEFINE_string("contact", "", "Whom participants can ask.", flag_values=BUILD.flags)
flags.DEFINE_enum(
    "format", "page", list(FORMATS),
    "A page of its own, or configurations and clips for webMUSHRA or BeaqleJS.",
    flag_values=BUILD.flags,
)  # fmt: skip
flags.DEFINE_integer("seed", 1, "Seed of every draw.", flag_values=BUILD.flags)

flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.", flag_values=SERVE.flags)
flags.DEFINE_integer(
    "port", 8000, "Port; 0 for any that is free.", lower_bound=0, upper_bound=65535,
    flag_values=SERVE.flags,
)  # fmt: skip

flags.DEFINE_multi_string(
    "public_name", [],
    "Host in the page's address, where a web server in front passes it on, as listen.example.org.",
    flag_values=SERVE.flags,
)  # fmt: skip

flags.DEFINE_multi_string(
    "answers", [], "File that a participant downloaded instead of sending.",
    flag_values=REPORT.flags,
)  # fmt: skip
flags.DEFINE_bool(
    "require_headphones", False, "Leave out who failed the headphone check.",
    flag_values=REPORT.flags,
)  # fmt: skip
flags.DEFINE_bool(
    "keep_unfinished", False, "Count answers of people who did not reach the end.",
    flag_values=REPORT.flags,
)  # fmt: skip
flags.DEFINE_string(
    "output_dir", None, "Folder for the report; FOLDER/report by default.", flag_values=REPORT.flags
)


def _one_folder(args: list[str], what: str) -> Path:
    if not args:
        raise cli.UsageError(f"no {what} given")
    if len(args) > 1:
        raise cli.UsageError(f"unexpected argument '{args[1]}'")
    return Path(args[0])


def build(args: list[str]) -> int:
    """Builds a test."""
    from sep_tf.listening_test import builder, design, formats

    values = BUILD.flags
    evaluation = _one_folder(args, "EVALUATION_DIR")
    if not values.output_dir:
        raise cli.UsageError("no --output_dir given")
    unknown = [name for name in values.criteria if name not in design.CRITERIA]
    if unknown or not values.criteria:
        raise cli.UsageError(
            f"--criteria: {unknown[0] if unknown else 'nothing'} is none of: "
            f"{', '.join(design.CRITERIA)}"
        )
    folder = builder.new_folder(values.output_dir)
    settings = builder.Settings(
        title=values.title,
        pairs=builder.parse_pairs(values.pairs),
        criteria=tuple(dict.fromkeys(values.criteria)),
        questions=values.questions,
        identical=values.identical,
        clip_seconds=values.clip_seconds,
        ties=values.ties,
        headphone_trials=values.headphone_trials,
        contact=values.contact,
        seed=values.seed,
    )
    material = builder.collect(evaluation, settings)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".sep-tf-") as temporary:
        partial = Path(temporary) / "test"
        partial.mkdir()
        writers = {
            "page": builder.write_site,
            "webmushra": formats.write_webmushra,
            "beaqlejs": formats.write_beaqlejs,
        }
        writers[values.format](partial, material)
        builder.write_key(partial, material, format=values.format)
        partial.replace(folder)
    songs = len({q.song for q in material.design.questions})
    print(f"{folder}: {len(material.design.questions)} questions on {songs} songs")
    print(_next_step(values.format, folder))
    return 0


def _next_step(kind: str, folder: Path) -> str:
    return {
        "page": f"try it: sep-tf listen serve {folder}",
        "webmushra": f"copy {folder}/configs into webMUSHRA; keep key.json to yourself",
        "beaqlejs": f"copy {folder}/audio and {folder}/config into BeaqleJS, name one of the "
        "configurations in its index.html with PrefTest; keep key.json to yourself",
    }[kind]


def serve(args: list[str]) -> int:
    """Serves a test until it is stopped."""
    from sep_tf.listening_test.server import Server, host_name

    folder = _one_folder(args, "FOLDER")
    address = f"{SERVE.flags.host}:{SERVE.flags.port}"
    for name in SERVE.flags.public_name:
        try:
            known = host_name(name)
        except ValueError:
            known = None
        if not known:
            raise cli.UsageError(f"--public_name='{name}' names no host")
    try:
        server = Server(folder, SERVE.flags.host, SERVE.flags.port, SERVE.flags.public_name)
    except OSError as error:
        raise SepTfError(f"{address}: {(error.strerror or str(error)).lower()}") from error
    try:
        print(f"{server.url} (Ctrl-C stops)", flush=True)
        server.serve_forever()
    except (KeyboardInterrupt, cli.Terminated) as end:
        print("stopped: {} participants, {} finished".format(*server.store.count()))
        return 130 if isinstance(end, KeyboardInterrupt) else 143
    finally:
        server.server_close()


def report(args: list[str]) -> int:
    """Reports a test."""
    from sep_tf.listening_test import builder, results, store
    from sep_tf.listening_test import report as writer

    values = REPORT.flags
    folder = _one_folder(args, "FOLDER")
    key = builder.read_key(folder)
    if key["format"] != "page":
        raise DataError(
            f"{folder}: was built for {key['format']}, whose own results say the answers; key.json "
            "says what each name there stands for"
        )
    settings, design = key["settings"], key["design"]
    ties, trials = settings["ties"], settings["headphone_trials"]
    if values.require_headphones and not trials:
        raise cli.UsageError(f"--require_headphones: {folder} has no headphone check")
    downloads = store.read_downloads(values.answers, key["id"], design, ties, trials)
    path = folder / store.FILE
    people = store.read(path, key["id"]) if path.is_file() or not downloads else []
    found = results.evaluate(
        store.merge(people, downloads), design, ties, values.require_headphones,
        values.keep_unfinished, bool(trials),
    )  # fmt: skip
    output = Path(values.output_dir or folder / "report")
    print(writer.write(output, settings["title"], found), end="")
    print(f"{output / 'report.html'}: the chart", file=sys.stderr)
    return 0


SUMMARIES = {
    "build": "build a test from the folder of `sep-tf evaluate`",
    "serve": "serve it, and keep the answers",
    "report": "say what the answers say",
}
VERBS = {"build": (BUILD, build), "serve": (SERVE, serve), "report": (REPORT, report)}


def run(argv: list[str] | None = None) -> int:
    """Runs build, serve or report with what follows it; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    verb = argv[0] if argv else "--help"
    if verb in ("--help", "-h", "help"):
        print("usage: sep-tf listen build|serve|report ...\n")
        for name in VERBS:
            print(f"  {name:<8}{SUMMARIES[name]}")
        print("\n`sep-tf listen VERB --help` lists the flags of each.", flush=True)
        return 0 if argv else 1
    if verb == "--version":
        print(cli.version_line(), flush=True)
        return 0
    if verb not in VERBS:
        print(
            f"sep-tf listen: error: unknown '{verb}', expected one of: {', '.join(VERBS)}",
            file=sys.stderr,
        )
        return 1
    program, main = VERBS[verb]
    return program.run(main, argv[1:])


if __name__ == "__main__":
    sys.exit(run())
