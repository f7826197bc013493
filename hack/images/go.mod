module github.com/mqtt-operator/mqtt-operator/hack/images

go 1.26.0

require (
	github.com/google/go-containerregistry v0.22.1
	github.com/mqtt-operator/mqtt-operator/hack/devcluster v0.0.0
)

require (
	github.com/klauspost/compress v1.19.2 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
)

replace github.com/mqtt-operator/mqtt-operator/hack/devcluster => ../devcluster
