module github.com/mqtt-operator/mqtt-operator

go 1.26
