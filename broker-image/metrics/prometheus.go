// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /metrics.
func (s *Set) Handler() http.Handler { return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}) }

// Describe is of prometheus.Collector.
func (s *Set) Describe(_ chan<- *prometheus.Desc) {}

// Collect is of prometheus.Collector.
func (s *Set) Collect(_ chan<- prometheus.Metric) {}
