# coho serve in a container:
#
#   docker build -t coho .
#   docker run -d --name coho --stop-timeout 90 \
#     -v "$PWD/coho.toml:/etc/coho/coho.toml:ro" -v coho:/var/lib/coho \
#     -e SF_CLIENT_SECRET -p 127.0.0.1:8484:8484 coho
#
# with, in coho.toml, [state] dir = "/var/lib/coho" and [server] addr =
# "0.0.0.0:8484" and a token: what listens beyond loopback asks for one. Any other
# command: docker exec coho coho --config /etc/coho/coho.toml status

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# DuckDB is linked in, which takes the C++ compiler that the image has. The commit
# that `coho version` prints is read from .git.
RUN git config --global --add safe.directory /src && \
    CGO_ENABLED=1 go build -ldflags "-s -w" -o /out/coho ./cmd/coho && \
    install -d -o 65532 -g 65532 -m 0700 /out/state

# What the binary takes at run time: glibc, libstdc++, the certificates of public
# authorities. Nothing else is in it, no shell either.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/coho /usr/local/bin/coho
COPY --from=build --chown=65532:65532 /out/state /var/lib/coho
VOLUME /var/lib/coho
WORKDIR /var/lib/coho
EXPOSE 8484
# The first SIGTERM, which docker stop sends, lets batches in flight finish.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/coho"]
CMD ["--config", "/etc/coho/coho.toml", "--log-format", "json", "serve"]
