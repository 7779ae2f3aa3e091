package auth

import (
	"bytes"
	"context"
	"io"
	"net"
	"time"
)

// probeLimit bounds one question whether a listener speaks without TLS.
const probeLimit = 5 * time.Second

// askVersions is ApiVersions version 0, which every Kafka answers before anything else: length, key, version, correlation
// id and no client id.
var askVersions = []byte{0, 0, 0, 10, 0, 18, 0, 0, 'k', 'd', 'l', 't', 0xff, 0xff}

// speaksPlain asks whether there is a Kafka without TLS at the address. A broker just hangs up where a TLS handshake is
// no request to it, as it also does while it goes down.
func speaksPlain(ctx context.Context, network, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Write(askVersions); err != nil {
		return false
	}
	answer := make([]byte, 8) // length and correlation id
	_, err = io.ReadFull(conn, answer)
	return err == nil && bytes.Equal(answer[4:], askVersions[8:12])
}
