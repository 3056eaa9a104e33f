# The operator and the mover: one image. BASE needs Python 3.11 or newer with the venv module, named python3.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
# The dependencies change seldom: a layer of their own, byte-compiled there.
COPY requirements.lock ./
RUN python3 -m venv /opt/blockvault \
    && /opt/blockvault/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-compile \
        --only-binary=:all: --require-hashes -r requirements.lock \
    && find /opt/blockvault -type d \( -name tests -o -name test \) -path '*/site-packages/*' -prune -exec rm -rf {} + \
    && /opt/blockvault/bin/python -m compileall -q -j 0 /opt/blockvault/lib
COPY pyproject.toml README.md LICENSE ./
COPY operator ./operator
# The package itself has no hash; its build tool comes from an isolated environment.
RUN /opt/blockvault/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && /opt/blockvault/bin/python -m pip uninstall --yes --quiet setuptools pip

FROM ${BASE}
# No installer in the image that runs beside the data.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /opt/blockvault /opt/blockvault
ARG VERSION=0.1.0.dev0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="blockvault" \
      org.opencontainers.image.description="Block-level backup and recovery for Kubernetes volumes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/blockvault/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 65532:65532
ENTRYPOINT ["python", "-m", "blockvault"]
