"""The same test for people who already run webMUSHRA or BeaqleJS: configurations and clips.

Both programs are to be had from their authors; nothing of them is in here. Clips are WAV files,
which both read. Questions keep their identities, so that key.json says what a result means.
webMUSHRA answers "first" or "second": a question's first or second system. BeaqleJS answers with a
place, and its PresentationOrder says which file was there, A of the first system or B of the
second. Both draw the order of questions, BeaqleJS sides too; webMUSHRA keeps those of the first
sheet, of which half are swapped.
"""

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sep_tf.listening_test import clips, design
from sep_tf.listening_test.builder import Material


def write_webmushra(folder: Path, material: Material) -> list[Path]:
    """Writes configs/TEST.yaml and the clips below configs/resources/, as webMUSHRA has them.

    Pages are `preference_test` of two stimuli (its `paired_comparison` asks for a hidden
    reference); the reference is played by a player in the page's text.

    Returns:
      The configuration.
    """
    import yaml

    root = f"configs/resources/{material.identity}"
    swapped = {p.question: p.swapped for p in material.design.sheets[0]}
    blocks: dict[str, list[Any]] = {name: ["random"] for name in material.settings.criteria}
    first_reference = None
    for q, paths in _questions(folder, root, material):
        first_reference = first_reference or paths["reference"]
        criterion = design.CRITERIA[q.criterion]
        # A is whatever comes first in here.
        places = ("second", "first") if swapped[q.identity] else ("first", "second")
        blocks[q.criterion].append(
            {
                "type": "preference_test",
                "id": q.identity,
                "name": criterion.question,
                "content": f"<p>{html.escape(criterion.explanation)}</p><p>Reference: <audio "
                f'controls src="{html.escape(paths["reference"])}"></audio></p>',
                "considerOrder": False,
                "mustPlayback": "ended",
                "stimuli": {place: paths[place] for place in places},
            }
        )
    config = {
        "testname": material.settings.title,
        "testId": material.identity,
        "bufferSize": 2048,
        "stopOnErrors": True,
        "showButtonPreviousPage": False,
        "remoteService": "service/write.php",
        "pages": [*_first_pages(material, first_reference), *blocks.values(), _last_page()],
    }
    path = folder / "configs" / f"{material.identity}.yaml"
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    return [path]


def _first_pages(material: Material, stimulus: str | None) -> list[dict[str, Any]]:
    return [
        {
            "type": "generic",
            "id": "welcome",
            "name": material.settings.title,
            "content": "You will hear pairs of short clips of singing and pick one of each pair. "
            "Please use headphones, in a quiet place.",
        },
        {
            "type": "volume",
            "id": "volume",
            "name": "Volume",
            "content": "Set a comfortable volume, and leave it as it is.",
            "stimulus": stimulus,
            "defaultVolume": 0.5,
        },
    ]


def _last_page() -> dict[str, Any]:
    training = ("none", "up to 3 years", "3 to 10 years", "over 10 years")
    return {
        "type": "finish",
        "name": "Thank you",
        "content": "Please say a few words about yourself, and send the results.",
        "showResults": False,
        "writeResults": True,
        "questionnaire": [
            {"type": "text", "label": "First language", "name": "language"},
            {
                "type": "likert",
                "name": "training",
                "label": "Musical training",
                "response": [{"value": value, "label": value} for value in training],
            },
        ],
    }


def write_beaqlejs(folder: Path, material: Material) -> list[Path]:
    """Writes config/CRITERION.js and the clips below audio/, for BeaqleJS's preference test.

    BeaqleJS asks one thing a test: there is one configuration for each criterion. Its preference
    test (PrefTest) plays A and B without a reference.

    Returns:
      The configurations.
    """
    (folder / "config").mkdir(parents=True)
    sets: dict[str, list[dict[str, Any]]] = {name: [] for name in material.settings.criteria}
    for q, paths in _questions(folder, f"audio/{material.identity}", material):
        files = {"A": paths["first"], "B": paths["second"]}
        sets[q.criterion].append({"Name": "", "TestID": q.identity, "Files": files})
    written = []
    for name, testsets in sets.items():
        config = {
            "TestName": f"{material.settings.title}: {design.CRITERIA[name].question}",
            "LoopByDefault": False,
            "ShowFileIDs": False,
            "ShowResults": False,
            "EnableABLoop": False,
            "EnableOnlineSubmission": True,
            "BeaqleServiceURL": "web_service/beaqleJS_Service.php",
            "SupervisorContact": material.settings.contact,
            "RandomizeTestOrder": True,
            # Sides.
            "RandomizeFileOrder": True,
            "MaxTestsPerRun": -1,
            "AudioRoot": "",
            "Testsets": testsets,
        }
        path = folder / "config" / f"{name}.js"
        text = json.dumps(config, indent=2, ensure_ascii=False)
        path.write_text(f"var TestConfig = {text};\n", encoding="utf-8")
        written.append(path)
    return written


def _questions(
    folder: Path, root: str, material: Material
) -> Iterator[tuple[design.Question, dict[str, str]]]:
    """Writes the clips of each question, in the order of identities.

    Yields:
      (question, {"first", "second", "reference": path relative to the folder}).
    """
    (folder / root).mkdir(parents=True)
    for q in sorted(material.design.questions, key=lambda q: q.identity):
        signals = {"first": q.first, "second": q.second}
        signals["reference"] = material.reference(q.criterion)
        paths = {}
        for place, signal in signals.items():
            # Named after the question: no name tells a system.
            paths[place] = f"{root}/{q.identity}_{place}.wav"
            clips.write(folder / paths[place], material.clips[signal, q.song])
        yield q, paths
