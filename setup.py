"""Packaging of sep_tf. The core runs without TensorFlow; the extras bring the rest."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "sep_tf/__init__.py").read_text("utf-8"), re.MULTILINE
).group(1)

CORE = [
    "absl-py>=2.0",
    "ai-edge-litert>=2.0",
    "numpy>=1.26",
    "pyworld>=0.3.4",
    # pyworld imports pkg_resources, which left setuptools in version 82, and does not declare it.
    "setuptools<82",
    "soundfile>=0.12.1",
    "soxr>=0.4",
    "tqdm>=4.60",
]

EXTRAS = {
    "app": ["gradio>=5.0", "matplotlib>=3.7"],
    "data": [
        "apache-beam>=2.60,<2.78",
        "audiomentations>=0.40",
        "ffmpeg-python>=0.2",
        "mido>=1.3",
        # The compressor of audiomentations.
        "numpy-audio-limiter>=0.1",
        "musdb>=0.4.2",
        "pyyaml>=6.0",
    ],
    "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"],
    "plot": ["matplotlib>=3.7"],
    "eval": [
        "matplotlib>=3.7",
        "mir_eval>=0.7",
        "pyloudnorm>=0.1.1",
        "pystoi>=0.4",
        "pyyaml>=6.0",
        "scipy>=1.11",
    ],
    "midi": ["pretty_midi>=0.2.10"],
    "serve": ["grpcio>=1.60", "tensorflow-serving-api>=2.18,<2.22"],
    "train": [
        "ai-edge-quantizer>=0.10",
        "h5py>=3.8",
        "keras>=3.12,<3.16",
        "tensorboard>=2.18",
        "tensorflow>=2.18,<2.22",
        "tensorflow-io>=0.37.1; python_version<'3.13'",
    ],
}
EXTRAS["dev"] = sorted({r for extra in EXTRAS.values() for r in extra}) + [
    "build>=1.2",
    # One worker of the tests makes what several need.
    "filelock>=3.12",
    "hypothesis>=6.100",
    # The second Keras backend that the networks are tested on.
    "jax>=0.4.30",
    "mypy>=1.15",
    # Drives the browser that takes the listening test in tests.
    "playwright>=1.40",
    # SPTK, the other implementation that mel-cepstra are compared with.
    "pysptk>=1.0",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    # Beam's other engine that tests run on.
    "apache-beam[dask]",
    "ruff>=0.9",
]

setup(
    name="sep_tf",
    version=VERSION,
    description="Singing voice extraction by re-synthesis: the raw voice of a song",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # The bundled weights have a licence of their own, which the model card states.
    license_files=["LICENSE", "MODEL_CARD.md"],
    python_requires=">=3.11",
    packages=find_packages(
        include=["sep_tf", "sep_tf.*", "tfrecords", "tfrecords.*", "export", "export.*"]
    ),
    package_data={
        "export": ["serving/*.config", "serving/*.yaml"],
        "sep_tf": [
            *(f"presets/*{suffix}" for suffix in (".flags", ".tflite", ".weights.h5", ".json")),
            "py.typed",
            "evaluation/*.html",
            "listening_test/page/*",
        ],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["sep-tf = sep_tf.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
)
