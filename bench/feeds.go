package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// wideColumns is how many columns a message of the shape wide has: of each kind every fourth.
const wideColumns = 200

func wideDDL() string {
	columns := make([]string, wideColumns)
	for i := range columns {
		columns[i] = fmt.Sprintf("c%03d %s", i, []string{"BIGINT", "DOUBLE", "STRING", "BOOLEAN"}[i%4])
	}
	return strings.Join(columns, ", ")
}

// wide makes messages of many columns. A tenth of the values is null.
type wide struct{ random *rand.Rand }

func (w *wide) append(to []byte) ([]byte, error) {
	for i := range wideColumns {
		if i == 0 {
			to = append(to, '{')
		} else {
			to = append(to, ',')
		}
		to = append(to, `"c`...)
		to = append(to, byte('0'+i/100), byte('0'+i/10%10), byte('0'+i%10), '"', ':')
		switch {
		case w.random.IntN(10) == 0:
			to = append(to, "null"...)
		case i%4 == 0:
			to = strconv.AppendInt(to, w.random.Int64N(1_000_000), 10)
		case i%4 == 1:
			to = strconv.AppendFloat(to, float64(w.random.IntN(100_000))/100, 'f', 2, 64)
		case i%4 == 2:
			to = append(to, `"value`...)
			to = append(strconv.AppendInt(to, int64(w.random.IntN(50)), 10), '"')
		default:
			to = strconv.AppendBool(to, w.random.IntN(2) == 0)
		}
	}
	return append(to, '}'), nil
}

// prose makes messages with a text of 1,000 words.
type prose struct {
	random *rand.Rand
	words  []string
	next   int64
}

func newProse() *prose {
	p := &prose{random: rand.New(rand.NewPCG(webSeed, 3))}
	for range 2000 {
		word := make([]byte, 2+p.random.IntN(9))
		for i := range word {
			word[i] = byte('a' + p.random.IntN(26))
		}
		p.words = append(p.words, string(word))
	}
	return p
}

func (p *prose) append(to []byte) ([]byte, error) {
	to = append(strconv.AppendInt(append(to, `{"id":`...), p.next, 10), `,"title":"`...)
	p.next++
	to = p.text(to, 6)
	to = append(to, `","body":"`...)
	return append(p.text(to, 1000), `"}`...), nil
}

func (p *prose) text(to []byte, words int) []byte {
	for i := range words {
		if i > 0 {
			to = append(to, ' ')
		}
		to = append(to, p.words[min(p.random.IntN(len(p.words)), p.random.IntN(len(p.words)))]...) // some are more common
	}
	return to
}

// tenantCount is how many values the partition column of the shape tenants has.
const tenantCount = 1000

// tenants makes web_requests of many tenants, each message of another one.
type tenants struct {
	random *rand.Rand
	web    *webRequests
}

func (t *tenants) append(to []byte) ([]byte, error) {
	to = append(to, `{"tenant":"t`...)
	to = strconv.AppendInt(to, int64(t.random.IntN(tenantCount)), 10)
	to = append(to, `",`...)
	brace := len(to)
	to, err := t.web.append(to)
	return append(to[:brace], to[brace+1:]...), err
}

// blobs is a shape of messages with one incompressible value of so many bytes, as base64.
func blobs(name string, size int, scale int64) shape {
	return shape{name: name, scale: scale, ddl: "id BIGINT, data BINARY", open: func(string) (feed, error) {
		return &blobFeed{random: rand.NewChaCha8([32]byte{webSeed}), raw: make([]byte, size)}, nil
	}}
}

type blobFeed struct {
	random *rand.ChaCha8
	raw    []byte
	next   int64
}

func (b *blobFeed) append(to []byte) ([]byte, error) {
	if _, err := b.random.Read(b.raw); err != nil {
		return nil, err
	}
	to = append(strconv.AppendInt(append(to, `{"id":`...), b.next, 10), `,"data":"`...)
	b.next++
	return append(base64.StdEncoding.AppendEncode(to, b.raw), `"}`...), nil
}
