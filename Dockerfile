# One image: the gateway and, as its private child, TorchServe with the shipped weights. Nothing but the gateway's port is open.
#   docker build -t affectgan --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# For scoring on Ray (k8s/components/ray): --build-arg EXTRAS=serving,local,ray -t affectgan-scoring
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=serving
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/affectgan
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY affect affect
COPY training training
COPY handlers handlers
COPY service service
COPY scoring scoring
COPY weights weights
RUN /opt/affectgan/bin/pip install --extra-index-url "$TORCH_INDEX" -c constraints.txt ".[$EXTRAS]"
RUN /opt/affectgan/bin/affectgan archive weights --out /models

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="AffectGAN" org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin affectgan
COPY --from=build /opt/affectgan /opt/affectgan
COPY --from=build /models /models
ENV PATH=/opt/affectgan/bin:$PATH OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/tmp
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["affectgan", "serve", "--models", "/models", "--host", "0.0.0.0", "--port", "8000"]
