// SPDX-License-Identifier: Apache-2.0

// Package e2e tells stories of the whole product on a real cluster: real kubelet, real containers, real clients. Each
// test is one life in a namespace of its own. hack/e2e.sh brings the cluster, installs the chart and runs them:
//
//	hack/e2e.sh                        every story on the development node
//	hack/e2e.sh -test.run TestHibernate  one of them
//	CLUSTER=current hack/e2e.sh        on the cluster of the current kubectl context
//
// A story waits for facts and never for time. When it fails it shows what the reader would look at next: conditions,
// events, the logs of broker and operator. When it ends, well or not, it looks for every password and private key that
// its namespace has ever held in logs, events and objects.
//
// Files: main_test.go finds the cluster; story_test.go is a namespace with its life and end; mqtt_test.go the clients;
// shows_test.go what a failure prints; leaks_test.go the search for secrets. The others hold stories.
package e2e
