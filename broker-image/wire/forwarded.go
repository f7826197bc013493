// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"math"
)

// Forwarded are the properties of a message that a server forwards unaltered, in words: see Publish.Properties.
type Forwarded struct {
	// Text says that the payload is UTF-8; HasFormat that anything is said about it.
	Text, HasFormat bool

	ContentType, ResponseTopic string
	// CorrelationData is nil if there is none.
	CorrelationData []byte
	// User properties, names and values, in their order.
	User [][2]string
}

var errForwarded = errors.New("properties of a message do not parse")

// ParseForwarded reads properties in the form of Publish.Properties.
func ParseForwarded(properties []byte) (Forwarded, error) {
	var f Forwarded
	w := walker{all: properties, place: inPublish}
	for {
		more, err := w.next()
		if err != nil {
			return f, err
		}
		if !more {
			return f, nil
		}
		switch w.id {
		case propPayloadFormat:
			f.HasFormat, f.Text = true, w.number == 1
		case propContentType:
			f.ContentType = string(w.data)
		case propResponseTopic:
			f.ResponseTopic = string(w.data)
		case propCorrelationData:
			f.CorrelationData = append([]byte{}, w.data...)
		case propUser:
			name, rest, err := text(w.all[w.start+1 : w.end])
			if err != nil {
				return f, err
			}
			value, _, err := text(rest)
			if err != nil {
				return f, err
			}
			f.User = append(f.User, [2]string{string(name), string(value)})
		default:
			return f, errForwarded
		}
	}
}

// AppendForwarded writes properties in the form of Publish.Properties. It does not look whether they are good for anything
// but their length: ParsePublish does.
func AppendForwarded(dst []byte, f *Forwarded) ([]byte, error) {
	for _, s := range []string{f.ContentType, f.ResponseTopic, string(f.CorrelationData)} {
		if len(s) > math.MaxUint16 {
			return dst, errForwarded
		}
	}
	if f.HasFormat {
		dst = append(dst, propPayloadFormat, 0)
		if f.Text {
			dst[len(dst)-1] = 1
		}
	}
	dst = appendString(dst, propContentType, f.ContentType)
	dst = appendString(dst, propResponseTopic, f.ResponseTopic)
	if f.CorrelationData != nil {
		dst = appendText(append(dst, propCorrelationData), f.CorrelationData)
	}
	for _, u := range f.User {
		if len(u[0]) > math.MaxUint16 || len(u[1]) > math.MaxUint16 {
			return dst, errForwarded
		}
		dst = appendText(appendText(append(dst, propUser), u[0]), u[1])
	}
	return dst, nil
}
