// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/storage"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	storeFile    = "sessions.db"
	storeBacklog = 4096
	storeBatch   = 1024
	lockPatience = 5 * time.Second
)

// The buckets. A key is a client id, a client id with a filter or packet id behind a zero byte (which neither can
// hold), or a topic.
var (
	bucketSessions      = []byte("sessions")
	bucketSubscriptions = []byte("subscriptions")
	bucketWaiting       = []byte("waiting")
	bucketReceived      = []byte("received")
	bucketRetained      = []byte("retained")
)

// store keeps sessions, subscriptions, messages that wait and retained messages on disk. Writes are put in a queue and
// grouped into transactions; flush waits for them. A nil store keeps nothing.
type store struct {
	db    *bbolt.DB
	log   *slog.Logger
	fault atomic.Pointer[string]

	puts  atomic.Int64
	queue chan change
	done  chan struct{}
	mu    sync.RWMutex // held for reading while a change is put in the queue
	shut  bool
}

// change is one write; a nil value deletes. A change with a ready channel changes nothing and reports that all before
// it are on disk.
type change struct {
	bucket []byte
	key    []byte
	value  []byte
	prefix bool       // delete every key that begins with key
	ready  chan error // has room for one
}

var errStoreShut = errors.New("the store is closed")

func openStore(dir string, log *slog.Logger) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}

	path := filepath.Join(dir, storeFile)

	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockPatience, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s: another broker has it open", path)
	}

	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}

	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketSessions, bucketSubscriptions, bucketWaiting, bucketReceived, bucketRetained} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		_ = db.Close()

		return nil, fmt.Errorf("%s: %w", path, err)
	}

	s := &store{db: db, log: log, queue: make(chan change, storeBacklog), done: make(chan struct{})}
	go s.write()

	return s, nil
}

// write groups what is in the queue into transactions.
func (s *store) write() {
	defer close(s.done)

	batch := make([]change, 0, storeBatch)

	for first := range s.queue {
		batch = append(batch[:0], first)

	fill:
		for len(batch) < storeBatch {
			select {
			case next, ok := <-s.queue:
				if !ok {
					break fill
				}

				batch = append(batch, next)
			default:
				break fill
			}
		}

		s.commit(batch)
	}
}

func (s *store) commit(batch []change) {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for i := range batch {
			if err := batch[i].apply(tx); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		text := err.Error()
		if s.fault.Swap(&text) == nil {
			s.log.Error("sessions cannot be written to disk; a restart would lose what is new", "error", err)
		}
	} else if s.fault.Swap(nil) != nil {
		s.log.Info("sessions are written to disk again")
	}

	for i := range batch {
		if batch[i].ready != nil {
			batch[i].ready <- err
		}
	}
}

func (c *change) apply(tx *bbolt.Tx) error {
	if c.ready != nil {
		return nil
	}

	bucket := tx.Bucket(c.bucket)

	switch {
	case c.prefix:
		cursor := bucket.Cursor()
		for k, _ := cursor.Seek(c.key); k != nil && bytes.HasPrefix(k, c.key); k, _ = cursor.Seek(c.key) {
			if err := cursor.Delete(); err != nil {
				return err
			}
		}

		return nil
	case c.value == nil:
		return bucket.Delete(c.key)
	default:
		return bucket.Put(c.key, c.value)
	}
}

func (s *store) put(c change) {
	s.mu.RLock()
	defer s.mu.RUnlock()

	switch {
	case s.shut:
		if c.ready != nil {
			c.ready <- errStoreShut
		}
	case len(c.key) <= bbolt.MaxKeySize:
		s.puts.Add(1)
		s.queue <- c
	}
}

// mark remembers how much has been written up to now.
func (s *store) mark() int64 {
	if s == nil {
		return 0
	}

	return s.puts.Load()
}

// sinceMark is ready when everything written since the mark is on disk. It is nil if there is nothing.
func (s *store) sinceMark(mark int64) <-chan error {
	if s == nil || s.puts.Load() == mark {
		return nil
	}

	ready := make(chan error, 1)
	s.put(change{ready: ready})

	return ready
}

func (s *store) putJSON(bucket, key []byte, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		s.log.Error("session record cannot be written", "bucket", string(bucket), "error", err)

		return
	}

	s.put(change{bucket: bucket, key: key, value: text})
}

// flush waits until everything up to now is on disk.
func (s *store) flush() {
	if s == nil {
		return
	}

	ready := make(chan error, 1)
	s.put(change{ready: ready})

	select {
	case err := <-ready:
		_ = err // commit has said so
	case <-s.done:
	}
}

func (s *store) close() error {
	if s == nil {
		return nil
	}

	s.mu.Lock()
	already := s.shut
	s.shut = true

	if !already {
		close(s.queue)
	}
	s.mu.Unlock()

	<-s.done

	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close %s: %w", storeFile, err)
	}

	return nil
}

func under(client, rest string) []byte { return []byte(client + "\x00" + rest) }

func waitingKey(client string, id uint16) []byte {
	return binary.BigEndian.AppendUint16(under(client, ""), id)
}

