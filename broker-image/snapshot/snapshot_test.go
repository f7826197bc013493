// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var written = []string{"a", "", "key", "value", "", "no key", "large", strings.Repeat("x", 3*chunk+1)} // keys and values in turns

func header() Header {
	return Header{Broker: "factory/mq", Version: "v1", Store: 1, Taken: time.Unix(7, 0).UTC()}
}

func whole(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, header())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(written); i += 2 {
		w.Record([]byte(written[i]), []byte(written[i+1]))
		if i%4 == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(Totals{Sessions: 3, Queued: 9}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read gives keys and values in turns, and the error at the end.
func read(from io.Reader) (found []string, f *Footer, err error) {
	r, err := NewReader(from)
	if err != nil {
		return nil, nil, err
	}
	for {
		key, value, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found, r.Footer(), nil
		}
		if err != nil {
			return found, r.Footer(), err
		}
		found = append(found, string(key), string(value))
	}
}

func TestASnapshotIsReadAsItWasWritten(t *testing.T) {
	for name, from := range map[string]io.Reader{
		"at once": bytes.NewReader(whole(t)), "byte by byte": iotest.OneByteReader(bytes.NewReader(whole(t))),
		"with the end beside the last bytes": iotest.DataErrReader(bytes.NewReader(whole(t))),
	} {
		found, footer, err := read(from)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(written, found); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if want := (Footer{Records: 4, Totals: Totals{Sessions: 3, Queued: 9}}); *footer != want {
			t.Errorf("%s: %+v", name, footer)
		}
	}
	r, err := NewReader(bytes.NewReader(whole(t)))
	if err != nil || r.Header != header() {
		t.Errorf("%v, %+v", err, r.Header)
	}
}

// TestEveryCutIsSeen: wherever a stream ends too early.
func TestEveryCutIsSeen(t *testing.T) {
	all := whole(t)
	for n := range all {
		if n > 200 && n < len(all)-300 && n%4099 != 0 {
			continue // within the large value one place is as good as another
		}
		_, footer, err := read(bytes.NewReader(all[:n]))
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "it was cut off") || footer != nil {
			t.Fatalf("cut at byte %d: %v", n, err)
		}
	}
}

// TestEveryChangeIsSeen: each byte, one after another.
func TestEveryChangeIsSeen(t *testing.T) {
	all := whole(t)
	for n := range all {
		if n > 200 && n < len(all)-300 && n%4099 != 0 {
			continue
		}
		changed := bytes.Clone(all)
		changed[n] ^= 1 << (n % 8)
		_, footer, err := read(bytes.NewReader(changed))
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrOther) || footer != nil {
			t.Fatalf("changed at byte %d: %v", n, err)
		}
	}
}

func TestWhatIsNoSnapshotIsSaid(t *testing.T) {
	all := whole(t)
	// A sum over something that is not whole, as one would make who leaves out a record.
	left := bytes.Clone(all[:len(all)-sha256.Size])
	at := bytes.Index(left, []byte("keyvalue")) - 3
	left = append(left[:at:at], left[at+3+len("keyvalue"):]...)
	sum := sha256.Sum256(left)
	for name, tc := range map[string]struct {
		text string
		is   error
		says string
	}{
		"another file":          {"PK\x03\x04 and so on, for longer than the line", ErrOther, "it does not begin like one"},
		"an encrypted one":      {"age-encryption.org/v1\n-> X25519 ", ErrOther, "it does not begin like one"},
		"one of another form":   {"mqtt-broker snapshot 2\nwhatever", ErrOther, `it has form "2", and this release knows form 1`},
		"nothing":               {"", ErrDamaged, "it ends at byte 0"},
		"one with more behind":  {string(all) + "x", ErrDamaged, "something follows its end"},
		"two":                   {string(all) + string(all), ErrDamaged, "something follows its end"},
		"one with a record out": {string(left) + string(sum[:]), ErrDamaged, "3 records instead of 4"},
	} {
		if _, _, err := read(strings.NewReader(tc.text)); !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %s", name, err, tc.says)
		}
	}
	broken := errors.New("the line is down")
	if _, _, err := read(io.MultiReader(bytes.NewReader(all[:100]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrDamaged) {
		t.Errorf("where it comes from fails: %v", err)
	}
}

// TestAWrongLengthCostsNoMemory: what is not there is not made room for.
func TestAWrongLengthCostsNoMemory(t *testing.T) {
	text := append([]byte(line), "r\x80\x80\x80\x80\x01"...) // 256 MiB, if it were true
	cost := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := Reader{from: bufio.NewReader(bytes.NewReader(text[len(line):])), sum: sha256.New()}
			if _, _, err := r.Next(); !errors.Is(err, ErrDamaged) {
				b.Fatal(err)
			}
		}
	})
	if n := cost.AllocedBytesPerOp(); n > 4*chunk {
		t.Errorf("%d bytes", n)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(whole(f))
	f.Add([]byte(line + "h\x02{}e\x02{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, footer, err := read(bytes.NewReader(text))
		if (err == nil) != (footer != nil) {
			t.Errorf("%v, and the end is %v", err, footer)
		}
	})
}
