package main

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Cardinalities of web_requests messages. Ids never repeat.
const (
	webURLs     = 500
	webInterval = 137 * time.Microsecond // between two messages' timestamps
	webSeed     = 42
	// webTimestamp is how they are written; all are of UTC.
	webTimestamp = "2006-01-02T15:04:05.000000+00:00"
)

var (
	webStart    = time.Date(2021, 3, 24, 15, 6, 17, 321710000, time.UTC)
	webMethods  = []string{"GET", "POST", "PUT", "DELETE", "HEAD"}
	webStatuses = []int64{200, 201, 204, 301, 400, 401, 404, 500}
)

// webRequests makes messages of the web_requests shape, the same ones for the same seed.
type webRequests struct {
	random *rand.Rand
	urls   []string
	next   time.Time
}

func newWebRequests(seed uint64) *webRequests {
	g := &webRequests{random: rand.New(rand.NewPCG(seed, 0)), next: webStart}
	for i := range webURLs {
		g.urls = append(g.urls, fmt.Sprintf("http://www.site%d.com/%s", i, strings.Repeat("abc", i%5)))
	}
	return g
}

// append appends the next message.
func (g *webRequests) append(to []byte) ([]byte, error) {
	to = append(to, `{"meta":{"producer":{"timestamp":"`...)
	to = g.next.AppendFormat(to, webTimestamp)
	g.next = g.next.Add(webInterval)
	to = append(to, `"}},"method":"`...)
	to = append(to, webMethods[g.random.IntN(len(webMethods))]...)
	to = append(to, `","session_id":"`...)
	to = g.id(to)
	to = append(to, `","status":`...)
	to = strconv.AppendInt(to, webStatuses[g.random.IntN(len(webStatuses))], 10)
	to = append(to, `,"url":"`...)
	to = append(to, g.urls[g.random.IntN(webURLs)]...)
	to = append(to, `","uuid":"`...)
	to = g.id(to)
	return append(to, `"}`...), nil
}

// id appends 128 random bits, written as a UUID.
func (g *webRequests) id(to []byte) []byte {
	var raw [16]byte
	for i, word := range []uint64{g.random.Uint64(), g.random.Uint64()} {
		for k := range 8 {
			raw[8*i+k] = byte(word >> (56 - 8*k))
		}
	}
	for i, part := range [][]byte{raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, part)
	}
	return to
}
