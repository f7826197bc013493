// SPDX-License-Identifier: Apache-2.0

package listen

import "time"

// bucket fills with tokens; each connection takes one. Its zero value is full.
type bucket struct {
	rate   Rate
	tokens float64
	last   time.Time
}

// wait fills the bucket and says how long it takes until there is a token.
func (b *bucket) wait(rate *Rate, now time.Time) time.Duration {
	if rate == nil {
		b.rate = Rate{}

		return 0
	}

	switch b.rate {
	case Rate{}:
		b.tokens = float64(rate.Burst)
	default:
		// The time that has passed counts at the rate that held.
		b.tokens += now.Sub(b.last).Seconds() * float64(b.rate.PerSecond)
	}

	b.rate, b.last = *rate, now
	b.tokens = min(b.tokens, float64(rate.Burst))

	if b.tokens >= 1 {
		return 0
	}

	// Never nothing, or a rounding would spin.
	return max(time.Duration((1-b.tokens)/float64(rate.PerSecond)*float64(time.Second)), time.Microsecond)
}

// spend takes a token.
func (b *bucket) spend() {
	if b.rate != (Rate{}) {
		b.tokens--
	}
}
