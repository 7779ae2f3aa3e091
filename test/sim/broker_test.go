package sim

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kafkadelta/checkpoint"
)

// memberLimit is how long a member of the group may be silent: longer than any session, and than any join may take.
// joinLimit is how long a group may take to assign its partitions.
const (
	memberLimit = 25 * time.Second
	joinLimit   = time.Minute
)

// watch looks at what workers ask of Kafka.
func (w *world) watch() {
	w.kafka.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		w.reported(r.(*kmsg.OffsetCommitRequest))
		return nil, nil, false
	})
	w.kafka.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		// kfake forgets the aborted transactions of the partition in whose middle an answer is full, as no broker does: their messages would be read. The
		// limit of each partition, which it minds, stays.
		r.(*kmsg.FetchRequest).MaxBytes = math.MaxInt32
		return nil, nil, false
	})
	alive := func(joins bool, member func(kmsg.Request) (group, id string)) func(kmsg.Request) (kmsg.Response, error, bool) {
		return func(r kmsg.Request) (kmsg.Response, error, bool) {
			w.kafka.KeepControl()
			if group, id := member(r); id != "" && group == streamName {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.members[id] = time.Now()
				if !joins {
					w.joining = time.Time{}
				} else if w.joining.IsZero() {
					w.joining = time.Now()
				}
			}
			return nil, nil, false
		}
	}
	w.kafka.ControlKey(int16(kmsg.JoinGroup), alive(true, func(r kmsg.Request) (string, string) { j := r.(*kmsg.JoinGroupRequest); return j.Group, j.MemberID }))
	w.kafka.ControlKey(int16(kmsg.SyncGroup), alive(false, func(r kmsg.Request) (string, string) { s := r.(*kmsg.SyncGroupRequest); return s.Group, s.MemberID }))
	w.kafka.ControlKey(int16(kmsg.Heartbeat), alive(false, func(r kmsg.Request) (string, string) { h := r.(*kmsg.HeartbeatRequest); return h.Group, h.MemberID }))
}

// reported looks at what workers report to Kafka: never more than the table holds (C10).
func (w *world) reported(r *kmsg.OffsetCommitRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if txn, ok := w.ledger.furthest[checkpoint.AppID(r.Group, p.Partition)]; !ok || p.Offset > txn+1 {
				w.fault("I5: offset %d of partition %d is reported, and the table has txn %d", p.Offset, p.Partition, txn)
			}
		}
	}
}

// expire takes silent members out of the group, as every broker does. kfake never does where a connection broke before a join
// was answered (group.reply starts no timer then), so that such groups would never assign anything again. Nor would a group that
// lost a member while it waited in a sync: kfake counts one join too many from then on (group.removeMember), and every join puts
// off the rebalance's end. All members are taken out of such a group, which then begins anew.
func (w *world) expire(ctx context.Context) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), kgo.Dialer(w.network.DialContext))
	w.check(err)
	defer client.Close()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
		for _, id := range w.silent() {
			w.trace.add("group", "%s is silent", id)
			leave := kmsg.NewPtrLeaveGroupRequest()
			member := kmsg.NewLeaveGroupRequestMember()
			leave.Group, member.MemberID = streamName, id
			leave.Members = append(leave.Members, member)
			if _, err := leave.RequestWith(ctx, client); err != nil && ctx.Err() == nil {
				w.fault("taking a member out of the group: %v", err)
			}
		}
	}
}

func (w *world) silent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	stuck := !w.joining.IsZero() && time.Since(w.joining) > joinLimit
	if stuck {
		w.joining = time.Time{}
	}
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(w.members)) {
		if stuck || time.Since(w.members[id]) > memberLimit {
			ids = append(ids, id)
			delete(w.members, id)
		}
	}
	return ids
}
