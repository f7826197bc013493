// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/mqtt-operator/mqtt-operator/api/v1alpha1"
	"github.com/mqtt-operator/mqtt-operator/broker-image/contract"
	"github.com/mqtt-operator/mqtt-operator/controllers/verdict"
)

// Bundle is the broker's configuration, with the revision that follows from what stands in the Secrets and from what
// else is known to have been used.
func Bundle(f *verdict.Facts, j *verdict.Judgement) (contract.Bundle, int64, error) {
	cfg := Config(f, j)
	if err := cfg.Validate(); err != nil {
		return nil, 0, err
	}
	bundle, revision, err := contract.Next(cfg, f.Bundle(), f.RevisionFloor())
	if err != nil {
		return nil, 0, fmt.Errorf("configuration: %w", err)
	}
	return bundle, revision, nil
}

// Config is the broker's configuration; its revision is 1 until [contract.Next] knows better.
func Config(f *verdict.Facts, j *verdict.Judgement) *contract.Config {
	cfg := &contract.Config{
		Broker: contract.Broker{
			Format:         contract.Format,
			Name:           f.Broker.Namespace + "/" + f.Broker.Name,
			Revision:       1,
			Limits:         limits(f.Spec.Limits),
			Persistence:    persistence(f.Spec.Persistence),
			Drain:          contract.Drain{DisconnectRate: int(f.Spec.Drain.DisconnectRate)},
			Authentication: authentication(f, j),
			Logging:        contract.Logging{Level: string(f.Spec.Logging.Level), Format: string(f.Spec.Logging.Format)},
		},
		Pairs:    map[string]contract.KeyPair{},
		Trust:    trust(j),
		Policies: j.Policies,
		Users:    j.Accepted,
	}
	for i := range j.Listeners {
		l := &j.Listeners[i]
		if !l.CanServe() {
			continue
		}
		cfg.Listeners = append(cfg.Listeners, listener(l.Spec, l.Trust != nil))
		if l.Pair != nil {
			cfg.Pairs[l.Spec.Name] = *l.Pair
		}
	}
	return cfg
}

// authentication says nothing of passwords while nobody asks for it, so that a broker of an older release takes it.
func authentication(f *verdict.Facts, j *verdict.Judgement) contract.Authentication {
	a := j.Tokens.Authentication
	if f.Spec.Passwords == v1alpha1.PasswordCacheVolume {
		a.PasswordCache = contract.PasswordCacheVolume
	}
	return a
}

// trust is what client certificates are checked against, by the name of the listener; nil where none are asked for.
func trust(j *verdict.Judgement) map[string]contract.Trust {
	var trust map[string]contract.Trust
	for i := range j.Listeners {
		if l := &j.Listeners[i]; l.CanServe() && l.Trust != nil {
			if trust == nil {
				trust = map[string]contract.Trust{}
			}
			trust[l.Spec.Name] = *l.Trust
		}
	}
	return trust
}

func listener(spec v1alpha1.ResolvedListener, asksClients bool) contract.Listener {
	l := contract.Listener{
		Name:     spec.Name,
		Protocol: contract.Protocol(spec.Protocol),
		Address:  net.JoinHostPort("", strconv.Itoa(int(spec.Port))),

		MaxConnections: int(spec.MaxConnections),
	}
	if spec.Encrypted() {
		l.TLS = &contract.ListenerTLS{Pair: spec.Name, MinVersion: "1.2"}
		if spec.TLS.MinVersion == v1alpha1.TLSVersion13 {
			l.TLS.MinVersion = "1.3"
		}
	}
	if asksClients {
		l.TLS.ClientAuth, l.TLS.Trust = string(spec.TLS.ClientAuth), spec.Name
		if spec.TLS.UsernameFrom != v1alpha1.DefaultUsernameFrom {
			l.TLS.UsernameFrom = string(spec.TLS.UsernameFrom)
		}
	}
	for _, method := range spec.Methods {
		l.Methods = append(l.Methods, contract.Method(method))
	}
	if spec.Anonymous.Enabled {
		l.Anonymous = &contract.Anonymous{ACL: verdict.Rules(spec.Anonymous.Rules)}
	}
	if web := spec.WebSocket; web != nil {
		l.WebSocket = &contract.WebSocket{Path: web.Path, AllowedOrigins: web.AllowedOrigins}
	}
	if rate := spec.ConnectRate; rate != nil {
		l.ConnectRate = &contract.Rate{PerSecond: int(rate.PerSecond), Burst: int(rate.Burst)}
	}
	if proxy := spec.ProxyProtocol; proxy != nil {
		l.ProxyProtocol = &contract.ProxyProtocol{Mode: string(proxy.Mode), TrustedCIDRs: proxy.TrustedCIDRs}
	}
	return l
}

// persistence of a broker without a volume is that of one which says nothing: what it keeps goes with the pod.
func persistence(p *v1alpha1.ResolvedPersistence) contract.Persistence {
	if p == nil {
		return contract.Persistence{}
	}
	return contract.Persistence{Sync: string(p.Sync)}
}

func limits(l v1alpha1.ResolvedLimits) contract.Limits {
	return contract.Limits{
		MaxPacketSize:     uint32(min(l.MaxPacketSize, contract.MaxPacketSize)),        //nolint:gosec // The schema keeps it positive.
		ReceiveMaximum:    uint16(l.ReceiveMaximum),                                    //nolint:gosec // The schema keeps it within 1 to 65535.
		TopicAliasMaximum: uint16(l.TopicAliasMaximum),                                 //nolint:gosec // The schema keeps it within 0 to 65535.
		MaxSessionExpiry:  uint32(min(l.MaxSessionExpiry/time.Second, math.MaxUint32)), //nolint:gosec // Both bounds are held.
		MaxQueuedMessages: int(l.MaxQueuedMessages),
		MaxQueuedBytes:    l.MaxQueuedBytes,
		MaxTopicLevels:    int(l.MaxTopicLevels),
		MaxSubscriptions:  int(l.MaxSubscriptions),
		PublishRate:       int(l.PublishRate),
		ServerKeepAlive:   uint16(min(l.ServerKeepAlive/time.Second, math.MaxUint16)), //nolint:gosec // Both bounds are held.

		MaxRetainedMessages: int(l.MaxRetainedMessages),
		MaxRetainedBytes:    l.MaxRetainedBytes,
	}
}
