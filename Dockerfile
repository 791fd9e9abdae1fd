# Builds the container image: the optimised binary on a minimal Debian, with an unprivileged user.
#
#   docker build -t watchword:local .
#
# Needs BuildKit (Docker 23 and newer, or `podman build`). How to run it: docs/guides/containers.md.

# `slim` contains the C compiler and linker that dependencies need. The Debian release is the one of the final stage,
# because a binary does not start with an older libc than it was linked against.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# Without tests, examples and benches (.dockerignore): cargo does not read targets that it does not build.
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY src src
# Cache mounts replace a separate layer for dependencies, which would need a stub `src/` and build.rs and would confuse
# cargo's time stamps. They are not part of the layer, so the same step copies the binary out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --bin watchword \
    && cp target/dist/watchword /usr/local/bin/watchword

FROM debian:bookworm-slim

# A fixed uid, because Kubernetes' runAsNonRoot checks only numbers and a volume stores its owner as a number.
# Only the user can access the folder, as with a folder that the binary creates; the binary refuses a folder of another user,
# or one that others can write. Changes after VOLUME would be lost.
RUN groupadd --gid 10001 watchword \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /var/lib/watchword \
        --shell /usr/sbin/nologin watchword \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/watchword
COPY LICENSE /usr/share/doc/watchword/LICENSE
# The trusted CA certificates, for rediss:// stores; this Debian image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/watchword /usr/local/bin/watchword

# Loopback of a container cannot be reached from outside, so the listeners use all addresses. With these settings alone
# the start fails: the binary refuses plain text beyond loopback without --insecure-plaintext. Only the operator may set
# that.
ENV WATCHWORD_DATA_DIR=/var/lib/watchword \
    WATCHWORD_GRPC_ADDR=0.0.0.0:50051 \
    WATCHWORD_HTTP_ADDR=0.0.0.0:5000 \
    WATCHWORD_OPS_ADDR=0.0.0.0:50052

USER 10001:10001
VOLUME ["/var/lib/watchword"]
# The gRPC, HTTP and ops listeners.
EXPOSE 50051 5000 50052
# SIGTERM starts the drain.
STOPSIGNAL SIGTERM
# The binary checks itself, so the image needs no shell and no curl. Time limits: 2 s to connect and 2 s to read.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["watchword", "healthcheck"]
ENTRYPOINT ["watchword"]

# Last, because these values change with each build and invalidate the cache of later layers.
ARG VERSION=unversioned
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Watchword" \
      org.opencontainers.image.description="A gRPC authentication microservice: registers and authenticates users." \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
