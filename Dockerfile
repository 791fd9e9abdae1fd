# Builds the container image: the optimised binary on a small Debian, as a user without rights.
#
#   docker build -t watchword:local .
#
# Needs BuildKit (Docker 23 and newer, or `podman build`). docs/guides/containers.md says how to run it.

# `slim` has the C compiler and linker that dependencies need, and no more. The Debian release is the one of the final
# stage: a binary does not start on an older libc than it was linked against.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# Tests, examples and benches stay outside (.dockerignore): cargo does not open targets that it is not asked for.
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY src src
# The caches stand in for a layer of dependencies: a stub `src/` would need a stub build.rs, and fool cargo's time
# stamps. They are not part of the layer, so the binary is copied out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin watchword \
    && cp target/dist/watchword /usr/local/bin/watchword

FROM debian:bookworm-slim

# A fixed number, since Kubernetes' runAsNonRoot can only check numbers and a volume remembers its owner as one.
# The folder is the user's alone, as the binary makes it; it must have its owner before VOLUME, which freezes it.
RUN groupadd --gid 10001 watchword \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /var/lib/watchword \
        --shell /usr/sbin/nologin watchword \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/watchword
COPY LICENSE /usr/share/doc/watchword/LICENSE
# The authorities that the machine trusts, for a Redis behind rediss://; this Debian comes without them.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/watchword /usr/local/bin/watchword

# Inside a container loopback reaches nobody, so the doors listen on every address. That alone does not start: the
# binary refuses plain text beyond loopback and names --insecure-plaintext. The image never says it; whoever runs it
# decides.
ENV WATCHWORD_DATA_DIR=/var/lib/watchword \
    WATCHWORD_GRPC_ADDR=0.0.0.0:50051 \
    WATCHWORD_HTTP_ADDR=0.0.0.0:5000 \
    WATCHWORD_OPS_ADDR=0.0.0.0:50052

USER 10001:10001
VOLUME ["/var/lib/watchword"]
# gRPC, HTTP, and ops for health.
EXPOSE 50051 5000 50052
# The signal that drains.
STOPSIGNAL SIGTERM
# The binary asks itself, so no shell and no curl need to be here. It gives up after 2 s to connect and 2 s to read.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["watchword", "healthcheck"]
ENTRYPOINT ["watchword"]

# At the end, since they change with every build and would otherwise spoil the layers after them.
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Watchword" \
      org.opencontainers.image.description="A gRPC authentication microservice: register users and sign them in." \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
