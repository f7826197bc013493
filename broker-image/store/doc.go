// SPDX-License-Identifier: Apache-2.0

// Package store keeps what outlives the process: sessions, subscriptions, queues, retained messages.
package store
