# syntax=docker/dockerfile:1
# Two stages: wheels are built and installed in the first, and run where neither pip nor a build
# system is. A tag can be moved; a deployment pins the base by digest with
# `--build-arg PYTHON_IMAGE=python@sha256:…`.
ARG PYTHON_IMAGE=python:3.12.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# First what changes rarely, so that a change of the code does not download it anew. Wheels only:
# what a source distribution is built with would be neither locked nor hashed.
COPY service/requirements.txt service/build-requirements.txt service/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --only-binary :all: --require-hashes \
        -r service/build-requirements.txt
RUN python -m venv --without-pip /opt/vault \
    && /opt/build/bin/pip --python /opt/vault/bin/python install --no-cache-dir \
        --only-binary :all: --require-hashes -r service/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY migrations migrations
COPY service service
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation \
        --wheel-dir /opt/wheels ./client . \
    && /opt/build/bin/pip --python /opt/vault/bin/python install --no-cache-dir --no-deps \
        --no-index /opt/wheels/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="flero-vault" \
    org.opencontainers.image.description="OAuth credential vault behind gRPC" \
    org.opencontainers.image.licenses="Apache-2.0"
# The base image's own pip, and the copy of it that makes virtual environments, are not needed here.
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && rm -rf "$(python -c 'import os, ensurepip; print(os.path.dirname(ensurepip.__file__))')" \
    && groupadd --system --gid 10001 vault \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin \
        --home-dir /var/lib/flero-vault vault \
    && install -d -m 0700 -o vault -g vault /var/lib/flero-vault /var/spool/flero-vault
COPY --from=build /opt/vault /opt/vault
ENV PATH=/opt/vault/bin:$PATH PYTHONUNBUFFERED=1
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/flero-vault
VOLUME /var/lib/flero-vault /var/spool/flero-vault
EXPOSE 50051
STOPSIGNAL SIGTERM
# Docker reserves every exit code but 0 and 1.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD python -I -m flero_vault.api.health_probe "${FLERO_VAULT_GRPC_BIND:-127.0.0.1:50051}" || exit 1
ENTRYPOINT ["flero-vault"]
CMD ["serve"]
