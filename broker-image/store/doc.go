// SPDX-License-Identifier: Apache-2.0

// Package store keeps what outlives the process, on pebble: sessions with their subscriptions, their queues and the
// packet ids of QoS 2, retained messages, counters.
//
// In come transactions (Begin, Commit), which are built in memory and never wait. Out come calls of their done function
// when they are as safe as asked for, in the order of the commits; Read gives parts of a queue, and Restore everything,
// once, after Open. Only package engine may import it, and no type of pebble leaves it.
//
// # Group commit
//
// One goroutine gathers all transactions that wait, encodes them into one batch, and has it synced once; meanwhile the
// next batch is built. Commit never blocks and takes all it is given. Pending says how much waits for the disk, and the
// engine stops reading from publishers while that is too much. In interval mode, and for lazy transactions, the disk is
// synced within a second. At rest there is no sync, no timer and no other work.
//
// # What is where
//
// All of a session lies in one range of keys, and goes with one range deletion. A message that one session waits for
// lies in its queue up to 4 KiB, and apart if it is larger. One that several sessions wait for is stored once; how many
// wait is counted in memory alone, and counted anew by Restore. A group is stored whole or not at all, so a crash leaves
// no message that nobody waits for. To delete a session or a queue, those of its entries that point at shared messages
// have to be read: about a microsecond each, on the goroutine that commits.
//
// # A full or failing disk
//
// Below a reserve of free space transactions fail with ErrFull, those that only remove a little later than those that
// add. When the disk is met full all the same, a ballast file is given up. Where pebble would end the process, the
// goroutine that is about to do so is made to stand still for ever, the database is cut off from its files, and once a
// second another one is opened in its place until that works. What failed is cut off the log first, so that it does not
// come back. A database given up in the midst of a batch stays in memory, with up to 32 MiB: its goroutines cannot be
// ended. A single transaction of more than 4 MiB that fails is in doubt: it may come back. In interval mode what was
// acknowledged since the last sync may be lost with the database.
//
// # Damage
//
// Blocks of tables and records of logs carry checksums, which are checked whenever they are read; a damaged one is an
// error of Open, Restore or Read. Pebble takes the first record of its last log, and of its manifest, that does not
// read for the end of it. So beside the database lies a seal that says how far both were synced, written after each
// sync; Open compares before it changes anything. The seal itself is not synced: it survives the death of the process,
// but that of the machine with what it said up to half a minute before. Against that each group carries the number of
// the last one synced before it, which is searched for behind the end of the log. What cannot be told from a torn write:
// that the groups of the very last sync before the machine died have rotted, if nothing was written behind them. Nor is
// a message noticed that rots on disk until it is read, nor a whole directory that was replaced by an older copy.
//
// Only milliseconds that the engine hands in are stored: a clock that jumps does no harm here.
package store