// putSession writes what a session needs to come back. Neither the will nor authentication data is kept.
func (s *store) putSession(cl *mqtt.Client) {
	if s == nil {
		return
	}

	if !persists(cl) {
		s.deleteSession(cl.ID)

		return
	}

	props := &cl.Properties.Props
	s.putJSON(bucketSessions, []byte(cl.ID), storage.Client{
		ID: cl.ID, Username: cl.Properties.Username, Listener: cl.Net.Listener,
		Clean: cl.Properties.Clean, ProtocolVersion: cl.Properties.ProtocolVersion,
		Properties: storage.ClientProperties{
			SessionExpiryInterval:     props.SessionExpiryInterval,
			SessionExpiryIntervalFlag: true, // or it would be taken for a session without end
			ReceiveMaximum:            props.ReceiveMaximum,
			MaximumPacketSize:         props.MaximumPacketSize,
		},
	})
}

func (s *store) deleteSession(client string) {
	if s == nil {
		return
	}

	s.put(change{bucket: bucketSessions, key: []byte(client)})
	s.put(change{bucket: bucketSubscriptions, key: under(client, ""), prefix: true})
	s.put(change{bucket: bucketWaiting, key: under(client, ""), prefix: true})
	s.put(change{bucket: bucketReceived, key: under(client, ""), prefix: true})
}

func (s *store) putSubscription(cl *mqtt.Client, sub *packets.Subscription) {
	if s == nil || !persists(cl) {
		return
	}

	s.putJSON(bucketSubscriptions, under(cl.ID, sub.Filter), storage.Subscription{
		Client: cl.ID, Filter: sub.Filter, Qos: sub.Qos, Identifier: sub.Identifier, NoLocal: sub.NoLocal,
		RetainHandling: sub.RetainHandling, RetainAsPublished: sub.RetainAsPublished,
	})
}

func (s *store) deleteSubscription(client, filter string) {
	if s != nil {
		s.put(change{bucket: bucketSubscriptions, key: under(client, filter)})
	}
}

func record(pk *packets.Packet) storage.Message {
	return storage.Message{
		FixedHeader: pk.FixedHeader, TopicName: pk.TopicName, Payload: pk.Payload, PacketID: pk.PacketID,
		Origin: pk.Origin, Created: pk.Created,
		Properties: storage.MessageProperties{
			PayloadFormat: pk.Properties.PayloadFormat, PayloadFormatFlag: pk.Properties.PayloadFormatFlag,
			MessageExpiryInterval: pk.Properties.MessageExpiryInterval, ContentType: pk.Properties.ContentType,
			ResponseTopic: pk.Properties.ResponseTopic, CorrelationData: pk.Properties.CorrelationData,
			SubscriptionIdentifier: pk.Properties.SubscriptionIdentifier, User: pk.Properties.User,
		},
	}
}

// putWaiting writes a message that waits for its acknowledgement, or the PUBREL that takes its place.
func (s *store) putWaiting(cl *mqtt.Client, pk *packets.Packet) {
	if s == nil || !persists(cl) {
		return
	}

	message := record(pk)
	message.Client = cl.ID
	s.putJSON(bucketWaiting, waitingKey(cl.ID, pk.PacketID), message)
}

func (s *store) deleteWaiting(cl *mqtt.Client, id uint16) {
	if s != nil && persists(cl) {
		s.put(change{bucket: bucketWaiting, key: waitingKey(cl.ID, id)})
	}
}

func (s *store) putReceived(cl *mqtt.Client, id uint16) {
	if s != nil && persists(cl) {
		s.put(change{bucket: bucketReceived, key: waitingKey(cl.ID, id), value: []byte{}})
	}
}

func (s *store) deleteReceived(cl *mqtt.Client, id uint16) {
	if s != nil && persists(cl) {
		s.put(change{bucket: bucketReceived, key: waitingKey(cl.ID, id)})
	}
}

func (s *store) putRetained(pk *packets.Packet) {
	if s != nil {
		s.putJSON(bucketRetained, []byte(pk.TopicName), record(pk))
	}
}

func (s *store) deleteRetained(topic string) {
	if s != nil {
		s.put(change{bucket: bucketRetained, key: []byte(topic)})
	}
}

// read decodes every record of a bucket.
func read[T any](s *store, bucket []byte) ([]T, error) {
	if s == nil {
		return nil, nil
	}

	var all []T

	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(key, value []byte) error {
			var one T
			if err := json.Unmarshal(value, &one); err != nil {
				return fmt.Errorf("record %q: %w", key, err)
			}

			all = append(all, one)

			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", storeFile, bucket, err)
	}

	return all, nil
}

func (s *store) clients() ([]storage.Client, error) { return read[storage.Client](s, bucketSessions) }

func (s *store) subscriptions() ([]storage.Subscription, error) {
	return read[storage.Subscription](s, bucketSubscriptions)
}

func (s *store) waiting() ([]storage.Message, error) { return read[storage.Message](s, bucketWaiting) }

func (s *store) retained() ([]storage.Message, error) {
	return read[storage.Message](s, bucketRetained)
}

type receivedID struct {
	client string
	id     uint16
}

func (s *store) received() ([]receivedID, error) {
	if s == nil {
		return nil, nil
	}

	var all []receivedID

	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketReceived).ForEach(func(key, _ []byte) error {
			if n := len(key) - 3; n >= 0 {
				all = append(all, receivedID{client: string(key[:n]), id: binary.BigEndian.Uint16(key[n+1:])})
			}

			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", storeFile, bucketReceived, err)
	}

	return all, nil
}
