// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names of the files in the directory with the server's certificate, as a Secret of type kubernetes.io/tls holds them.
const (
	certFile = "tls.crt"
	keyFile  = "tls.key"
	caFile   = "ca.crt"
)

const (
	readTimeout  = 10 * time.Second
	writeTimeout = 10 * time.Second
	idleTimeout  = 2 * time.Minute
	maxHeader    = 8 << 10
)

// Handler serves the endpoint. status says what only the engine knows: connections, sessions, listeners, version. trace
// may be nil: then there is none. Options add to that.
func Handler(keeper *Keeper, status func() Status, trace TraceFunc, options ...Option) http.Handler {
	s := &server{keeper: keeper, status: status, trace: trace}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, s.getStatus)
	mux.HandleFunc("PUT "+configPath, s.putConfig)
	if trace != nil {
		mux.HandleFunc("GET "+tracePath, s.getTrace)
	}
	for _, add := range options {
		add(mux)
	}
	return mux
}

// NewServer is an HTTP server for [Handler] that lets in only those who show a certificate of the CA in dir. The files
// in dir may be replaced at any time; the next connection is made with the new ones.
func NewServer(handler http.Handler, dir string) (*http.Server, error) {
	files := &files{dir: dir}
	if _, err := files.config(); err != nil {
		return nil, err
	}
	return &http.Server{
		Handler:        handler,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		TLSConfig: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			ClientAuth:         tls.RequireAndVerifyClientCert,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.config() },
		},
	}, nil
}

type server struct {
	keeper *Keeper
	status func() Status
	trace  TraceFunc
}

func (s *server) now() Status {
	status := s.status()
	running := s.keeper.Running()
	status.Revision, status.Refused, status.Digest, status.Parts = running.Revision, running.Refused, running.Digest, running.Parts
	if status.Parts == nil {
		status.Parts = map[string]string{}
	}
	return status
}

func (s *server) getStatus(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.now()) }

func (s *server) putConfig(w http.ResponseWriter, r *http.Request) {
	var put offer
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&put); err != nil {
		// The decoder's words could repeat a part of the body.
		reply(w, http.StatusBadRequest, answer{Error: "the body is no offer of files"})
		return
	}
	whole, missing, err := s.keeper.Complete(put.Files)
	switch {
	case err != nil:
		reply(w, http.StatusUnprocessableEntity, answer{Error: err.Error()})
		return
	case len(missing) > 0:
		reply(w, http.StatusPreconditionRequired, answer{Error: "parts are missing", Missing: missing})
		return
	}
	switch err := s.keeper.Offer(whole); {
	case err == nil:
		reply(w, http.StatusOK, s.now())
	case errors.Is(err, ErrOlder):
		reply(w, http.StatusConflict, s.now())
	default:
		reply(w, http.StatusUnprocessableEntity, answer{Error: err.Error()})
	}
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // The caller is gone; there is nobody to tell.
}

// files are a certificate, its key and a CA on disk, read again when they change.
type files struct {
	dir string

	mu     sync.Mutex
	stamp  string
	loaded *tls.Config
}

// config is the TLS configuration of now. Files that cannot be read leave the one before in force.
func (f *files) config() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stamp := f.look()
	if f.loaded != nil && stamp == f.stamp {
		return f.loaded, nil
	}
	loaded, err := f.load()
	if err != nil {
		if f.loaded != nil {
			return f.loaded, nil
		}
		return nil, err
	}
	f.loaded, f.stamp = loaded, stamp
	return loaded, nil
}

// look is a cheap word that changes when a file does; the kubelet swaps a link, which changes all three.
func (f *files) look() string {
	var stamp strings.Builder
	for _, name := range []string{certFile, keyFile, caFile} {
		if info, err := os.Stat(filepath.Join(f.dir, name)); err == nil {
			fmt.Fprintf(&stamp, "%d/%d ", info.ModTime().UnixNano(), info.Size())
		}
	}
	return stamp.String()
}

func (f *files) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(f.dir, certFile), filepath.Join(f.dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("certificate of the admin endpoint: %w", err)
	}
	file, err := os.Open(filepath.Join(f.dir, caFile))
	if err != nil {
		return nil, fmt.Errorf("CA of the admin endpoint: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxCA))
	if err != nil {
		return nil, fmt.Errorf("CA of the admin endpoint: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA of the admin endpoint: %s holds no certificate", file.Name())
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    roots,
		NextProtos:   []string{"http/1.1"},
	}, nil
}

const maxCA = 1 << 20
