"""The Beam pipeline of `sep-tf build`: one chain of plain elements, ending in one node.

    songs ─► analyse, one file a song ─► by shard ─► join ─► together ─► result.json

Every step is a function of its element and of the plan: no state, no clock, no place enters a
record, so that any engine and any number of workers write the same bytes. A song that fails goes
through the chain as an ordinary element that says why. All files are reached through TensorFlow's
file systems, and appear under their names only when complete: a step may be tried twice.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf

from sep_tf import cli, world
from sep_tf.config import AudioConfig
from sep_tf.errors import DataError
from tfrecords import engine, manifest, recipe, schema, songs, versions

AUDIO = AudioConfig()
RESULT_NAME = "result.json"
_COPY_BYTES = 1 << 22


@dataclasses.dataclass(frozen=True)
class Plan:
    """What all steps know: the folder they write to, and that of earlier analyses."""

    folder: str
    cache_dir: str | None

    def song_file(self, index: int) -> str:
        return f"{self.folder}/songs/{index:07d}.tfrecord"


def song_element(
    number_of: dict[str, int],
    row: manifest.Row,
    singer: int,
    num_shards: int,
    more: Sequence[versions.Version] = (),
    weight: float = 1.0,
) -> dict[str, Any]:
    """A song as it travels, and its versions: plain values that every engine can carry.

    Args:
      number_of: song_index of every song and version by its name.
      row: of the manifest.
      singer: number, -1 for one that is not trained.
      num_shards: of each family.
      more: versions of the song.
      weight: how often its records, and those of its versions, are written.
    """
    family = row.split if row.vocals is not None else f"{row.split}_backing"

    def named(song_id: str, version: tuple | None) -> dict[str, Any]:
        shard = schema.shard_name(family, schema.shard_of(song_id, num_shards), num_shards)
        return {"index": number_of[song_id], "shard": shard, "version": version}

    own = named(row.song_id, None)
    made = [named(version.song_id, dataclasses.astuple(version)) for version in more]
    values = {
        "row": dataclasses.astuple(row), "singer": singer, "family": family, "weight": weight,
    }  # fmt: skip
    return values | {"index": own["index"], "versions": [own, *made]}


def analyse(
    keyed: tuple[str, Iterable[dict[str, Any]]], plan: Plan
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Writes the records of a song and of its versions to files; yields what is known, by shard.

    What a song that failed has left goes with the folder of the songs' files.
    """
    (element,) = keyed[1]
    row = manifest.Row(*element["row"])
    song = failure = None
    for part in element["versions"]:
        version = versions.Version(*part["version"]) if part["version"] else None
        name = version.song_id if version else row.song_id
        done = {"index": part["index"], "family": element["family"], "records": 0, "error": None}
        try:
            if failure:
                raise failure
            song = song or songs.load_song(row, plan.cache_dir)
            made = versions.make(song, version) if version else song
        except (ValueError, OSError, MemoryError, tf.errors.OpError) as error:
            if song is None:
                failure = error  # of all its versions
            text = cli.describe(error)
            done["error"] = text if isinstance(error, DataError) else f"song '{name}': {text}"
        else:
            # No song is to blame where its records cannot be written: that ends the build.
            done["records"] = _write_song(made, name, part["index"], element, plan)
            # Versions have no part in the statistics: those are of recordings.
            done["sums"] = song_sums(song) if row.split == "train" and not version else None
        yield part["shard"], done


def _write_song(
    song: songs.Song, name: str, index: int, element: dict[str, Any], plan: Plan
) -> int:
    """Writes the records of a song or version, as often as they weigh; returns how many."""
    path = plan.song_file(index)
    partial = f"{path}.{os.getpid()}.partial"
    count = 0
    with tf.io.TFRecordWriter(partial) as writer:
        # In rounds: copies lie apart.
        for turn in range(math.ceil(element["weight"])):
            for number, example in enumerate(songs.cut(song, index, element["singer"])):
                if turn < recipe.copies(name, number, element["weight"]):
                    writer.write(songs.serialise(example))
                    count += 1
    tf.io.gfile.rename(partial, path, overwrite=True)
    return count


