# SPDX-License-Identifier: Apache-2.0
#
# The operator's image. Build it from the root of the repository:
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
# hack/images reads the last stage of this file, so the image made without a container engine is the same one.

ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=scratch

FROM --platform=${BUILDPLATFORM} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY broker-image broker-image
COPY cmd cmd
COPY controllers controllers
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=0.1.0-dev
ARG PACKAGES="./cmd/operator"
RUN mkdir /out && CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/ ${PACKAGES}

# No shell, no package, no CA bundle: the operator talks to the API server alone, whose CA the kubelet mounts, and to
# the brokers' admin endpoints, whose CA it made itself.
FROM ${BASE_IMAGE}
ARG VERSION=0.1.0-dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mqtt-operator" \
      org.opencontainers.image.description="Runs MQTT brokers on Kubernetes from four kinds of object" \
      org.opencontainers.image.source="https://github.com/mqtt-operator/mqtt-operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/operator /operator
USER 65532:65532
ENTRYPOINT ["/operator"]
