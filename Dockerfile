# One image: the gateway and, as its private child, TorchServe with the shipped weights. Nothing but the gateway's port is open.
#   docker build -t affectgan .                                  for processors
#   docker build -t affectgan:cuda --build-arg VARIANT=cu126 .   for GPUs
# For scoring on Ray (k8s/components/ray): --build-arg EXTRAS=serving,local,ray -t affectgan-scoring
# For training (k8s/training): --build-arg EXTRAS=serving,tracing,training,artefacts -t affectgan-training
#
# BASE by what it is rather than what it is called: --build-arg BASE=python@sha256:... as the release does.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS dependencies
ARG VARIANT=cpu
ARG EXTRAS=serving,tracing,artefacts
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv --without-pip /opt/affectgan
# What others wrote, before what is ours: this layer changes with pyproject.toml and constraints.txt alone.
COPY pyproject.toml constraints.txt ./
RUN python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*p['dependencies'], *(d for e in sys.argv[1].split(',') for d in p['optional-dependencies'][e]), sep='\n')" \
    "$EXTRAS" > requirements.txt \
    && pip --python /opt/affectgan/bin/python install -r requirements.txt -c constraints.txt \
    --extra-index-url "https://download.pytorch.org/whl/${VARIANT}" \
    && echo /opt/app > "$(ls -d /opt/affectgan/lib/python3*/site-packages)/app.pth"

FROM dependencies AS code
COPY setup.py README.md LICENSE ./
COPY affect affect
COPY training training
COPY handlers handlers
COPY service service
COPY scoring scoring
COPY weights weights
RUN pip --python /opt/affectgan/bin/python install --no-deps --target /opt/app . \
    && /opt/affectgan/bin/python -m affect.cli archive weights --out /models

FROM ${BASE}
LABEL org.opencontainers.image.title="AffectGAN" org.opencontainers.image.licenses="Apache-2.0"
# tini is process 1: it takes in orphans, and signals reach a process that is not the first.
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && python -m pip uninstall -y -q pip setuptools wheel \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin affectgan
COPY --from=dependencies /opt/affectgan /opt/affectgan
COPY --from=code /opt/app /opt/app
COPY --from=code /models /models
ENV PATH=/opt/app/bin:/opt/affectgan/bin:$PATH OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/tmp
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["tini", "--"]
CMD ["affectgan", "serve", "--models", "/models", "--host", "0.0.0.0", "--port", "8000"]
