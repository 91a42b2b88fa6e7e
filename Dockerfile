# The core only: extraction on LiteRT with the bundled weights, no TensorFlow.
#   docker build -t sep-tf .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/audio" sep-tf extract song.mp3 --output=voice.wav
FROM python:3.12-slim AS build
# pyworld comes as source.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/sep_tf
WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE MODEL_CARD.md ./
COPY sep_tf sep_tf
COPY tfrecords tfrecords
COPY export export
RUN /opt/sep_tf/bin/pip install --no-cache-dir .

FROM python:3.12-slim
COPY --from=build /opt/sep_tf /opt/sep_tf
ENV PATH="/opt/sep_tf/bin:$PATH"
WORKDIR /audio
ENTRYPOINT ["sep-tf"]