def song_sums(song: songs.Song) -> tuple[schema.StatisticsSum, schema.StatisticsSum] | None:
    """Sums over the audible and over the voiced frames; None where nobody sings."""
    if song.features is None:
        return None
    audible = world.frame_level_db(song.vocals) > AUDIO.gate_db
    level = songs.active_level_db(song.vocals)
    stacked = song.features.stacked
    return tuple(
        schema.StatisticsSum.of(stacked, chosen, level)
        for chosen in (audible, audible & song.features.voiced)
    )


def join(
    keyed: tuple[str, Iterable[dict[str, Any]]], plan: Plan
) -> tuple[str, tuple[str, str | None, list]]:
    """Writes a shard: the files of its songs one after the other. Gives its name and digest, too.

    In an order that has nothing to do with their names: training shuffles neighbours alone, and
    would hear one singer after the other.
    """
    shard, found = keyed
    done = list(found)
    good = [song for song in done if song["error"] is None]
    good.sort(key=lambda song: hashlib.sha256(f"{song['index']}".encode()).digest())
    # Weights may leave none.
    if not any(song["records"] for song in good):
        return "all", (shard, None, done)
    digest = hashlib.sha256()
    partial = f"{plan.folder}/{shard}.{os.getpid()}.partial"
    with tf.io.gfile.GFile(partial, "wb") as target:
        for song in good:
            _append(plan.song_file(song["index"]), target, digest)
    tf.io.gfile.rename(partial, f"{plan.folder}/{shard}", overwrite=True)
    return "all", (shard, digest.hexdigest(), done)


def _append(path: str, target: tf.io.gfile.GFile, digest: "hashlib._Hash") -> None:
    with tf.io.gfile.GFile(path, "rb") as source:
        while block := source.read(_COPY_BYTES):
            target.write(block)
            digest.update(block)


def finish(keyed: tuple[str, Iterable[tuple[str, str | None, list]]], plan: Plan) -> str:
    """Reduces counts and statistics, in the order of the songs; writes them to result.json."""
    shards = list(keyed[1])
    done = [song for _, _, found in shards for song in found]
    done.sort(key=lambda song: song["index"])
    counts: dict[str, int] = {}
    for song in done:
        if song["error"] is None:
            counts[song["family"]] = counts.get(song["family"], 0) + song["records"]
    sums = [song["sums"] for song in done if song["error"] is None and song["sums"]]
    result = {
        "counts": dict(sorted(counts.items())),
        "digests": {shard: digest for shard, digest, _ in sorted(shards) if digest},
        "failures": [[song["index"], song["error"]] for song in done if song["error"]],
        # Every song has a record, unless its weight leaves none.
        "unwritten": [
            song["index"] for song in done if song["error"] is None and not song["records"]
        ],
    }
    try:
        reduced = schema.reduce_statistics([s[0] for s in sums], [s[1] for s in sums])
        result["statistics"] = dataclasses.asdict(reduced)
    except DataError as error:
        result["error"] = str(error)
    songs.write_whole(f"{plan.folder}/{RESULT_NAME}", json.dumps(result).encode())
    return plan.folder


def chain(pipeline: beam.Pipeline, elements: list[dict[str, Any]], plan: Plan) -> beam.PCollection:
    """The pipeline's steps; grouping by song is what lets an engine spread them."""
    return (
        pipeline
        | "Songs" >> beam.Create([(f"{e['index']:07d}", e) for e in elements], reshuffle=False)
        | "Spread" >> beam.GroupByKey()
        | "Analyse" >> beam.FlatMap(analyse, plan)
        | "Shards" >> beam.GroupByKey()
        | "Join" >> beam.Map(join, plan)
        | "Together" >> beam.GroupByKey()
        | "Finish" >> beam.Map(finish, plan)
    )


def run(
    elements: list[dict[str, Any]], plan: Plan, workers: int, beam_flags: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs the pipeline; returns what `finish` found.

    Raises:
      DataError: the engine could not be reached, or failed.
    """
    engine.run(lambda pipeline: chain(pipeline, elements, plan), workers, beam_flags)
    with tf.io.gfile.GFile(f"{plan.folder}/{RESULT_NAME}") as file:
        return json.loads(file.read())
