# syntax=docker/dockerfile:1
# Two stages: wheels are built where a compiler may be, and run where none is.
FROM python:3.12.1-slim AS build
WORKDIR /src
COPY service/requirements.txt service/requirements.txt
RUN python -m venv /opt/vault \
    && /opt/vault/bin/pip install --no-cache-dir --require-hashes -r service/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY migrations migrations
COPY service service
RUN /opt/vault/bin/pip install --no-cache-dir "setuptools>=77" \
    && /opt/vault/bin/pip install --no-cache-dir --no-deps --no-build-isolation ./client . \
    && /opt/vault/bin/pip uninstall -y setuptools pip

FROM python:3.12.1-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/flero-vault --create-home vault
COPY --from=build /opt/vault /opt/vault
USER vault
WORKDIR /var/lib/flero-vault
VOLUME /var/lib/flero-vault
ENV PATH=/opt/vault/bin:$PATH PYTHONUNBUFFERED=1
EXPOSE 50051
ENTRYPOINT ["flero-vault"]
CMD ["serve"]
