// SPDX-License-Identifier: Apache-2.0

package bridges

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long a fact is waited for. It is only ever used up by a test that fails.
const patience = 90 * time.Second

var (
	// full is the form of "make bridges": all peers, and a minute where the short form has a moment.
	full = os.Getenv("BRIDGES") == "full"
	// long is the form of the faults that takes minutes.
	long = full || os.Getenv("FAULTS") == "long"
	// standIn: Mosquitto's own bridge stands in for ours, to tell whether a test is at fault.
	standIn = os.Getenv("BRIDGE") == "mosquitto"
	write   = flag.Bool("write", false, "write the tables of docs/bridges.md")

	// brokerBinary and bridgeBinary are what is tested.
	brokerBinary, bridgeBinary string
	// room is the run's own directory; it holds ca.crt, tls.crt and tls.key.
	room string
	// programs is where hack/peers.sh puts what it gets.
	programs string
)

func TestMain(m *testing.M) {
	flag.Parse()

	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		code = 1
	}

	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	// What is stored must meet a disk: not in a temporary directory that may be in memory.
	room, err = os.MkdirTemp(os.Getenv("BRIDGES_ROOM"), "bridges")
	if err != nil {
		return 0, err
	}

	defer func() { err = errors.Join(err, os.RemoveAll(room)) }()

	if err := certificates(room); err != nil {
		return 0, err
	}

	if brokerBinary, err = built("MQTT_BROKER", "mqtt-broker"); err != nil {
		return 0, err
	}

	if !standIn {
		if bridgeBinary, err = built("MQTT_BRIDGE", "mqtt-bridge"); err != nil {
			return 0, err
		}
	}

	if programs, err = install(); err != nil {
		return 0, err
	}

	code = m.Run()
	if *write { // good or bad: it is what was counted
		err = writePage()
	}

	return code, err
}

// built is a program of ours: the one that the environment names, or else a new one.
func built(variable, name string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}

	path := filepath.Join(room, name)

	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "../../broker-image/cmd/"+name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s cannot be built: %w\n%s", name, err, out)
	}

	return path, nil
}

// install gets the peers of this form, and says where they are.
func install() (string, error) {
	var names []string

	for _, p := range peers {
		if p.get != "" && (full || p.quick) && !slices.Contains(names, p.get) {
			names = append(names, p.get)
		}
	}

	var out bytes.Buffer

	command := exec.CommandContext(context.Background(), "../../hack/peers.sh", names...)
	command.Stdout, command.Stderr = &out, os.Stderr

	if err := command.Run(); err != nil {
		return "", fmt.Errorf("peers.sh %s: %w", strings.Join(names, " "), err)
	}

	return strings.TrimSpace(out.String()), nil
}

// certificates writes an authority, and a server's pair for loopback.
func certificates(dir string) error {
	caKey, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)

	if err := errors.Join(err1, err2); err != nil {
		return err
	}

	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bridges"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}

	caDER, err1 := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	serverDER, err2 := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	keyDER, err3 := x509.MarshalPKCS8PrivateKey(key)

	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}

	for name, block := range map[string]*pem.Block{
		"ca.crt":  {Type: "CERTIFICATE", Bytes: caDER},
		"tls.crt": {Type: "CERTIFICATE", Bytes: serverDER},
		"tls.key": {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}

	return nil
}

// eventually waits for a fact. It asks often: that is cheap, and what is waited for is another process.
func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()

	if !within(patience, fact) {
		t.Fatalf("this did not come true within %s: %s", patience, what)
	}
}

func within(limit time.Duration, fact func() bool) bool {
	for end := time.Now().Add(limit); !fact(); {
		if time.Now().After(end) {
			return false
		}

		time.Sleep(2 * time.Millisecond)
	}

	return true
}
