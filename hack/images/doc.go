// SPDX-License-Identifier: Apache-2.0

// Command images makes the project's container images without a container engine.
//
// In: the Dockerfiles and the Go code of this repository. Out: operator.tar and broker.tar, archives that "ctr images
// import" and "docker load" read, and beside each its bill of materials, operator.spdx.json and broker.spdx.json. What an
// image is made of is written once, in its Dockerfile: this command compiles the packages that the build stage names and
// follows the last stage, and refuses a Dockerfile that asks for more than it can do. Equal input gives equal bytes: times
// are zero, paths are trimmed, and a binary says only the version it was told.
//
// The bill of materials (SBOM) is SPDX 2.3. It names the image by its digest, the programs in it by their sums, and every Go
// module that is linked into them as the programs themselves tell it, with the sum that go.sum has.
//
// There are no CA certificates in the images. The operator talks to the API server, whose CA the kubelet mounts, and to
// brokers, whose CA it made; the broker opens no connections.
package main
