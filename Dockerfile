# Two images, both of a static binary on nothing: no shell, no libraries, a user without rights.
#
#   docker build -t connector .                        compiles here; needs the image golang:1.26
#   CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/connector ./cmd/connector
#   docker build -t connector --target prebuilt .      takes that binary; needs no other image
#
# For other processors: docker buildx build --platform linux/amd64,linux/arm64 . compiles on this one for each of them.
#
# Run: docker run -v "$PWD/connector.yaml:/etc/connector.yaml:ro" -v tables:/data -p 9464:9464 connector run -c /etc/connector.yaml
# Stop with a grace longer than shutdown_timeout (docker stop -t 45): see docs/operations.md.
#
# There is no HEALTHCHECK. What can't be mended by waiting ends the process, and what can (Kafka or the store is down) is not
# mended by a restart, which is what an orchestrator does with the unhealthy. Ask /healthz and /readyz from outside.

ARG GO_IMAGE=golang:1.26

# What both have in common; but WORKDIR, which would make /data as root's, comes behind what fills it. It comes first, as does the prebuilt binary, since builders without BuildKit run every stage up to
# the wanted one.
FROM scratch AS base
LABEL org.opencontainers.image.title="kafkadelta connector" \
      org.opencontainers.image.description="From Kafka into Delta Lake, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0"
# `table append --input -` keeps its input in a file; there is no /tmp. Time zones are not needed: all is UTC.
ENV TMPDIR=/data
USER 65532:65532
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/connector"]
CMD ["--help"]

# The prebuilt binary. The pattern lets builders without BuildKit pass where nothing is prebuilt. It has no certificates of the
# public authorities, as which Azure, S3, GCS and Kafka in a cloud are known: mount /etc/ssl/certs of a system that has some.
FROM base AS prebuilt
COPY LICENSE bin/connecto[r] /
COPY --chown=65532:65532 LICENSE /data/
WORKDIR /data

# Compiled by the builder's own processor, whatever the image's is. Without BuildKit both are this machine's.
FROM --platform=${BUILDPLATFORM:-linux} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG RELEASE=
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.release=${RELEASE}" -o /out/connector ./cmd/connector \
 && mkdir -p /out/data && cp LICENSE /out/data/

FROM base AS connector
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/connector /src/LICENSE /
COPY --from=build --chown=65532:65532 /out/data /data
WORKDIR /data
