// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	line     = "mqtt-broker snapshot 1\n"
	lineHead = "mqtt-broker snapshot "

	frameHeader = 'h'
	frameRecord = 'r'
	frameFooter = 'e'

	// maxText bounds header and footer, maxRecord a record: the largest packet of MQTT, and room for what is kept beside it.
	maxText   = 1 << 20
	maxRecord = 272 << 20
	// chunk is how much memory is asked for at once: a length that is wrong must not cost what it says.
	chunk = 256 << 10
)

var (
	// ErrDamaged says that a stream is not what was written: it was cut off, altered or added to.
	ErrDamaged = errors.New("the snapshot is damaged")
	// ErrOther says that a stream is no snapshot, or one of a form that is not known here.
	ErrOther = errors.New("not a snapshot that this release can read")
)

// Header stands at the beginning.
type Header struct {
	// Broker is namespace/name of the broker that it was taken of.
	Broker string `json:"broker"`
	// Version of that broker.
	Version string `json:"version"`
	// Store is the number of the form of its records.
	Store int `json:"store"`
	// Taken is the moment of which everything is.
	Taken time.Time `json:"taken"`
}

// Footer stands at the end.
type Footer struct {
	// Records is how many there are.
	Records int64 `json:"records"`

	Totals
}

// Totals is what is in a snapshot.
type Totals struct {
	Sessions      int64 `json:"sessions"`
	Subscriptions int64 `json:"subscriptions"`
	// Queued messages wait for the client of a session, or were sent to it and are not acknowledged.
	Queued int64 `json:"queued"`
	// Received are packet ids of messages of QoS 2 that came from clients and were not released.
	Received int64 `json:"received"`
	Wills    int64 `json:"wills"`
	Retained int64 `json:"retained"`
}

// Writer writes a snapshot.
type Writer struct {
	to      io.Writer
	sum     hash.Hash
	records int64
	frame   []byte
}

// NewWriter begins a snapshot.
func NewWriter(to io.Writer, h Header) (*Writer, error) {
	w := &Writer{to: to, sum: sha256.New()}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	w.frame = appendFrame(append(w.frame[:0], line...), frameHeader, text)
	return w, w.flush()
}

// Record adds one. It may be followed by others before anything is written, see Flush.
func (w *Writer) Record(key, value []byte) {
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(key)))
	w.frame = append(w.frame, frameRecord)
	w.frame = binary.AppendUvarint(w.frame, uint64(n+len(key)+len(value)))
	w.frame = append(append(append(w.frame, head[:n]...), key...), value...)
	w.records++
}

// Buffered is how many bytes wait for Flush.
func (w *Writer) Buffered() int { return len(w.frame) }

// Flush writes what was added.
func (w *Writer) Flush() error {
	err := w.flush()
	if cap(w.frame) > 4*chunk {
		w.frame = nil
	}
	return err
}

func (w *Writer) flush() error {
	_, _ = w.sum.Write(w.frame) // never fails
	_, err := w.to.Write(w.frame)
	w.frame = w.frame[:0]
	return err
}

// Close writes the end. Without it all that was written counts for nothing.
func (w *Writer) Close(t Totals) error {
	text, err := json.Marshal(Footer{Records: w.records, Totals: t})
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	w.frame = appendFrame(w.frame, frameFooter, text)
	if err := w.flush(); err != nil {
		return err
	}
	_, err = w.to.Write(w.sum.Sum(nil))
	return err
}

func appendFrame(dst []byte, kind byte, body []byte) []byte {
	return append(binary.AppendUvarint(append(dst, kind), uint64(len(body))), body...)
}

// Reader reads a snapshot.
type Reader struct {
	Header Header

	from    *bufio.Reader
	sum     hash.Hash
	at      int64 // bytes read
	records int64
	body    []byte
	end     *Footer
}

// NewReader reads the beginning.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{from: bufio.NewReaderSize(from, 64<<10), sum: sha256.New()}
	if err := r.begin(); err != nil {
		return nil, err
	}
	kind, err := r.next(maxText)
	if err != nil {
		return nil, err
	}
	if kind != frameHeader || json.Unmarshal(r.body, &r.Header) != nil {
		return nil, r.damaged("there is no header")
	}
	return r, nil
}

