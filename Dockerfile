# An image of headlight-server alone: built from this tree, run by any numeric user, with nothing to write to and no shell
# needed. Flags given to `run` come after the entry point and override the environment below. `./dev image` builds it,
# where no registry can be reached too.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
WORKDIR /src
COPY dev ./
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(./dev packages) \
 && rm -rf /var/lib/apt/lists/*
COPY CMakeLists.txt CMakePresets.json ./
COPY proto proto
COPY server server
COPY client client
RUN cmake --preset release -DHEADLIGHT_BUILD_TESTS=OFF \
 && cmake --build --preset release --target headlight-server \
 && install -D -s build/release/bin/headlight-server /out/headlight-server
# The packages that own the libraries which the binary loads. A library that no package owns fails the build.
RUN set -eu; \
    for library in $(ldd /out/headlight-server | awk '$3 ~ /^\// { print $3 }'); do \
      owner=$(dpkg-query -S "$library" "/usr$library" 2>/dev/null | head -n 1 | cut -d : -f 1); \
      test -n "$owner" || { echo "no package owns $library"; exit 1; }; \
      echo "$owner"; \
    done > /out/owners; \
    sort -u /out/owners > /out/runtime-packages; \
    test -s /out/runtime-packages

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="headlight" \
      org.opencontainers.image.description="Exact multi-head attention as a gRPC service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /out/runtime-packages /usr/share/doc/headlight/runtime-packages
COPY LICENSE /usr/share/doc/headlight/LICENSE
COPY deploy/image/sbom.sh /tmp/sbom.sh
# With a list of all that is in the image, as SPDX 2.3.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive xargs -a /usr/share/doc/headlight/runtime-packages \
      apt-get install -y --no-install-recommends \
 && sh /tmp/sbom.sh "${VERSION}" "${CREATED}" > /usr/share/doc/headlight/sbom.spdx.json \
 && rm -rf /tmp/sbom.sh /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
COPY --from=build /out/headlight-server /usr/local/bin/headlight-server
# Every library is found.
RUN ! ldd /usr/local/bin/headlight-server | grep 'not found'
ENV HEADLIGHT_LISTEN=0.0.0.0:50051 HEADLIGHT_HTTP=0.0.0.0:9464 HEADLIGHT_WEB=0.0.0.0:8080
USER 65532:65532
WORKDIR /
EXPOSE 50051 9464 8080
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["headlight-server"]
