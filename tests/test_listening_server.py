"""Listening tests: the server, and the report it ends in."""

import contextlib
import dataclasses
import http.client
import json
import re
import threading

import listening
import pytest
from listening import ABOUT, answer

from sep_tf import cli
from sep_tf.listening_test import builder, design, results, server, store
from sep_tf.listening_test import report as report_writer

pytest.importorskip("pyloudnorm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    evaluation = listening.make_evaluation(tmp_path_factory.mktemp("evaluation"))
    out = tmp_path_factory.mktemp("served") / "test"
    argv = ["listen", "build", str(evaluation), f"--output_dir={out}", "--questions=1"]
    assert cli.main(argv) == 0
    return out


@contextlib.contextmanager
def running(folder):
    served = server.Server(folder, "127.0.0.1", 0)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


@pytest.fixture(scope="module")
def served(folder):
    with running(folder) as started:
        yield started


def ask(served, method, path, body=None, **headers):
    """(status, headers, body) of a request that is sent as it is."""
    connection = http.client.HTTPConnection(*served.server_address[:2], timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def post(served, path, value, **headers):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    headers = {"Content_Type": "application/json", "Content_Length": str(len(body))} | headers
    status, _, reply = ask(served, "POST", path, body, **headers)
    return status, json.loads(reply)


def test_the_site_is_served_and_nothing_else(served, folder):
    status, headers, body = ask(served, "GET", "/")
    assert status == 200 and body == (folder / "site" / "index.html").read_bytes()
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    clip = next((folder / "site" / "clips").iterdir())
    status, headers, body = ask(served, "GET", f"/clips/{clip.name}")
    assert (status, headers["Content-Type"], body) == (200, "audio/flac", clip.read_bytes())
    assert ask(served, "HEAD", f"/clips/{clip.name}")[2] == b""
    hidden = ("/key.json", "/../key.json", "/clips/../../key.json", "/%2e%2e/key.json", "/clips")
    for path in (*hidden, "/answers.sqlite", "//etc/passwd", "/api/answers"):
        assert ask(served, "GET", path)[0] == 404, path


def test_parts_of_clips(served, folder):
    clip = next((folder / "site" / "clips").iterdir())
    data, path = clip.read_bytes(), f"/clips/{clip.name}"
    for header, part in (("bytes=0-1", data[:2]), ("bytes=5-", data[5:]), ("bytes=-3", data[-3:])):
        status, headers, body = ask(served, "GET", path, Range=header)
        assert (status, body) == (206, part)
        assert headers["Content-Range"].endswith(f"/{len(data)}")
    for header in (
        "bytes=9-2",
        "lines=0-1",
        "bytes=a-b",
        "bytes=0-1,4-5",
        f"bytes={10**9}-",
        f"bytes={'9' * 5_000}-",
    ):
        assert ask(served, "GET", path, Range=header)[0] == 200


def answers(folder) -> list[store.Participant]:
    return store.read(folder / store.FILE, builder.read_key(folder)["id"])


def test_a_participant_through_the_server(served, folder):
    status, reply = post(served, "/api/participants", {})
    assert status == 200
    identity, sheet = reply["participant"], reply["sheet"]
    asked = [p.question for p in builder.read_key(folder)["design"].sheets[sheet]]
    message = {"participant": identity, "answers": [answer(q) for q in asked], "finished": True}
    for _ in range(2):
        status, reply = post(served, "/api/answers", message)
        assert status == 200 and sorted(reply["kept"]) == sorted(asked)
    person = next(p for p in answers(folder) if p.identity == identity)
    assert person.finished and len(person.answers) == len(asked)


def test_forged_and_oversized_messages_are_refused(served, folder):
    before = answers(folder)
    status, reply = post(served, "/api/answers", {"participant": "x" * 22, "answers": []})
    assert (status, reply) == (400, {"error": "not accepted: an unknown participant"})
    large = b'{"participant": "' + b"x" * server.LARGEST_MESSAGE + b'"}'
    assert post(served, "/api/answers", large)[0] == 413
    assert post(served, "/api/answers", {"participant": "\ud800"})[0] == 400
    assert post(served, "/api/participants", b"no json")[0] == 400
    assert post(served, "/api/participants", b"[" * 60_000)[0] == 400
    assert post(served, "/api/participants", [1])[0] == 400
    assert post(served, "/api/participants", {"sheet": 10**9})[0] == 400
    assert post(served, "/api/participants", {}, Content_Type="text/plain")[0] == 415
    for length in ("", "-1", "1e3", "²"):
        status = post(served, "/api/participants", {}, Content_Length=length.encode())[0]
        assert status == 411
    for length in (10**9, "9" * 5_000):
        sent = str(length).encode()
        assert post(served, "/api/participants", {}, Content_Length=sent)[0] == 413
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert post(served, "/api/participants", {}, **elsewhere)[0] == 403
    assert post(served, "/api/other", {})[0] == 404
    host = f"{served.server_address[0]}:{served.server_address[1]}"
    assert answers(folder) == before
    assert post(served, "/api/participants", {}, Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_names_of_this_machine(served, host):
    for text in (host, f"{host}:{served.server_address[1]}"):
        assert ask(served, "GET", "/", Host=text)[0] == 200


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "localhost.elsewhere.example", "127.0.0.1@elsewhere.example", "",
             "[::1", "10.0.0.1"],
)  # fmt: skip
def test_other_names_are_refused(served, folder, host):
    """A page elsewhere could let its name point here, and read and send as if it were ours."""
    before = answers(folder)
    host = f"{host}:{served.server_address[1]}"
    assert ask(served, "GET", "/", Host=host)[0] == 421
    assert ask(served, "HEAD", "/", Host=host)[0] == 421
    assert post(served, "/api/participants", {}, Host=host, Origin=f"http://{host}")[0] == 421
    assert answers(folder) == before


def test_the_head_of_no_page_leaves_the_connection_whole(served):
    connection = http.client.HTTPConnection(*served.server_address[:2], timeout=10)
    with contextlib.closing(connection):
        for method, path, status in (("HEAD", "/none", 404), ("GET", "/", 200)):
            connection.request(method, path)
            reply = connection.getresponse()
            reply.read()
            assert reply.status == status


def test_answers_survive_a_killed_server_behind_another(folder):
    names = ("--public_name=https://Listen.Example:8443/", "--public_name=https://[2001:0DB8::5]/")
    with listening.serving(folder, more=names) as (url, process):
        host = re.search(r"http://([\d.]+):(\d+)/", url)

        class At:
            server_address = (host.group(1), int(host.group(2)))

        told = {"Host": "listen.example", "Origin": "https://listen.example"}
        assert ask(At, "GET", "/", Host="listen.example")[0] == 200
        assert ask(At, "GET", "/", Host="[2001:db8::5]:8443")[0] == 200
        assert post(At, "/api/participants", {}, **told)[0] == 200
        assert ask(At, "GET", "/", Host="other.example")[0] == 421
        _, reply = post(At, "/api/participants", {})
        question = builder.read_key(folder)["design"].sheets[reply["sheet"]][0].question
        message = {"participant": reply["participant"], "answers": [answer(question)]}
        assert post(At, "/api/answers", message)[0] == 200
        process.kill()
        process.wait()
    with running(folder) as again:
        status, reply = post(again, "/api/answers", {"participant": message["participant"]})
        assert (status, reply) == (200, {"kept": [question]})


def test_an_address_that_is_taken(served, folder, capsys):
    port = served.server_address[1]
    assert cli.main(["listen", "serve", str(folder), f"--port={port}"]) == 1
    err = capsys.readouterr().err
    assert err == f"sep-tf listen serve: error: 127.0.0.1:{port}: address already in use\n"


def report(tmp_path, capsys, *flags: str):
    """What `sep-tf listen report` prints, the parsed report.json, and the page."""
    assert cli.main(["listen", "report", str(tmp_path), *flags]) == 0
    printed, out = capsys.readouterr().out, tmp_path / "report"
    assert (out / "report.md").read_text() == printed
    assert (out / "preferences.png").read_bytes().startswith(b"\x89PNG")
    return printed, json.loads((out / "report.json").read_text()), (out / "report.html").read_text()


def test_the_report_is_written(folder, tmp_path, capsys):
    key = builder.read_key(folder)
    total = len(key["design"].questions)
    kept = store.Store(tmp_path / store.FILE, key["id"], key["design"], False, 6)
    about = ABOUT | {"language": "<script>alert(1)</script>"}

    def take(side, count=total, right=6):
        """One participant, who picks by a rule of the question's number."""
        identity, sheet = kept.enrol()
        asked = [p.question for p in key["design"].sheets[sheet]][:count]
        message = {"participant": identity, "questionnaire": about}
        message["answers"] = [answer(q, side(n)) for n, q in enumerate(asked)]
        kept.keep(message | {"headphones": {"right": right, "trials": 6}})
        return identity

    for number in range(4):
        take(lambda n, number=number: "ab"[(n + number) % 2], right=3 if number == 3 else 6)
    part = take(lambda n: "ab"[n % 2], count=5)
    same = take(lambda n: "a")
    kept.close()
    (tmp_path / "key.json").write_text((folder / "key.json").read_text())

    printed, values, page = report(tmp_path, capsys)
    assert "4 participants count, 2 are left out. 1 of those who count failed" in printed
    wanted = {part: f"unfinished: 5 of {total} answers", same: f"picked A in {total} of {total}"}
    assert [left["participant"] for left in values["excluded"]] == [part, same]
    for left in values["excluded"]:
        identity, why = left["participant"], left["why"]
        assert why.startswith(wanted[identity])
        assert f"- {identity}: {why}\n" in printed
        assert f"<li><code>{identity}</code>: {why}</li>" in page
    sums = [p["for_first"] + p["for_second"] for p in values["preferences"]]
    identical = values["identical_pairs"]
    assert sum(sums) == 4 * (total - 3)
    # Of who picks A always too.
    assert identical["a"] + identical["b"] == 5 * 3 and 0 < identical["p"] <= 1
    assert f"A {identical['a']}, B {identical['b']}" in printed
    assert "<script" not in page and not re.search(r"https?://", page)

    _, values, _ = report(tmp_path, capsys, "--require_headphones")
    assert values["participants"] == 3 and len(values["excluded"]) == 3
    assert "headphone" in values["excluded"][0]["why"]
    _, values, _ = report(tmp_path, capsys, "--keep_unfinished")
    assert values["participants"] == 5
    assert [left["participant"] for left in values["excluded"]] == [same]


def test_the_lines_of_the_bar_chart():
    """An interval is of the answers without ties, and is drawn where these lie."""
    figure = pytest.importorskip("matplotlib.figure")
    decided = results.Preference("quality", "sin", "ss", 6, 2, 0, 0.75, (0.35, 0.97), 0.3)
    ties = results.Preference("quality", "sin", "ss", 6, 2, 8, 0.75, (0.35, 0.97), 0.3)
    nobody = results.Preference("quality", "sin", "ss", 0, 0, 0, None, None, None)
    axis = figure.Figure().subplots()
    report_writer._bars(axis, [decided, ties, nobody])
    solid = [list(line.get_xdata()) for line in axis.lines if line.get_linestyle() == "-"]
    assert solid == [pytest.approx([35.0, 97.0]), pytest.approx([17.5, 48.5])]
    dotted = [list(line.get_xdata()) for line in axis.lines if line.get_linestyle() == ":"]
    assert dotted == [[50.0, 50.0], [25.0, 25.0], [50.0, 50.0]]
    # The interval is around the end of the first system's bar.
    assert [bar.get_width() for bar in axis.patches[:4:3]] == [75.0, 37.5]


def test_names_of_systems_are_no_formulas():
    pytest.importorskip("matplotlib")
    odd = results.Preference("quality", "a$_$", "b", 6, 2, 0, 0.75, (0.35, 0.97), 0.3)
    asked = design.make(["song"], [("a$_$", "b")], ["quality"], 1, 0, 1)
    found = results.evaluate([], asked, ties=False)
    assert report_writer.chart(dataclasses.replace(found, preferences=(odd,))).startswith(
        b"\x89PNG"
    )


def test_a_report_of_a_test_without_a_headphone_check(folder, tmp_path, capsys):
    """Nobody failed what nobody was asked, and nobody can be left out for it."""
    whole = json.loads((folder / "key.json").read_text())
    whole["settings"]["headphone_trials"] = 0
    (tmp_path / "key.json").write_text(json.dumps(whole))
    key = builder.read_key(tmp_path)
    kept = store.Store(tmp_path / store.FILE, key["id"], key["design"], False, 0)
    identity, sheet = kept.enrol()
    asked = [p.question for p in key["design"].sheets[sheet]]
    answers = [answer(question, "ab"[n % 2]) for n, question in enumerate(asked)]
    kept.keep({"participant": identity, "questionnaire": ABOUT, "answers": answers})
    kept.close()
    printed, values, _ = report(tmp_path, capsys)
    assert "1 participant counts, 0 are left out.\n" in printed
    assert values["failed_headphone_check"] is None
    assert cli.main(["listen", "report", str(tmp_path), "--require_headphones"]) == 1
    assert "has no headphone check" in capsys.readouterr().err
