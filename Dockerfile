# Two images, both with a static binary, no shell, and a user without rights:
#
#   docker build -t connector .                        compiles here; needs the image golang:1.26
#   CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/connector ./cmd/connector
#   docker build -t connector --target prebuilt .      takes that binary; needs no other image
#
# Run: docker run -v "$PWD/connector.yaml:/etc/connector.yaml:ro" -v tables:/data -p 9464:9464 connector run -c /etc/connector.yaml
# Stop with a grace longer than shutdown_timeout (docker stop -t 45): see docs/operations.md.

ARG GO_IMAGE=golang:1.26

# The prebuilt binary. It comes first, since builders without BuildKit run every stage up to the wanted one. The pattern
# lets them pass this stage where nothing is prebuilt. This image has no CA certificates: for TLS set source.tls.ca_file.
FROM scratch AS prebuilt
COPY LICENSE bin/connecto[r] /
COPY --chown=65532:65532 LICENSE /data/
USER 65532:65532
WORKDIR /data
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/connector"]
CMD ["--help"]

FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG RELEASE=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=${RELEASE}" -o /out/connector ./cmd/connector \
 && mkdir -p /out/data && cp LICENSE /out/data/

FROM scratch AS connector
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/connector /src/LICENSE /
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
WORKDIR /data
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/connector"]
CMD ["--help"]
