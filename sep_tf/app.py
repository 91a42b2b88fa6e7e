"""`sep-tf app`: the same extraction on a page in the browser (needs the extra [app])."""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from absl import flags

from sep_tf import cli, extract
from sep_tf.config import ExtractConfig

_DEFAULTS = ExtractConfig()
# Results stay so long for who wants to download them, seconds.
KEEP_SECONDS = 3600
_PAGE = "sep-tf: the voice of a song"
# The label and the buttons of a picture lie on its top edge: the picture begins below them.
_STYLE = "#picture img { margin-top: 2rem; height: calc(100% - 2rem) }"
_INTRODUCTION = (
    "# The voice of a song\n"
    "Drop a song, press *Extract*, listen. The voice is sung anew, dry and in one channel; nothing "
    "leaves this machine. Songs are done one at a time, others wait."
)

PROGRAM = cli.Program(
    "app",
    "[flags]",
    "Starts a page for the browser on this machine: drop a song, hear its voice, keep it. Other "
    "machines reach it only with --host. Ends with Ctrl-C, and removes its temporary files.",
)
FLAGS = PROGRAM.flags
flags.DEFINE_string("host", "127.0.0.1", "Address it listens on.", flag_values=FLAGS)
flags.DEFINE_integer("port", 7860, "Port; 0 for any that is free.", 0, 65_535, flag_values=FLAGS)
flags.DEFINE_multi_string(
    "model",
    [],
    "Models to choose from, first the one that is chosen at the start; by default all that are "
    f"bundled, {_DEFAULTS.model} first.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "runtime",
    _DEFAULTS.runtime,
    extract.LOCAL_RUNTIMES,
    "What runs the networks.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("max_mb", 500, "Largest upload, megabytes.", 1, flag_values=FLAGS)
flags.DEFINE_integer("max_waiting", 64, "Longest queue.", 1, flag_values=FLAGS)
flags.DEFINE_bool("browser", False, "Open the page in the browser.", flag_values=FLAGS)


class Studio:
    """What the page does: keeps models loaded, extracts into folders of its own."""

    def __init__(self, folder: str, runtime: str) -> None:
        self._folder, self._runtime = folder, runtime
        self._loaded: dict[str, object] = {}
        self._lock = threading.Lock()

    def model(self, name: str):
        """A loaded runtime, the same for every request."""
        from sep_tf import runtimes

        with self._lock:
            if name not in self._loaded:
                with cli.quiet_native_log():
                    self._loaded[name] = runtimes.load(name, self._runtime)
            return self._loaded[name]

    def extract(self, song, model: str, singer, semitones: float, formant: float, progress):
        """Extracts a voice; returns (voice file, picture file, one line about it).

        Raises:
          SepTfError: whatever is wrong, in one line.
        """
        from sep_tf.separator import Separator

        self._remove_old()
        runtime = self.model(model)
        wishes = {"singer": singer} if singer else {}
        if runtime.info.system != "unet":
            wishes |= {"transpose": float(semitones), "formant": float(formant)}
        separator = Separator(model, self._runtime, **wishes)
        separator.use(runtime)
        folder = tempfile.mkdtemp(dir=self._folder)
        try:
            voice = os.path.join(folder, Path(song).stem[:80] + ".voice.wav")
            picture = os.path.join(folder, "picture.png")
            result = separator.separate_file(
                song,
                voice,
                encoding="pcm16",
                plot=picture,
                progress=lambda done, total: progress(done / total, desc="extracting"),
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        said = f"{result.seconds:.1f} s of song in {result.elapsed:.1f} s"
        if result.voiced_share is not None:
            said += f"; somebody sings in {100 * result.voiced_share:.0f} % of it"
        return voice, picture, said

    def _remove_old(self) -> None:
        """Results nobody has fetched in an hour."""
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                if entry.is_dir() and time.time() - entry.stat().st_mtime > KEEP_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)


def build(models: list[str], studio: Studio, max_waiting: int):
    """The page."""
    import gradio as gr

    from sep_tf.errors import SepTfError

    def singers(model: str):
        names = list(studio.model(model).info.singers)
        return gr.update(choices=names, value=names[0] if names else None, visible=bool(names))

    def extract_song(song, model, singer, semitones, formant, progress=gr.Progress()):  # noqa: B008
        if song is None:
            raise gr.Error("Drop a song first.", print_exception=False)
        try:
            return studio.extract(song, model, singer, semitones, formant, progress)
        except SepTfError as error:
            # Names of temporary files are nobody's business.
            said = str(error).replace(str(song), Path(song).name)
            raise gr.Error(said, print_exception=False) from error

    names = list(studio.model(models[0]).info.singers)
    with gr.Blocks(title=_PAGE, analytics_enabled=False, delete_cache=(60, KEEP_SECONDS)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column():
                song = gr.Audio(label="Song", type="filepath", sources=["upload"], elem_id="song")
                model = gr.Dropdown(models, value=models[0], label="System")
                singer = gr.Dropdown(
                    names, value=names[0] if names else None, label="Singer", visible=bool(names)
                )
                semitones = gr.Slider(-12, 12, 0, step=1, label="Transposition, semitones")
                formant = gr.Slider(0.7, 1.4, 1.0, step=0.05, label="Formants, ratio")
                button = gr.Button("Extract", variant="primary", elem_id="extract")
            with gr.Column():
                voice = gr.Audio(label="Voice", type="filepath", interactive=False, elem_id="voice")
                said = gr.Textbox(label="What was done", interactive=False, elem_id="said")
                picture = gr.Image(label="Song, f0 and voice", interactive=False, elem_id="picture")
        model.change(singers, model, singer, api_name=False)
        button.click(
            extract_song,
            [song, model, singer, semitones, formant],
            [voice, picture, said],
            concurrency_limit=1,
            api_name="extract",
        )
    page.queue(max_size=max_waiting)
    return page


@contextlib.contextmanager
def serving(
    models: list[str],
    runtime: str = "auto",
    host: str = "127.0.0.1",
    port: int = 0,
    max_mb: int = 500,
    max_waiting: int = 64,
    browser: bool = False,
):
    """Within, the page is served; yields its address. Its temporary files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sep-tf-app-") as folder:
        # Read when gradio is imported, and wherever it keeps an upload.
        os.environ["GRADIO_TEMP_DIR"] = os.path.join(folder, "uploads")
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        results = os.path.join(folder, "results")
        os.mkdir(results)
        page = build(models, Studio(results, runtime), max_waiting)
        import gradio as gr

        # No fonts from elsewhere: the page works without a network.
        theme = gr.themes.Default(font=["sans-serif"], font_mono=["monospace"])
        _, address, _ = page.launch(
            server_name=host,
            server_port=port or _free_port(host),
            max_file_size=max_mb * 1_000_000,
            allowed_paths=[results],
            theme=theme,
            css=_STYLE,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            share=False,
        )
        try:
            yield address
        finally:
            page.close(verbose=False)


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def main(args: list[str]) -> int:
    """Serves until Ctrl-C."""
    from sep_tf import runtimes

    PROGRAM.require(args)
    cli.require_packages("gradio", "matplotlib")
    names = [name for name in runtimes.bundled() if not name.startswith("autovc")]
    # The page begins with the first.
    names = FLAGS.model or sorted(names, key=lambda name: name != _DEFAULTS.model)
    for name in names:
        runtimes.find(name, FLAGS.runtime)
    cli.quiet_tensorflow()
    with serving(
        names, FLAGS.runtime, FLAGS.host, FLAGS.port, FLAGS.max_mb, FLAGS.max_waiting, FLAGS.browser
    ) as address:
        print(f"sep-tf app: open {address} in a browser; Ctrl-C ends it", flush=True)
        threading.Event().wait()
    return 0


def run(argv: list[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    return PROGRAM.run(main, argv)


if __name__ == "__main__":
    sys.exit(run())
