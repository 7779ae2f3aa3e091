package source_test

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"kafkadelta/source"
	"kafkadelta/source/auth"
)

// TestProducersHoldNoMoreThanTheyMay: while no broker answers, whoever sends waits once so many bytes, or so many records, wait.
func TestProducersHoldNoMoreThanTheyMay(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes      int64
		size, want int
	}{
		"large records":  {8 << 20, 128 << 10, 64},
		"small records":  {8 << 20, 10, 8 << 10},
		"with no memory": {1, 512 << 10, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := source.DefaultConfig()
				c.Brokers = []string{"down:9092"}
				down := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("down") }
				p, err := source.NewProducer(c, "letters", tc.bytes, kgo.Dialer(down))
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				value, sent := make([]byte, tc.size), 0
				for ; sent <= tc.want+1; sent++ {
					if p.Send(ctx, &kgo.Record{Value: value}, func(error) {}); ctx.Err() != nil {
						break
					}
				}
				if sent != tc.want {
					t.Errorf("%d records of %d bytes were taken, want %d", sent, tc.size, tc.want)
				}
			})
		})
	}
}

// TestProducerFindsWhatItMayWriteTo: a topic that the user may see and not write to is refused. Where the broker does not tell, it is not.
func TestProducerFindsWhatItMayWriteTo(t *testing.T) {
	t.Setenv("TEST_PASSWORD", "right")
	may := func(operations ...kmsg.ACLOperation) []kfake.Opt {
		var acls []kfake.ACL
		for _, o := range operations {
			acls = append(acls, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "topic", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: o, Allow: true})
		}
		acls = append(acls, kfake.ACL{Resource: kmsg.ACLResourceTypeCluster, Name: "kafka-cluster", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationIdempotentWrite, Allow: true})
		return []kfake.Opt{kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "user", "right", acls...)}
	}
	for _, tt := range []struct {
		name   string
		opts   []kfake.Opt
		answer int32 // instead of the broker's; 0: the broker's
		want   string
	}{
		{"may", may(kmsg.ACLOperationDescribe, kmsg.ACLOperationWrite), 0, ""},
		{"by WRITE alone, which implies DESCRIBE", may(kmsg.ACLOperationWrite), 0, ""},
		{"may not", may(kmsg.ACLOperationDescribe), 0, "producing to topic topic: TOPIC_AUTHORIZATION_FAILED: Not authorized to access topics: [Topic authorization failed.]; grant the user WRITE and DESCRIBE on the topic"},
		{"may read", may(kmsg.ACLOperationRead), 0, "grant the user WRITE and DESCRIBE on the topic"},
		{"may not even see it", may(), 0, "grant the user WRITE and DESCRIBE on the topic"},
		{"unknown", may(kmsg.ACLOperationDescribe), math.MinInt32, ""},
		{"a broker from before 2.3", append(may(kmsg.ACLOperationDescribe), kfake.MaxVersions(kversion.V2_2_0())), 0, ""},
		{"no authorizer", []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "right")}, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, 1, tt.opts...)
			if tt.answer != 0 {
				f.cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
					f.cluster.KeepControl()
					resp, ok := r.ResponseKind().(*kmsg.MetadataResponse)
					if req, isMetadata := r.(*kmsg.MetadataRequest); !ok || !isMetadata || !req.IncludeTopicAuthorizedOperations {
						return nil, nil, false
					}
					topic := kmsg.NewMetadataResponseTopic()
					topic.Topic, topic.AuthorizedOperations = new("topic"), tt.answer
					resp.Topics = append(resp.Topics, topic)
					return resp, nil, true
				})
			}
			c := f.config("topic")
			c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "user", PasswordEnv: "TEST_PASSWORD"}
			p, err := source.NewProducer(c, "topic", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			err = p.Find(t.Context())
			if tt.want == "" && err != nil || tt.want != "" && (!errors.As(err, new(*source.Error)) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestProducerFindsThatItMayNotBeIdempotent: brokers before 2.8 ask for IDEMPOTENT_WRITE on the cluster, later ones for that or WRITE on some topic. It is told before the first message;
// an error that passes is not final.
func TestProducerFindsThatItMayNotBeIdempotent(t *testing.T) {
	t.Setenv("TEST_PASSWORD", "right")
	for _, tt := range []struct {
		name  string
		code  *kerr.Error // of the answer; nil: the broker's own
		final bool
		want  string
	}{
		{"may", nil, false, ""},
		{"before 2.8", kerr.ClusterAuthorizationFailed, true, "producing to topic topic: CLUSTER_AUTHORIZATION_FAILED: Cluster authorization failed.; grant the user IDEMPOTENT_WRITE on the cluster, which brokers before Kafka 2.8 ask for"},
		{"while it loads", kerr.CoordinatorLoadInProgress, false, "COORDINATOR_LOAD_IN_PROGRESS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, 1, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "user", "right",
				kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: "topic", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationWrite, Allow: true}), kfake.Superuser("PLAIN", "admin", "admin"))
			if tt.code != nil {
				f.cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
					f.cluster.KeepControl()
					resp, _ := r.ResponseKind().(*kmsg.InitProducerIDResponse)
					resp.ErrorCode = tt.code.Code
					return resp, nil, true
				})
			}
			c := f.config("topic")
			c.SASL = auth.SASLConfig{Mechanism: "plain", Username: "user", PasswordEnv: "TEST_PASSWORD"}
			p, err := source.NewProducer(c, "topic", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			err = p.Find(t.Context())
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) || errors.As(err, new(*source.Error)) != tt.final {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
