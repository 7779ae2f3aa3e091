package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

func generate(t *testing.T, seed uint64, n int) [][]byte {
	t.Helper()
	g := newWebRequests(seed)
	messages := make([][]byte, n)
	for i := range messages {
		var err error
		if messages[i], err = g.append(nil); err != nil {
			t.Fatal(err)
		}
	}
	return messages
}

func TestMessagesOfASeedStayTheSame(t *testing.T) {
	got := generate(t, webSeed, 2)[1]
	want := `{"meta":{"producer":{"timestamp":"2021-03-24T15:06:17.321847+00:00"}},"method":"POST","session_id":"a5c14d4b-9c68-4bc1-f60a-a068f5302bc5","status":200,"url":"http://www.site305.com/","uuid":"39d38035-97da-f080-3ec3-7e8283c7cab5"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s\nresults saved before are no longer comparable", got, want)
	}
	if bytes.Equal(generate(t, 1, 1)[0], generate(t, 2, 1)[0]) {
		t.Error("two seeds make the same message")
	}
}

func TestMessagesHaveTheWantedCardinalities(t *testing.T) {
	type message struct {
		Meta struct {
			Producer struct {
				Timestamp time.Time `json:"timestamp"`
			} `json:"producer"`
		} `json:"meta"`
		Method    string `json:"method"`
		SessionID string `json:"session_id"`
		Status    int    `json:"status"`
		URL       string `json:"url"`
		UUID      string `json:"uuid"`
	}
	const n = 20_000
	methods, statuses, urls, ids := map[string]int{}, map[int]int{}, map[string]int{}, map[string]int{}
	for i, text := range generate(t, webSeed, n) {
		var m message
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&m); err != nil {
			t.Fatalf("message %d is %s: %v", i, text, err)
		}
		// Written again it is the same text: nothing in it is escaped or reordered. Only the timestamp has its own form.
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := again[bytes.Index(again, []byte(`"method"`)):], text[bytes.Index(text, []byte(`"method"`)):]; !bytes.Equal(got, want) {
			t.Fatalf("encoding/json writes %s, the message has %s", got, want)
		}
		if want := webStart.Add(time.Duration(i) * webInterval); !m.Meta.Producer.Timestamp.Equal(want) {
			t.Fatalf("message %d has timestamp %v, want %v", i, m.Meta.Producer.Timestamp, want)
		}
		if len(m.UUID) != 36 || len(m.SessionID) != 36 {
			t.Fatalf("message %d has ids %q and %q", i, m.SessionID, m.UUID)
		}
		methods[m.Method]++
		statuses[m.Status]++
		urls[m.URL]++
		ids[m.SessionID]++
		ids[m.UUID]++
	}
	if len(methods) != 5 || len(statuses) != 8 || len(urls) != webURLs || len(ids) != 2*n {
		t.Errorf("%d methods, %d statuses, %d URLs, %d ids", len(methods), len(statuses), len(urls), len(ids))
	}
}
