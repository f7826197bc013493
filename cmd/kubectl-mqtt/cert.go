// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
)

// servedInfo is what cert prints with -o json, for each listener with TLS of each pod. Fields are added, never changed.
type servedInfo struct {
	// Broker is namespace/name.
	Broker   string `json:"broker"`
	Pod      string `json:"pod"`
	Listener string `json:"listener"`
	Port     int32  `json:"port"`
	// Source says from where the certificate comes: selfManaged, issuer or secret; From names the issuer or the Secret.
	Source string `json:"source"`
	From   string `json:"from,omitempty"`
	// Error is why the listener could not be asked; then the rest is absent.
	Error string `json:"error,omitempty"`
	// Subject and Issuer are names of the certificate, Names those that it is good for.
	Subject   string       `json:"subject,omitempty"`
	Issuer    string       `json:"issuer,omitempty"`
	Names     []string     `json:"names,omitempty"`
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	NotAfter  *metav1.Time `json:"notAfter,omitempty"`
	DaysLeft  *int         `json:"daysLeft,omitempty"`
	// Chain are the subjects of the other certificates that the listener sends.
	Chain []string `json:"chain,omitempty"`
	// SHA256 is the fingerprint of the certificate, Serial its number.
	SHA256 string `json:"sha256,omitempty"`
	Serial string `json:"serial,omitempty"`
	// ClientAuth says whether clients are asked for a certificate: none, optional or required.
	ClientAuth string `json:"clientAuth"`
}

func cert(s streams, open opener) *cobra.Command {
	f, output := connection{}, ""
	c := &cobra.Command{
		Use:   "cert [BROKER]",
		Short: "Show the certificates that the listeners of a broker serve",
		Long: "Show the certificates that the listeners of a broker serve at this moment: for which names, by whom they are signed,\n" +
			"until when. Each pod is asked through the API server, by a handshake; what is shown is what a client gets.\n\n" +
			"The exit code is 1 where a listener cannot be asked, or serves a certificate whose time is over or has not come.",
		Example: "  kubectl mqtt cert plant -n factory\n" +
			"  kubectl mqtt cert plant -n factory -o json",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.broker = args[0]
			}
			r, err := reach(c.Context(), open, f)
			if err != nil {
				return err
			}
			served := r.served(c.Context())
			if output != "" && output != wide {
				if err := printAs(s.out, output, served); err != nil {
					return &exit{exitUnknown, err}
				}
			} else {
				printServed(s, served, output == wide)
			}
			for _, i := range served {
				if i.Error != "" || i.NotAfter.Time.Before(r.now()) || i.NotBefore.Time.After(r.now()) {
					return &exit{code: exitNo}
				}
			}
			return nil
		},
		ValidArgsFunction: brokerNames(open),
	}
	f.flags(c)
	outputFlag(c, &output, wide)
	return c
}

// served asks every listener with TLS of every pod.
func (r *reached) served(ctx context.Context) []*servedInfo {
	all := []*servedInfo{}
	resolved := r.broker.Resolved()
	for i := range r.pods {
		for n := range resolved.Listeners {
			l := &resolved.Listeners[n]
			if !l.Encrypted() {
				continue
			}
			info := &servedInfo{
				Broker: r.broker.Namespace + "/" + r.broker.Name, Pod: r.pods[i].Name, Listener: l.Name, Port: l.Port,
				Source: "secret", From: l.TLS.SecretName, ClientAuth: string(l.TLS.ClientAuth),
			}
			switch {
			case l.TLS.SelfManaged():
				info.Source, info.From = "selfManaged", v1alpha1.CASecretName(r.broker.Name)
			case l.TLS.Issuer != nil:
				info.Source, info.From = "issuer", l.TLS.Issuer.Kind+"/"+l.TLS.Issuer.Name
			}
			switch chain, err := r.handshake(ctx, client.ObjectKeyFromObject(&r.pods[i]), l); {
			case err != nil:
				info.Error = err.Error()
			default:
				info.describe(chain, r.now())
			}
			all = append(all, info)
		}
	}
	return all
}

// handshake gives the certificates that a listener sends. They are looked at, not trusted: nothing is said to it.
func (r *reached) handshake(ctx context.Context, pod client.ObjectKey, l *v1alpha1.ResolvedListener) ([]*x509.Certificate, error) {
	if l.ProxyProtocol != nil && l.ProxyProtocol.Mode == v1alpha1.ProxyProtocolRequired {
		return nil, errors.New("the listener wants a PROXY header first, which nobody can send through the API server")
	}
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	conn, err := r.dial(ctx, pod, int(l.Port))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	var chain []*x509.Certificate
	secure := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, //nolint:gosec // what is served is the question
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	})
	// A listener that asks for a certificate may end it here, after it has shown its own.
	if err := secure.HandshakeContext(ctx); len(chain) == 0 {
		return nil, fmt.Errorf("no handshake: %w", err)
	}
	return chain, nil
}

func (i *servedInfo) describe(chain []*x509.Certificate, now time.Time) {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	i.Subject, i.Issuer = leaf.Subject.String(), leaf.Issuer.String()
	i.Names = leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		i.Names = append(i.Names, ip.String())
	}
	i.NotBefore, i.NotAfter = new(metav1.NewTime(leaf.NotBefore)), new(metav1.NewTime(leaf.NotAfter))
	i.DaysLeft = new(daysLeft(leaf.NotAfter, now))
	i.SHA256, i.Serial = hex.EncodeToString(sum[:]), leaf.SerialNumber.Text(16)
	for _, c := range chain[1:] {
		i.Chain = append(i.Chain, c.Subject.String())
	}
}

// by says who has made the certificate, as the spec says.
func (i *servedInfo) by() string {
	switch i.Source {
	case "selfManaged":
		return "the operator"
	case "issuer":
		return "cert-manager, " + i.From
	default:
		return "Secret " + i.From
	}
}

func printServed(s streams, served []*servedInfo, more bool) {
	if len(served) == 0 {
		sayf(s.out, "no listener has TLS")
		return
	}
	rows, tones := [][]string{{"LISTENER", "PORT", "FROM", "SIGNED BY", "UNTIL", "DAYS LEFT"}}, []tone{calm}
	if more {
		rows[0] = append(rows[0], "POD", "SUBJECT", "CLIENTS SHOW ONE", "SHA-256")
	}
	for _, i := range served {
		row, t := []string{i.Listener, strconv.Itoa(int(i.Port)), i.by(), "-", "-", "-"}, bad
		if i.Error == "" {
			row[3], row[4], row[5] = shown(i.Issuer), i.NotAfter.UTC().Format(time.RFC3339), strconv.Itoa(*i.DaysLeft)
			switch {
			case *i.DaysLeft < 0:
			case *i.DaysLeft < soon:
				t = warning
			default:
				t = calm
			}
		}
		if more {
			row = append(row, i.Pod, or(i.Subject, "-"), i.ClientAuth, or(i.SHA256, "-"))
		}
		rows, tones = append(rows, row), append(tones, t)
	}
	s.tonedTable(rows, tones)
	for _, i := range served {
		switch {
		case i.Error != "":
			s.tellf(bad, "\n%s of %s: %s", i.Listener, i.Pod, i.Error)
		case len(i.Names) > 0:
			names := make([]string, len(i.Names))
			for n := range i.Names {
				names[n] = shown(i.Names[n])
			}
			sayf(s.out, "\n%s of %s is good for %s", i.Listener, i.Pod, strings.Join(names, ", "))
		}
	}
}