// begin reads the line, or says what there is instead.
func (r *Reader) begin() error {
	text, err := r.from.Peek(len(line))
	switch {
	case string(text) == line:
		return r.fill(len(line))
	case errors.Is(err, io.EOF) && strings.HasPrefix(line, string(text)):
		r.at = int64(len(text))
		return r.broken(err)
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case bytes.HasPrefix(text, []byte(lineHead)):
		form, _, _ := bytes.Cut(text[len(lineHead):], []byte("\n"))
		return fmt.Errorf("%w: it has form %q, and this release knows form 1", ErrOther, form)
	default:
		return fmt.Errorf("%w: it does not begin like one", ErrOther)
	}
}

// Next gives the next record, which is good until the one that follows. After the last one it is [io.EOF], and only then is
// it known that all of it was good.
func (r *Reader) Next() (key, value []byte, err error) {
	if r.end != nil {
		return nil, nil, io.EOF
	}
	kind, err := r.next(maxRecord)
	if err != nil {
		return nil, nil, err
	}
	switch kind {
	case frameRecord:
		r.records++
		n, head := binary.Uvarint(r.body)
		if head <= 0 || n > uint64(len(r.body)-head) { //nolint:gosec // not negative
			return nil, nil, r.damaged("a record does not parse")
		}
		body := r.body[head:]
		return body[:n:n], body[n:], nil
	case frameFooter:
		return nil, nil, r.finish()
	default:
		return nil, nil, r.damaged(fmt.Sprintf("a part of kind %q", kind))
	}
}

// finish checks the end, and that nothing follows it.
func (r *Reader) finish() error {
	f := &Footer{}
	if json.Unmarshal(r.body, f) != nil {
		return r.damaged("the end does not parse")
	}
	want := r.sum.Sum(nil)
	if err := r.fill(sha256.Size); err != nil {
		return err
	}
	switch {
	case !bytes.Equal(want, r.body):
		return r.damaged("the sum at the end does not fit what stands before")
	case f.Records != r.records:
		return r.damaged(fmt.Sprintf("%d records instead of %d", r.records, f.Records))
	}
	switch _, err := r.from.ReadByte(); {
	case err == nil:
		return r.damaged("something follows its end")
	case !errors.Is(err, io.EOF):
		return err
	}
	r.end = f
	return io.EOF
}

// Footer is what stood at the end; nil before Next has come there.
func (r *Reader) Footer() *Footer { return r.end }

// Read is how many bytes have been read.
func (r *Reader) Read() int64 { return r.at }

// next reads a frame into body.
func (r *Reader) next(most uint64) (kind byte, err error) {
	var head [1 + binary.MaxVarintLen64]byte
	n := 0
	for n < 2 || head[n-1] >= 0x80 {
		if n == len(head) {
			return 0, r.tooLong()
		}
		if head[n], err = r.from.ReadByte(); err != nil {
			return 0, r.broken(err)
		}
		n++
		r.at++
	}
	_, _ = r.sum.Write(head[:n]) // never fails
	size, ok := binary.Uvarint(head[1:n])
	if ok <= 0 || size > most {
		return 0, r.tooLong()
	}
	return head[0], r.fill(int(size)) //nolint:gosec // bounded above
}

// fill reads n bytes into body.
func (r *Reader) fill(n int) error {
	if cap(r.body) > 4*chunk {
		r.body = nil
	}
	r.body = r.body[:0]
	for have := 0; have < n; have = len(r.body) {
		more := min(n-have, chunk)
		r.body = slices.Grow(r.body, more)[:have+more]
		got, err := io.ReadFull(r.from, r.body[have:])
		r.at += int64(got)
		if err != nil {
			return r.broken(err)
		}
	}
	_, _ = r.sum.Write(r.body) // never fails
	return nil
}

func (r *Reader) damaged(why string) error {
	return fmt.Errorf("%w: at byte %d: %s", ErrDamaged, r.at, why)
}

func (r *Reader) tooLong() error { return r.damaged("a part is longer than any can be") }

// broken is why no more can be read: the stream has ended, or whoever it comes from has failed.
func (r *Reader) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends at byte %d, before its end: it was cut off", ErrDamaged, r.at)
	}
	return err
}
