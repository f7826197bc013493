// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"net"
	"net/url"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// cuttable opens connections that the story can break, and hands over how.
func cuttable(cut chan<- func()) mqtt3.OpenConnectionFunc {
	return func(where *url.URL, _ mqtt3.ClientOptions) (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", where.Host, patience)
		if err == nil {
			cut <- func() { _ = conn.Close() }
		}

		return conn, err
	}
}
