"""The client of model servers, against one that speaks their protocol and can be made to fail."""

import random
import threading
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import soundfile

from export import module, saved_model
from export.serving import load as load_generator
from export.serving import service as servers
from sep_tf import extract, models, runtimes
from sep_tf.config import PRESETS, ExtractConfig
from sep_tf.errors import ModelError, SepTfError
from sep_tf.runtimes import chunks, serving
from sep_tf.runtimes.signatures import SIGNATURES
from sep_tf.separator import Separator
from tests import harness

FRAMES = 64
QUICK = serving.Patience(deadline=20.0, total=30.0, first=0.01, longest=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of random weights: sin-tiny, unet-tiny and autovc-tiny, in version folders."""
    path = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ExtractConfig", lambda: ExtractConfig(chunk_frames=FRAMES))
        for system in ("sin", "unet", "autovc"):
            singers = ("ann", "ben") if SIGNATURES[system].singers else ()
            model = models.build_system(system, PRESETS["tiny"], len(singers))
            # With this seed SIN's voices are voiced in part.
            harness.randomise(model, seed=3)
            info = module.model_info(model, PRESETS["tiny"], system, singers)
            (path / f"{system}-tiny").mkdir()
            saved_model.write(model, info, path / f"{system}-tiny" / "1")
    return path


@pytest.fixture(scope="module")
def running(folder):
    with servers.Server(folder) as made:
        yield made


@pytest.fixture
def server(running, monkeypatch):
    """The one server, as it was: tests put faults in these places."""
    monkeypatch.setattr(running.prediction, "answer", running.prediction.answer)
    monkeypatch.setattr(running.models, "predict", running.models.predict)
    return running


@pytest.fixture(params=["grpc", "rest"])
def address(request, server):
    """The server by either protocol."""
    if request.param == "rest":
        return f"http://127.0.0.1:{server.rest_port}"
    return f"127.0.0.1:{server.port}"


def sound(seconds: float) -> np.ndarray:
    return harness.sung(seconds, 220.0) + harness.band(seconds, 1)


def make_faulty(server, share: float, codes, seed: int = 0) -> list:
    """A share of the calls of Predict ends in one of the codes; returns those that did."""
    rng, predict, done = random.Random(seed), server.prediction.answer, []

    def faulty(request, context):
        if rng.random() < share:
            done.append(rng.choice(codes))
            context.abort(done[-1], "injected")
        return predict(request, context)

    server.prediction.answer = faulty
    return done


def same(found, expected) -> None:
    """Features equal to 1e-4 of their deviation, f0 within a cent."""
    np.testing.assert_array_equal(found.voiced, expected.voiced)
    heard = expected.voiced
    assert heard.sum() > 20
    for name in ("envelope", "aperiodicity"):
        value, other = getattr(expected, name)[heard], getattr(found, name)[heard]
        assert np.abs(other - value).max() / value.std() < 1e-4, name
    cents = 1200 * np.abs(np.log2(found.f0 / expected.f0))
    assert cents[heard].max() < 1


def test_a_song_through_a_server_is_the_song_at_home(address, folder):
    """Several chunks, four requests in flight."""
    song, remote = sound(3.0), Separator("sin-tiny", "serving", server=address)
    local = Separator(str(folder / "sin-tiny"))
    same(remote.analyse(song, harness.RATE), local.analyse(song, harness.RATE))
    assert remote.runtime.retries == 0
    voice = remote.separate(song, harness.RATE)
    assert voice.shape == song.shape and np.isfinite(voice).all()


def test_other_systems(address, folder):
    """A mask from audio; converted features from features."""
    rng = np.random.default_rng(0)
    for system in ("unet", "autovc"):
        name = f"{system}-tiny"
        remote, local = runtimes.load(name, server=address), runtimes.load(str(folder / name))
        assert remote.model_info == local.info
        if system == "unet":
            length = (remote.info.frames - 1) * chunks.HOP + 2 * chunks.MARGIN
            audio = rng.normal(0, 0.1, length).astype(np.float32)
            found = chunks.run(remote, audio)["mask"]
            extra = remote.info.context - local.info.context
            inner = audio[extra * chunks.HOP : -extra * chunks.HOP]
            expected = chunks.run(local, inner)["mask"]
            keep = slice(local.info.context, local.info.context + FRAMES)
            kept = slice(remote.info.context, remote.info.context + FRAMES)
            np.testing.assert_allclose(found[kept], expected[keep], atol=1e-4)
        else:
            values = {
                "envelope": rng.normal(size=(48, 60)).astype(np.float32),
                "aperiodicity": rng.normal(size=(48, 4)).astype(np.float32),
                "source": 0,
                "target": 1,
            }
            found, expected = remote(values), local(values)
            np.testing.assert_allclose(found["envelope"], expected["envelope"], atol=1e-4)


def test_requests_that_fail_are_sent_again(server, folder):
    """A third of all requests: more than any server would."""
    passing = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    faults = make_faulty(server, 0.35, passing)
    song, address = sound(6.0), f"127.0.0.1:{server.port}"
    remote = Separator("sin-tiny", "serving", server=address)
    remote._runtime = runtime = serving.ServingRuntime(address, "sin-tiny", QUICK)
    found = remote.analyse(song, harness.RATE)
    assert len(faults) >= 2 and runtime.retries == len(faults)
    same(found, Separator(str(folder / "sin-tiny")).analyse(song, harness.RATE))


def test_errors_that_last_are_given_up_in_one_line(server):
    make_faulty(server, 1.0, [grpc.StatusCode.UNAVAILABLE])
    short = serving.Patience(1.0, 0.3, 0.01, 0.1)
    with pytest.raises(ModelError, match="given up after 0.3 s: UNAVAILABLE: injected"):
        serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", short)


def test_a_server_that_went_away_fails_one_song_of_many(server):
    """Before it has answered nothing can be done; after that it may be back for the next song."""
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    runtime.patience = serving.Patience(1.0, 0.3, 0.01, 0.1)
    make_faulty(server, 1.0, [grpc.StatusCode.UNAVAILABLE])
    with pytest.raises(SepTfError, match="given up after 0.3 s") as caught:
        runtime.run_audio(np.zeros(3 * chunks.MARGIN, np.float32))
    assert not isinstance(caught.value, ModelError)


def test_ctrl_c_waits_for_no_server_that_is_gone(server):
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    runtime.patience = serving.Patience(1.0, 60.0, 0.5, 0.5)
    make_faulty(server, 1.0, [grpc.StatusCode.UNAVAILABLE])

    def cut():
        for number in range(3):
            yield number, np.zeros(3 * chunks.MARGIN, np.float32)
        raise KeyboardInterrupt

    began = time.monotonic()
    for _ in range(2):  # it is of use after that
        tried = runtime.retries
        with pytest.raises(KeyboardInterrupt):
            list(chunks.run_all(runtime, cut()))
        assert time.monotonic() - began < 5 and runtime.retries > tried


def test_errors_of_the_request_are_not_sent_again(server):
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    faults = make_faulty(server, 1.0, [grpc.StatusCode.INVALID_ARGUMENT])
    with pytest.raises(ModelError, match=r"model sin-tiny on .*: INVALID_ARGUMENT: injected"):
        runtime.run_audio(np.zeros(3 * chunks.MARGIN, np.float32))
    assert len(faults) == 1 and runtime.retries == 0


@pytest.mark.parametrize("text", ["audio has NaN or infinite values", "Tensors with name 'a' "
    "from different tasks have different shapes and padding is turned off."])  # fmt: skip
def test_errors_of_others_in_the_batch_pass(server, text):
    """A server that batches fails all requests of a batch for one; ours are finite and equal."""
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    predict, failed = server.prediction.answer, []

    def of_a_batch(request, context):
        if not failed:
            failed.append(1)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)
        return predict(request, context)

    server.prediction.answer = of_a_batch
    audio = np.zeros(3 * chunks.MARGIN, np.float32)
    assert np.isfinite(runtime.run_audio(audio)["f0"]).all()
    assert runtime.retries == len(failed) == 1
    audio[-chunks.MARGIN - 1] = np.nan
    with pytest.raises(ModelError, match="audio has NaN or infinite values"):
        runtime.run_audio(audio)
    assert runtime.retries == 1


def test_a_slow_server_runs_into_the_deadline(server):
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    runtime.patience = serving.Patience(0.2, 0.5, 0.01, 0.1)
    server.prediction.answer = lambda request, context: time.sleep(1.0)
    began = time.monotonic()
    with pytest.raises(SepTfError, match="given up after 0.5 s: DEADLINE_EXCEEDED"):
        runtime.run_audio(np.zeros(3 * chunks.MARGIN, np.float32))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("fault", ["shape", "missing", "nan"])
def test_answers_that_make_no_sense(server, fault):
    """Another number of frames, an output less, NaN: an error that says so, no voice."""
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    predict = server.models.predict

    def odd(*args):
        out = predict(*args)
        if fault == "missing":
            del out["f0"]
        else:
            out["f0"] = out["f0"][:, 1:] if fault == "shape" else out["f0"] * np.nan
        return out

    server.models.predict = odd
    words = {"shape": r"gave \(1, \d+\) for f0", "missing": "gave nothing for f0"}
    with pytest.raises(ModelError, match=words.get(fault, "gave f0 that is not finite")):
        runtime.run_audio(np.zeros(3 * chunks.MARGIN, np.float32))


@pytest.mark.slow
def test_a_server_that_restarts_in_mid_song_loses_nothing(folder):
    """It goes away while requests are under way, and is back, empty at first, on the same port."""
    first = servers.Server(folder)
    first.start()
    port, held = first.port, {"server": first}
    runtime = serving.ServingRuntime(f"127.0.0.1:{port}", "sin-tiny", QUICK)
    remote = Separator("sin-tiny", "serving", server=f"127.0.0.1:{port}")
    remote._runtime = runtime
    answered, predict = [], first.prediction.answer

    def counted(request, context):
        answered.append(1)
        if len(answered) == 5:
            threading.Thread(target=restart).start()
        time.sleep(0.02)
        return predict(request, context)

    def restart():
        first.stop()
        time.sleep(0.3)
        again = servers.Server(folder, port)
        version, until = again.models.version, time.monotonic() + 0.3
        refused = servers.Refused(grpc.StatusCode.NOT_FOUND, "Servable not found")

        def not_yet(name):
            if time.monotonic() < until:
                raise refused
            return version(name)

        again.models.version = not_yet
        again.start()
        held["server"] = again

    first.prediction.answer = counted
    song = sound(6.0)
    try:
        found = remote.analyse(song, harness.RATE)
    finally:
        deadline = time.monotonic() + 5
        while held["server"] is first and time.monotonic() < deadline:
            time.sleep(0.05)
        held["server"].stop()
    assert held["server"] is not first and runtime.retries > 0
    same(found, Separator(str(folder / "sin-tiny")).analyse(song, harness.RATE))


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"audio": np.zeros(900, np.float32)}, "of shape|rank"),
        ({"audio": np.full((1, 900), np.nan, np.float32)}, "NaN or infinite"),
        ({"audio": np.zeros((1, 0), np.float32)}, "expected 1 to 1920000 samples"),
        ({"audio": np.zeros((1, 900), np.int32)}, "to be float32, got int32"),
        ({"sound": np.zeros((1, 900), np.float32)}, "does not match signature"),
        ({"audio": np.zeros((1, 2 * 2**20), np.float32)}, "RESOURCE_EXHAUSTED|larger than max"),
    ],
    ids=["rank", "nan", "empty", "type", "name", "8 MB"],
)
def test_bad_requests_get_an_error_and_the_server_lives(server, inputs, reason):
    transport = serving.connect(f"127.0.0.1:{server.port}")
    with pytest.raises(serving.RequestError, match=reason):
        transport.predict("sin-tiny", "serving_default", inputs, 20.0)
    good = {"audio": np.zeros((2, 900), np.float32)}
    assert transport.predict("sin-tiny", "serving_default", good, 20.0)["f0"].shape == (2, 6)


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ("[0.0, 0.1]", "of shape"),
        ("[[]]", "1920000 samples"),
        ("[[NaN]]", "NaN"),
        ('[["loud"]]', "not a request"),
        ("[[0.0], [0.0, 0.1]]", "not a request"),
        ("[[", "not a request"),
    ],
    ids=["rank", "empty", "nan", "text", "ragged", "no JSON"],
)
def test_bad_requests_over_http(server, inputs, reason):
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/sin-tiny:predict"
    body = '{"inputs": {"audio": ' + inputs + "}}"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, body.encode(), timeout=20)
    assert caught.value.code == 400 and reason in caught.value.read().decode()
    body = '{"inputs": {"audio": [[0.0, 0.1]]}}'
    assert urllib.request.urlopen(url, body.encode(), timeout=20).status == 200


def test_ten_thousand_seconds_are_refused_before_they_are_sent(server):
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    with pytest.raises(ModelError, match="a request of 1280000000 bytes, a server takes"):
        runtime.run_audio(np.broadcast_to(np.float32(0), 320_000_000 + 2 * chunks.MARGIN))


def test_addresses_and_models_that_are_not_there(server, tmp_path, capsys):
    song = tmp_path / "song.wav"
    soundfile.write(song, sound(0.5), harness.RATE)
    for address, words in (
        *((name, "is neither HOST:PORT nor http://HOST:PORT") for name in ("here", "ftp://here:1")),
        (f"127.0.0.1:{server.port}", "Servable not found for request: Latest(sin-huge)"),
        (f"http://127.0.0.1:{server.rest_port}", "status 404"),
    ):
        argv = [str(song), "--runtime=serving", f"--server={address}", "--model=sin-huge"]
        assert words in harness.one_line_error(extract.run, argv, capsys)
    line = harness.one_line_error(extract.run, [str(song), "--runtime=serving"], capsys)
    assert "--server=HOST:PORT" in line
    argv = [str(song), "--runtime=keras", "--server=here:1"]
    assert "a server is for runtime serving" in harness.one_line_error(extract.run, argv, capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["song.wav"]


def test_requests_of_the_client_stay_under_four_megabytes():
    """Of every bundled system at the size of chunk that ships, context and margins included."""
    for system in ("sin", "ss", "unet"):
        model = models.build_system(system, PRESETS["lite"])
        info = module.model_info(model, PRESETS["lite"], system)
        unit = info.alignment
        frames = info.frames + 2 * -(-chunks.MARGIN // (chunks.HOP * unit)) * unit
        assert frames * chunks.HOP * 4 < serving.MAX_MESSAGE, system
        answer = sum(max(port.width, 1) for port in info.signature.outputs.values())
        assert frames * answer * 4 < 64 * 2**20


def test_load_generator(server, capsys):
    faults = make_faulty(server, 0.1, [grpc.StatusCode.UNAVAILABLE], seed=3)
    argv = [f"--server=127.0.0.1:{server.port}", "--model=sin-tiny", "--requests=20"]
    assert load_generator.run(argv) == 0
    out = capsys.readouterr().out
    assert out.startswith("20 requests in ") and ", 0 failed" in out and "p99" in out
    assert f"{len(faults)} sent again" in out


@pytest.mark.slow
def test_two_hundred_songs_with_a_fault_in_a_hundred_requests_lose_none(server):
    """Two hundred songs of 3.5 minutes are 8000 requests of 5 s."""
    codes = [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]
    faults = make_faulty(server, 0.01, codes)
    runtime = serving.ServingRuntime(f"127.0.0.1:{server.port}", "sin-tiny", QUICK)
    taken, failures, _ = load_generator.send(runtime, 8000, 4)
    assert len(taken) == 8000 and failures == [] and runtime.retries == len(faults) > 40
